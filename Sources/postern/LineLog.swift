import Dispatch
import Foundation
import Logging
import RejectionLog
import RejectionReport
import Synchronization
import System

/// Writes a message for each rejected or deferred recipient, on a thread of its own with a bounded queue: neither a session nor the rejection log
/// ever waits for standard error.
///
/// The rejection log gives its rows up to four times a second. During a flood most recipients get no line: the messages stay readable, and the
/// journal, which by default accepts 10,000 lines in 30 seconds, doesn't drop important ones. A line says how many were left out. Recipients that
/// the MTA rejected itself have their lines in the MTA's log.
final class LineLog: Sendable {
    /// The most lines a second on average.
    static let rate = 200
    /// The most lines at once.
    static let burst = 1_000

    private struct State {
        var waiting: [LogEntry] = []
        /// The recipients without a line that no line has counted yet.
        var omitted = 0
        /// All recipients without a line.
        var omittedInAll = 0
        /// How many lines may be written at the time `lastRefill`.
        var allowance = LineLog.burst
        var lastRefill: Int64 = 0
        var isStopping = false
        /// When the last line with the count of omitted recipients was written.
        var lastOmission: Int64 = 0
    }

    private let state = Mutex(State())
    private let hidesLocalParts: Bool
    private let logger: Logger
    private let clock: @Sendable () -> Int64
    private let wakeUp = SteadySemaphore()
    private let ended = SteadySemaphore()

    /// A log that ``start()`` starts.
    ///
    /// - Parameters:
    ///   - redact: whether to hide local parts.
    ///   - clock: milliseconds since a fixed moment.
    init(
        redact: Bool, _ logger: Logger,
        clock: @escaping @Sendable () -> Int64 = { Int64(DispatchTime.now().uptimeNanoseconds / 1_000_000) }
    ) {
        hidesLocalParts = redact
        self.logger = logger
        self.clock = clock
        state.withLock { $0.lastRefill = clock() }
    }

    /// How many rejected and deferred recipients got no line.
    var omitted: Int { state.withLock { $0.omittedInAll } }

    /// Queues lines for rows of the rejection log; for ``RejectionLog/Options/received``. Never waits.
    func enqueue(_ rows: ReceivedRows) {
        let now = clock()
        let hasWork = state.withLock { state in
            let refill = (now - state.lastRefill) * Int64(Self.rate) / 1000
            if refill > 0 {
                state.allowance = min(Self.burst, state.allowance + Int(min(refill, Int64(Self.burst))))
                state.lastRefill = now
            }
            let room = min(state.allowance, Self.burst - state.waiting.count)
            let (entries, more) = rows.entries(limit: max(0, room), without: [RejectionLog.mtaReason])
            state.allowance -= entries.count
            state.waiting += entries
            state.omitted += more + rows.thinned
            state.omittedInAll += more + rows.thinned
            return !state.waiting.isEmpty || state.omitted > 0
        }
        if hasWork { wakeUp.signal() }
    }

    /// Starts the thread.
    func start() {
        NamedThread.start("lines") { [self] in
            // The count of omitted recipients may be due without new rows.
            while write() { _ = wakeUp.wait(within: .seconds(10)) }
            ended.signal()
        }
    }

    /// Writes the lines that are left, and ends the thread. Returns after half a second at most, even if nothing reads standard error.
    func stop() {
        state.withLock { $0.isStopping = true }
        wakeUp.signal()
        _ = ended.wait(within: .milliseconds(500))
    }

    /// The lines to write now. The line with the count of omitted recipients comes once in ten seconds at most, and at the end.
    private func lines() -> (lines: [String], isLast: Bool) {
        let now = clock()
        let (entries, omitted, isLast) = state.withLock { state in
            let waiting = state.waiting
            state.waiting = []
            var omitted = 0
            if state.omitted > 0, state.isStopping || state.lastOmission == 0 || now - state.lastOmission >= 10_000 {
                omitted = state.omitted
                state.omitted = 0
                state.lastOmission = now
            }
            return (waiting, omitted, state.isStopping)
        }
        var lines = entries.map { (hidesLocalParts ? $0.redacted() : $0).mailLogLine() }
        if omitted > 0 {
            lines.append(
                "\(Words.count(omitted, "more rejected or deferred recipient")) without a line here; all are counted: "
                    + "postern report, postern log"
            )
        }
        return (lines, isLast)
    }

    /// Writes the lines; returns false after the last ones.
    private func write() -> Bool {
        let (lines, isLast) = lines()
        for line in lines { logger.info("\(line)") }
        return !isLast
    }
}
