import Glibc
import Logging
import Milter
import System

/// Tells systemd that the filter still answers: asks for a recipient at the filter's own milter socket, as an MTA does, again and again.
///
/// Without an answer within `WatchdogSec=`, systemd ends the filter and starts it anew. Outside systemd there is no watchdog.
enum Watchdog {
    /// Starts the thread, which lives as long as the process; does nothing if systemd waits for no sign of life.
    static func start(_ socket: MilterSocket, _ logger: Logger) {
        guard let timeout = ServiceManager.watchdogTimeout else { return }
        NamedThread.start("watchdog") {
            let probe = MilterProbe(socket)
            var hasFailed = false
            while true {
                do throws(MilterProbe.Failure) {
                    try probe.ask(within: timeout / 3)
                    ServiceManager.notify(.alive)
                    if hasFailed { logger.notice("watchdog: the filter answers at its milter socket again") }
                    hasFailed = false
                } catch {
                    if !hasFailed {
                        logger.error(
                            "watchdog: the filter doesn't answer at its own milter socket, \(error); systemd restarts it unless it answers within \(Words.duration(seconds: Int(timeout / .seconds(1))))"
                        )
                    }
                    hasFailed = true
                }
                // Four questions within the time: one that isn't answered at once costs nothing.
                usleep(useconds_t(min(timeout / 4 / .microseconds(1), 600_000_000)))
            }
        }
    }
}
