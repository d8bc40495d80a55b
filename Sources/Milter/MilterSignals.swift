import CMilter
import Glibc
import Synchronization
import System

/// The signals of a filter, kept from libmilter.
///
/// libmilter has a thread that waits for SIGHUP, SIGTERM and SIGINT and stops the filter in the midst of its work when it
/// gets one. Linux gives a signal to the process's first thread if that one doesn't block it and has no other signal to
/// see to. So the main thread leaves SIGTERM and SIGINT open and sees to nothing else, SIGUSR1 is read from a descriptor
/// and is never pending for a thread, and SIGHUP is ignored: it is dropped before any thread can get it.
public enum MilterSignals {
    /// What a filter is asked to do.
    public enum Signal: Sendable, Equatable {
        /// SIGTERM: end.
        case terminate
        /// SIGINT: end, at the keyboard.
        case interrupt
        /// SIGUSR1: read the configuration again.
        case reload
    }

    private struct Descriptors {
        var stopEnd: Int32 = -1
        var postEnd: Int32 = -1
        var reloadEnd: Int32 = -1
    }

    private static let descriptors = Mutex(Descriptors())

    /// Prepares the signals; to be called on the main thread before any other thread is started.
    ///
    /// Child processes inherit that SIGHUP and SIGPIPE are ignored and SIGUSR1 is blocked.
    public static func prepare() throws(MilterError) {
        var ends: (Int32, Int32) = (-1, -1)
        let status = withUnsafeMutableBytes(of: &ends) { bytes in
            bytes.withMemoryRebound(to: Int32.self) { pipe($0.baseAddress) }
        }
        guard status == 0 else { throw MilterError(.unusable, "signals: no pipe: \(systemMessage(errno))") }
        for end in [ends.0, ends.1] {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        let reloadEnd = cmilter_catch_signals(ends.1)
        guard reloadEnd >= 0 else { throw MilterError(.unusable, "signals: no signalfd: \(systemMessage(errno))") }
        descriptors.withLock { $0 = Descriptors(stopEnd: ends.0, postEnd: ends.1, reloadEnd: reloadEnd) }
    }

    /// Makes ``wait()`` return as if SIGTERM had come; nothing before ``prepare()``.
    static func postTermination() {
        let end = descriptors.withLock { $0.postEnd }
        var number = UInt8(SIGTERM)
        if end >= 0 { _ = write(end, &number, 1) }
    }

    /// The next signal; to be called on the main thread, again and again, after ``prepare()``.
    ///
    /// After a signal to end, further ones are ignored. What takes longer is for another thread to do.
    public static func wait() -> Signal {
        let (stopEnd, reloadEnd) = descriptors.withLock { ($0.stopEnd, $0.reloadEnd) }
        precondition(stopEnd >= 0, "MilterSignals.prepare() comes first")
        var polled = [
            pollfd(fd: stopEnd, events: Int16(POLLIN), revents: 0),
            pollfd(fd: reloadEnd, events: Int16(POLLIN), revents: 0),
        ]
        while true {
            // libmilter may get a signal all the same as it starts, and takes five seconds to end by itself.
            if poll(&polled, nfds_t(polled.count), 1_000) == 0 && cmilter_was_stopped() != 0 { postTermination() }
            var number: UInt8 = 0
            if read(stopEnd, &number, 1) == 1 {
                cmilter_ignore_stop_signals()
                return Int32(number) == SIGINT ? .interrupt : .terminate
            }
            var info = signalfd_siginfo()
            let size = MemoryLayout<signalfd_siginfo>.size
            if read(reloadEnd, &info, size) == size { return .reload }
        }
    }
}
