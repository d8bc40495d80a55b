import Dispatch
import Foundation
import Logging
import RejectionLog
import RejectionReport
import Synchronization
import System

/// Writes a line for each refusal to the messages, on a thread of its own behind a bounded queue: neither an answer nor the
/// rejection log ever waits for whoever reads the messages.
///
/// Rows come from the rejection log once they are written, up to four times a second. In a flood most get no line, so that the
/// messages stay readable and the journal, which takes 10,000 lines in 30 s by default, doesn't drop the ones that matter; how
/// many that were is said in a line. What the MTA refused itself has its line in the MTA's log.
final class LineLog: Sendable {
    /// Lines a second on the average, and how many may come at once.
    static let rate = 200
    static let burst = 1_000

    private struct State {
        var waiting: [LogEntry] = []
        /// Refusals that got no line, and of which none tells yet; and all of them.
        var omitted = 0
        var omittedInAll = 0
        /// How many lines may be written now, and the time of that in milliseconds.
        var allowance = LineLog.burst
        var lastRefill: Int64 = 0
        var isStopping = false
        /// When the last line about omitted ones was written.
        var lastOmission: Int64 = 0
    }

    private let state = Mutex(State())
    private let hidesLocalParts: Bool
    private let logger: Logger
    private let clock: @Sendable () -> Int64
    private let bell = SteadySemaphore()
    private let ended = SteadySemaphore()

    /// A log that starts with ``start()``.
    ///
    /// - Parameter clock: milliseconds since any fixed moment.
    init(
        redact: Bool, _ logger: Logger,
        clock: @escaping @Sendable () -> Int64 = { Int64(DispatchTime.now().uptimeNanoseconds / 1_000_000) }
    ) {
        hidesLocalParts = redact
        self.logger = logger
        self.clock = clock
        state.withLock { $0.lastRefill = clock() }
    }

    /// How many refusals got no line.
    var omitted: Int { state.withLock { $0.omittedInAll } }

    /// Takes what is to have a line; for ``RejectionLog/Options/stored``. Never waits.
    func take(_ rows: StoredRows) {
        let now = clock()
        let hasWork = state.withLock { state in
            let refill = (now - state.lastRefill) * Int64(Self.rate) / 1000
            if refill > 0 {
                state.allowance = min(Self.burst, state.allowance + Int(min(refill, Int64(Self.burst))))
                state.lastRefill = now
            }
            let room = min(state.allowance, Self.burst - state.waiting.count)
            let (entries, left) = rows.entries(limit: max(0, room), without: [RejectionLog.mtaReason])
            state.allowance -= entries.count
            state.waiting += entries
            state.omitted += left + rows.thinned
            state.omittedInAll += left + rows.thinned
            return !state.waiting.isEmpty || state.omitted > 0
        }
        if hasWork { bell.signal() }
    }

    /// Starts the thread.
    func start() {
        NamedThread.start("lines") { [self] in
            // Also without news: the count of those without a line may be due.
            while write() { _ = bell.wait(within: .seconds(10)) }
            ended.signal()
        }
    }

    /// Writes what is left and ends the thread; gives up where nobody takes the messages.
    func stop() {
        state.withLock { $0.isStopping = true }
        bell.signal()
        _ = ended.wait(within: .milliseconds(500))
    }

    /// The lines that are due; with the count of the others at most once in ten seconds, and at the end.
    private func lines() -> (lines: [String], isLast: Bool) {
        let now = clock()
        let (entries, omitted, isLast) = state.withLock { state in
            let taken = state.waiting
            state.waiting = []
            var omitted = 0
            if state.omitted > 0, state.isStopping || state.lastOmission == 0 || now - state.lastOmission >= 10_000 {
                omitted = state.omitted
                state.omitted = 0
                state.lastOmission = now
            }
            return (taken, omitted, state.isStopping)
        }
        var lines = entries.map { (hidesLocalParts ? $0.redacted() : $0).mailLogLine() }
        if omitted > 0 {
            lines.append(
                "\(Words.count(omitted, "more refusal")) without a line here; all are counted: postern report, postern log"
            )
        }
        return (lines, isLast)
    }

    private func write() -> Bool {
        let (lines, isLast) = lines()
        for line in lines { logger.info("\(line)") }
        return !isLast
    }
}
