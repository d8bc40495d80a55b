import Glibc
import Synchronization

/// Holds refusals back for a while, so that guessing recipients takes a harvester time.
///
/// A recipient that is held takes one of the server's threads, for which it starts another (``MilterContext/wait(_:)``), up to the limit here. A
/// refusal past the limit goes out at once. Any thread.
public final class Tarpit: Sendable {
    private let waiting = Atomic<Int>(0)
    private let isOpen = Atomic<Bool>(false)
    /// A pipe whose reading end wakes all who wait when its other end is closed; -1 where none could be had.
    private let readingEnd: Int32
    private let writingEnd: Int32

    /// A tarpit that holds what comes.
    public init() {
        var ends: (Int32, Int32) = (-1, -1)
        let status = withUnsafeMutableBytes(of: &ends) { bytes in
            bytes.withMemoryRebound(to: Int32.self) { pipe($0.baseAddress) }
        }
        (readingEnd, writingEnd) = status == 0 ? ends : (-1, -1)
        for end in [readingEnd, writingEnd] where end >= 0 { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    }

    deinit {
        letGo()
        if readingEnd >= 0 { close(readingEnd) }
    }

    /// How many are held now.
    public var held: Int { waiting.load(ordering: .relaxed) }

    /// Returns after the time that the settings say; at once where they say none, where as many are held as they allow,
    /// and when the filter is about to end.
    ///
    /// - Parameter wait: runs what waits, such as ``MilterContext/wait(_:)``; not called where nothing is to be waited for.
    public func hold(_ harvest: Policy.Harvest, wait: (() -> Void) -> Void = { $0() }) {
        guard harvest.tarpit > 0, readingEnd >= 0, !isOpen.load(ordering: .relaxed) else { return }
        let place = waiting.add(1, ordering: .relaxed).newValue
        defer { waiting.subtract(1, ordering: .relaxed) }
        guard place <= harvest.tarpitLimit else { return }
        wait { sleep(milliseconds: harvest.tarpit) }
    }

    private func sleep(milliseconds: Int) {
        let end = ContinuousClock.now + .milliseconds(milliseconds)
        var polled = pollfd(fd: readingEnd, events: Int16(POLLIN), revents: 0)
        while true {
            let left = (end - ContinuousClock.now) / .milliseconds(1)
            guard left > 0 else { return }
            // Readable means let go; a signal only interrupts.
            if poll(&polled, 1, Int32(left.rounded(.up))) >= 0 { return }
            guard errno == EINTR else { return }
        }
    }

    /// Lets all go, and holds nobody from now on.
    public func letGo() {
        guard !isOpen.exchange(true, ordering: .acquiringAndReleasing) else { return }
        if writingEnd >= 0 { close(writingEnd) }
    }
}
