import Dispatch
import Foundation
import Logging
import RecipientFilter
import RecipientSources
import RecipientSync
import RejectionLog
import RejectionReport
import Synchronization
import System

/// Messages of the running filter on standard error: a line each with its time, or, where the journal reads it, with its
/// priority as sd-daemon(3) has it.
struct StandardErrorLog: LogHandler {
    var logLevel = Logger.Level.info
    var metadata = Logger.Metadata()

    /// Whether standard error is a stream of the journal, which puts the time in front itself.
    private let isJournal: Bool

    private static var readsJournal: Bool { ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil }

    /// The logger of `postern`.
    static var logger: Logger {
        Logger(label: "postern") { _ in
            StandardErrorLog(isJournal: readsJournal)
        }
    }

    init(isJournal: Bool) { self.isJournal = isJournal }

    /// Has a thread write the messages from now on, so that nobody waits for their reader.
    static func startThread() {
        let handler = StandardErrorLog(isJournal: readsJournal)
        MessageStream.standardError.startThread { count in
            handler.lines(.error, "\(Words.count(count, "message")) could not be written to standard error")
        }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        MessageStream.standardError.write(lines(event.level, event.message.description))
    }

    /// A message with what stands in front of each of its lines.
    private func lines(_ level: Logger.Level, _ message: String) -> String {
        let front = isJournal ? "<\(Self.priority(level))>" : "\(Date().formatted(.iso8601)) \(level): "
        return message.split(separator: "\n").map { "\(front)\(String($0).escapedForMessage)\n" }.joined()
    }

    /// The priority of syslog(3).
    private static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }
}

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

/// Writes a message for each client network that reaches its harvest limit, on a thread of its own: no session waits for standard error.
final class OffenderLog: Sendable {
    private let table: HarvestTable
    private let logger: Logger
    private let stopping = SteadySemaphore()
    private let ended = SteadySemaphore()
    private let total = Atomic<Int>(0)

    /// How many offenders there were.
    var count: Int { total.load(ordering: .relaxed) }

    /// A log of the table's offenders; ``start()`` starts it.
    init(_ table: HarvestTable, _ logger: Logger) {
        self.table = table
        self.logger = logger
    }

    /// Starts the thread.
    func start() {
        NamedThread.start("offenders") { [self] in
            while !stopping.wait(within: .milliseconds(500)) { write() }
            write()
            ended.signal()
        }
    }

    /// Writes the messages that are left, and ends the thread.
    func stop() {
        stopping.signal()
        ended.wait()
    }

    private func write() {
        let (offenders, omitted) = table.drainOffenders()
        total.add(offenders.count + omitted, ordering: .relaxed)
        for offender in offenders { logger.warning("\(Self.message(offender))") }
        if omitted > 0 {
            let verb = omitted == 1 ? "has" : "have"
            logger.warning("harvest: \(Words.count(omitted, "more network")) \(verb) reached the limit")
        }
    }

    /// The message about an offender.
    static func message(_ offender: HarvestTable.Offender) -> String {
        let client = offender.network?.shortDescription ?? "the MTA's own machine"
        let window = Words.duration(seconds: offender.limit.window)
        return "harvest: \(client) has reached \(Words.count(offender.limit.limit, "unknown recipient")) in \(window): "
            + "deferred until the window clears"
    }
}

/// Writes each faulty entry of the sources to the log once, not at every sync.
final class FaultLog: Sendable {
    /// How many lines are remembered. Then all are forgotten, and entries that are still faulty are written again.
    private static let mostRemembered = 10_000

    private let logger: Logger
    private let written = Mutex<Set<String>>([])

    init(_ logger: Logger) { self.logger = logger }

    /// Writes the faulty and doubtful entries that a sync has found and that aren't in the log yet.
    func write(_ run: SyncRun) {
        for source in run.sources where source.failure == nil {
            write(source.report.faults, of: source, "lists nobody")
            write(source.report.domainFaults, of: source, "relay domain")
            write(source.report.doubts, of: source, "listed")
        }
    }

    private func write(_ faults: EntryFaults, of source: SourceState, _ meaning: String) {
        let subject = "sync: source \(source.name): \(meaning):"
        for fault in faults.first { writeOnce("\(subject) \(fault)") }
        let more = faults.count - faults.first.count
        if more > 0 { writeOnce("\(subject) \(more) more entries") }
    }

    private func writeOnce(_ line: String) {
        let isNew = written.withLock { written in
            if written.count >= Self.mostRemembered { written.removeAll() }
            return written.insert(line).inserted
        }
        if isNew { logger.warning("\(line)") }
    }
}
