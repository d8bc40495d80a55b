import Glibc
import Synchronization

/// Holds replies back for a while, so that guessing recipients takes a client time.
///
/// A reply that is held back occupies a thread of the server, which starts another in its place (``MilterContext/wait(_:)``). Once as many are held
/// back as the settings allow, further replies go out at once. Any thread.
public final class Tarpit: Sendable {
    private let waiting = Atomic<Int>(0)
    private let isOpen = Atomic<Bool>(false)
    /// A pipe. When its writing end is closed, the reading end wakes all threads that wait. -1 if the system gave no pipe.
    private let readingEnd: Int32
    private let writingEnd: Int32

    /// A tarpit that holds replies back until ``letGo()``.
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

    /// How many replies are held back now.
    public var held: Int { waiting.load(ordering: .relaxed) }

    /// Waits for the time in the settings. Returns at once if the settings have no tarpit, if as many replies are held back as they allow, and
    /// after ``letGo()``.
    ///
    /// - Parameter wait: runs the waiting, such as ``MilterContext/wait(_:)``; not called if there is nothing to wait for.
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
            // The pipe is readable after letGo(); a signal only interrupts.
            if poll(&polled, 1, Int32(left.rounded(.up))) >= 0 { return }
            guard errno == EINTR else { return }
        }
    }

    /// Sends out all replies that are held back, and holds back no more.
    public func letGo() {
        guard !isOpen.exchange(true, ordering: .acquiringAndReleasing) else { return }
        if writingEnd >= 0 { close(writingEnd) }
    }
}
