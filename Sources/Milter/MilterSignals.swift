import CMilter
import Glibc
import Synchronization
import System

/// The signals of a filter, for its main thread.
///
/// SIGTERM and SIGINT end the process at once until ``arm()``, as there is nothing to finish yet. From then on the first one is told by ``wait()``,
/// and one that comes more than a second later ends the process at once. SIGUSR1 is read from a descriptor, and SIGHUP is ignored.
public enum MilterSignals {
    /// What a filter is asked to do.
    public enum Signal: Sendable, Equatable {
        /// SIGTERM: end.
        case terminate
        /// SIGINT: end, at the keyboard.
        case interrupt
        /// SIGUSR1: read the configuration again.
        case reload
        /// SIGUSR1 with a number other than 0, as sigqueue(3) sends it.
        case request(Int32)
    }

    private struct Descriptors {
        var stopEnd: Int32 = -1
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
        descriptors.withLock { $0 = Descriptors(stopEnd: ends.0, reloadEnd: reloadEnd) }
    }

    /// Has SIGTERM and SIGINT told by ``wait()`` from now on; to be called before MTAs can connect.
    public static func arm() { cmilter_arm_signals() }

    /// The next signal; to be called on the main thread, again and again, after ``prepare()``.
    ///
    /// After a signal to end, the next one ends the process at once. What takes longer is for another thread to do.
    public static func wait() -> Signal {
        let (stopEnd, reloadEnd) = descriptors.withLock { ($0.stopEnd, $0.reloadEnd) }
        precondition(stopEnd >= 0, "MilterSignals.prepare() comes first")
        var polled = [
            pollfd(fd: stopEnd, events: Int16(POLLIN), revents: 0),
            pollfd(fd: reloadEnd, events: Int16(POLLIN), revents: 0),
        ]
        while true {
            _ = poll(&polled, nfds_t(polled.count), -1)
            var number: UInt8 = 0
            if read(stopEnd, &number, 1) == 1 {
                return Int32(number) == SIGINT ? .interrupt : .terminate
            }
            var info = signalfd_siginfo()
            let size = MemoryLayout<signalfd_siginfo>.size
            guard read(reloadEnd, &info, size) == size else { continue }
            return info.ssi_code == SI_QUEUE && info.ssi_int != 0 ? .request(info.ssi_int) : .reload
        }
    }
}
