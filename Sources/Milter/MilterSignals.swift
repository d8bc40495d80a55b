import CMilter
import Glibc
import Synchronization
import System

/// The signals that a filter handles on its main thread.
///
/// Until ``arm()``, SIGTERM and SIGINT end the process at once, as there is nothing to finish yet. From then on,
/// ``wait()`` returns the first of them; another one more than a second later ends the process at once. SIGUSR1 is read
/// from a descriptor, SIGHUP is ignored.
public enum MilterSignals {
    /// A signal that ``MilterSignals/wait()`` returns.
    public enum Signal: Sendable, Equatable {
        /// SIGTERM: stop.
        case terminate
        /// SIGINT: stop, asked for at the keyboard.
        case interrupt
        /// SIGUSR1: read the configuration again.
        case reload
        /// SIGUSR1 with a number other than 0, sent by `sigqueue(3)`.
        case request(Int32)
    }

    private static let descriptors = Mutex<(stopEnd: Int32, reloadEnd: Int32)>((-1, -1))

    /// Installs the signal handlers; must be called on the main thread before any other thread is started.
    ///
    /// Child processes inherit that SIGHUP and SIGPIPE are ignored and SIGUSR1 is blocked.
    public static func prepare() throws(MilterError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw MilterError(.unusable, "signals: can't create a pipe: \(systemMessage())") }
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        let stopEnd = ends[0]
        let reloadEnd = cmilter_catch_signals(ends[1])
        guard reloadEnd >= 0 else {
            throw MilterError(.unusable, "signals: can't create a signalfd: \(systemMessage())")
        }
        descriptors.withLock { $0 = (stopEnd, reloadEnd) }
    }

    /// Makes ``wait()`` return SIGTERM and SIGINT from now on; must be called before MTAs can connect.
    public static func arm() { cmilter_arm_signals() }

    /// Waits for the next signal; must be called on the main thread, in a loop, after ``prepare()``.
    ///
    /// After SIGTERM or SIGINT, the next of them ends the process at once. Long work belongs on another thread.
    public static func wait() -> Signal {
        let (stopEnd, reloadEnd) = descriptors.withLock { $0 }
        precondition(stopEnd >= 0, "MilterSignals.prepare() comes first")
        var polled = [
            pollfd(fd: stopEnd, events: Int16(POLLIN), revents: 0),
            pollfd(fd: reloadEnd, events: Int16(POLLIN), revents: 0),
        ]
        while true {
            _ = poll(&polled, nfds_t(polled.count), -1)
            var number: UInt8 = 0
            if read(stopEnd, &number, 1) == 1 { return Int32(number) == SIGINT ? .interrupt : .terminate }
            var info = signalfd_siginfo()
            let size = MemoryLayout<signalfd_siginfo>.size
            guard read(reloadEnd, &info, size) == size else { continue }
            return info.ssi_code == SI_QUEUE && info.ssi_int != 0 ? .request(info.ssi_int) : .reload
        }
    }
}
