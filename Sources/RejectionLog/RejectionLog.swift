import Dispatch
public import Foundation
import GRDB
import Glibc
import Synchronization
public import System

/// The log of rejected recipients, and the counters of all recipients: many threads record, and the thread of the
/// ``LogWriter`` writes to an SQLite database.
///
/// Counters (by minute, reason, domain, outcome and observe mode) are exact, whatever happens to detail rows. Detail
/// rows are thinned out when they come faster than the disk can write them, or faster than 1,000 a second for a long
/// time (250,000 at once are kept). The thinned rows are counted by minute. While the database can't be opened or
/// written (its disk is full, for example), counts stay in memory, and the writer tries again. A damaged database is
/// moved aside, and a new one is begun. A process that is killed loses its records since the last write, at most a
/// second.
public final class RejectionLog: Sendable {
    /// Where and how the log is kept.
    public struct Options: Sendable {
        /// The path of the database, which is created with mode 0600 if it is missing. The mode of an existing file is
        /// kept: with 0640, its group can read it. Beside it are `-wal`, `-shm` and `-lock`.
        public var path: String
        /// Seconds for which counters, tallies and detail rows are kept, in whole days (UTC). Nil keeps all.
        public var retention: TimeInterval?
        /// Seconds for which detail rows are kept, at most the retention. Nil keeps them as long as the retention.
        public var detailRetention: TimeInterval?
        /// The greatest size of the database in bytes: above it the oldest detail rows are removed, then the oldest
        /// tallies. Counters stay. Nil: no limit.
        public var maximumSize: Int?
        /// Bytes for detail records that wait for the writer, which uses as much again. At least 64 KiB.
        public var queueCapacity: Int
        /// Gets a line for the operator's log when writing fails (once for each reason), when it works again, and when
        /// a damaged database was moved aside. Called on the writer's thread; a line about recipients that are lost at
        /// the end comes on the thread of ``RejectionLog/close(within:)``.
        public var report: @Sendable (String) -> Void
        /// Gets the failure of each attempt, and nil when the log works again. Called on the writer's thread.
        public var condition: @Sendable (PartFailure?) -> Void = { _ in }
        /// Gets the detail rows when the writer takes them from the queue, whether or not it can write them. Called on
        /// the writer's thread, which waits: it must be quick.
        public var received: (@Sendable (ReceivedRows) -> Void)?
        /// Gets the unlisted senders of the database each time it has been opened. Called on the writer's thread.
        public var unlistedSenders: (@Sendable ([UnlistedSender]) -> Void)?
        /// Gets the day, in days since 1970 (UTC), a few times a second while the clock is trusted. Called on the
        /// writer's thread.
        public var day: @Sendable (Int64) -> Void = { _ in }

        /// The clocks, for retention and the ends of days.
        var clocks = LogClocks()
        /// How many detail rows are kept a second on average. A gateway that gets more for a long time is flooded: more
        /// rows would say nothing new, slow the replies down and fill the disk.
        var detailRate = 1_000
        /// How many detail rows are kept at once.
        var detailBurst = 250_000
        /// Milliseconds between writes.
        var interval = 250
        /// Milliseconds until the next attempt after a failure, doubled after each.
        var retryPause = 1_000...60_000
        /// Seconds for which the writer may work without a pause before its disk counts as hanging.
        var patience: TimeInterval = 30
        /// Seconds that must pass before the next damaged database may be moved aside.
        var damagePause: TimeInterval = 600
        /// Seconds to wait for another program's lock on the database.
        var busyTimeout: TimeInterval = 2

        /// Options with a queue of 4 MiB.
        public init(
            path: String, retention: TimeInterval? = nil, queueCapacity: Int = 4 << 20,
            report: @escaping @Sendable (String) -> Void = { _ in }
        ) {
            self.path = path
            self.retention = retention
            self.queueCapacity = queueCapacity
            self.report = report
        }
    }

    /// The name of the reason of recipients that the MTA itself rejected, before it asked Postern.
    public static let mtaReason = "mta"

    private let options: Options
    private let queue: RecordingQueue
    private let writer: LogWriter
    private let finished = SteadySemaphore()

    /// Starts the writer, which opens or creates the database and migrates an older version.
    ///
    /// If that fails, the writer tries again as long as the log lives, and ``failure`` has the reason. A damaged
    /// database is moved aside; a database of another program or of a newer Postern is not changed.
    public init(_ options: Options) {
        self.options = options
        let capacity = max(options.queueCapacity, 64 << 10) / RecordingQueue.stripeCount
        queue = RecordingQueue(detailCapacity: capacity, patience: options.patience)
        writer = LogWriter(queue: queue, options: options, detailCapacity: capacity)
        NamedThread.start("log") { [writer, finished] in
            writer.run()
            finished.signal()
        }
    }

    deinit {
        if !queue.isAbandoned { close() }
    }

    /// The slot of a relay domain (an A-label) in the counters: the same for the same name while the log is open. Don't
    /// call it with names that clients send: each new name gets a slot.
    public func slot(forDomain name: String) -> DomainSlot {
        DomainSlot(index: UInt32(queue.domains.number(of: name)))
    }

    /// The slot of a reason in the counters: the same for the same name while the log is open. The names are those of
    /// the verdict table ("unknown", "relay", …), and ``mtaReason``.
    public func slot(forReason name: String) -> ReasonSlot {
        ReasonSlot(index: UInt8(queue.reasons.number(of: name)))
    }

    /// Counts the recipient and, unless it was accepted, queues its detail row for the writer. Any thread; never waits
    /// for the writer or the disk, and allocates nothing unless the counters' table has to grow.
    public func record(_ event: borrowing RecipientEvent) {
        // Spreads the threads over the stripes.
        let thread = UInt(bitPattern: Int(pthread_self()))
        queue.record(event, home: Int(truncatingIfNeeded: (thread >> 12) &* 0x9E37_79B9_7F4A_7C15 >> 48))
    }

    /// Waits until everything recorded so far is in the database; false if writing failed (the writer tries again).
    @discardableResult
    public func flush() -> Bool { queue.request(.store) }

    /// Prunes everything that is older than its retention now; for tests.
    @discardableResult
    func prune() -> Bool { queue.request(.prune) }

    /// Adds everything written so far to the tallies and closes the days that are over; for tests.
    @discardableResult
    func tally() -> Bool { queue.request(.tally) }

    /// Records that an index came into force: reports say by it when a recipient was listed. Recording the same index
    /// again changes nothing.
    ///
    /// - Parameters:
    ///   - generation: the number that the publisher gave the index.
    ///   - recipients: the number of its recipients.
    ///   - created: the time at which it was made.
    ///   - time: the time at which it came into force.
    public func recordIndex(generation: UInt64, recipients: Int, created: Date, time: Date = Date()) {
        queue.note(
            RecordedIndex(
                time: Timestamp.milliseconds(since1970: time), generation: Int64(clamping: generation),
                recipients: Int64(clamping: recipients), created: Timestamp.milliseconds(since1970: created)))
    }

    /// Records that a sender that isn't in the index has sent a message through the gateway. Called on any thread; it
    /// never waits for the writer or the disk.
    ///
    /// - Parameters:
    ///   - address: the sender's canonical address.
    ///   - time: the time of the message, in milliseconds since 1970.
    public func recordUnlistedSender(_ address: UnsafeBufferPointer<UInt8>, time: Int64) {
        queue.note(
            UnlistedSender(
                address: StoredText.string(UnsafeRawBufferPointer(address)), lastDay: time / Timestamp.day, count: 1))
    }

    /// Waits until the writer has tried to open the database and, if it could, has called ``Options/unlistedSenders``.
    ///
    /// - Returns: false if the disk didn't answer in time.
    @discardableResult
    public func waitForOpening(within limit: Duration) -> Bool {
        defer { queue.firstOpening.signal() }
        return queue.firstOpening.wait(within: limit)
    }

    /// Writes everything that is queued and ends the writer. Later records are lost.
    ///
    /// - Parameter limit: how long to wait; nil: until the writer has ended. A process that is about to end must not
    ///   wait for a hanging disk: after the limit the log abandons the writer and reports how many recipients are lost.
    /// - Returns: true if the writer has ended.
    @discardableResult
    public func close(within limit: Duration? = nil) -> Bool {
        queue.stop()
        if let limit, !finished.wait(within: limit) {
            queue.writer.withLock { $0.isAbandoned = true }
            options.report(
                "rejection log \(options.path): closed with \(queue.uncounted) recipients uncounted: "
                    + "its disk doesn't answer")
            return false
        }
        if limit == nil { finished.wait() }
        // Other threads may wait, too.
        finished.signal()
        return true
    }

    /// Why the log can't be written at the moment, and when it is tried next; nil while it can. Any thread.
    public var failure: PartFailure? { queue.failure(path: options.path) }

    /// The state of the log, for metrics.
    public struct Statistics: Sendable, Equatable {
        /// Bytes of detail records that wait for the writer.
        public var queued: Int
        /// The greatest number of bytes that may wait.
        public var queueCapacity: Int
        /// Detail rows written since the start.
        public var written: Int
        /// Detail rows thinned out since the start, as far as the writer has counted them.
        public var thinned: Int
        /// Whether the database can't be written.
        public var failing: Bool
        /// The recipients since the last write, which are counted in memory only.
        public var waiting: Int
        /// Whether the writer has the database open.
        public var isOpen: Bool
        /// The path to which the last damaged database since the start was moved; nil if there was none.
        public var damagedCopy: String?
    }

    /// The verdicts recorded since the log was opened, as of the writer's last round: it has four rounds a second.
    public var verdictTotals: [VerdictTotal] {
        queue.totals.list(domains: queue.domains.names, reasons: queue.reasons.names)
    }

    /// The state of the log at present.
    public var statistics: Statistics {
        var queued = 0
        var capacity = 0
        for place in 0..<RecordingQueue.stripeCount {
            let (used, size) = queue.stripes[place].state.withLock { ($0.details.used, $0.details.capacity) }
            queued &+= used
            capacity &+= size
        }
        return Statistics(
            queued: queued, queueCapacity: capacity, written: queue.written.load(ordering: .relaxed),
            thinned: queue.thinned.load(ordering: .relaxed), failing: failure != nil, waiting: queue.uncounted,
            isOpen: queue.isOpen.load(ordering: .relaxed), damagedCopy: queue.writer.withLock { $0.damagedCopy })
    }
}

/// A recipient index that came into force; times in milliseconds since 1970.
package struct RecordedIndex: Equatable, Sendable {
    /// The time at which it came into force.
    package var time: Int64
    /// The number that the publisher gave it.
    package var generation: Int64
    /// The number of its recipients.
    package var recipients: Int64
    /// The time at which it was made.
    package var created: Int64

    /// Adds the index to the history, unless it is the newest one there.
    func add(to db: Database) throws {
        try db.execute(
            sql: """
                INSERT INTO generation (time, generation, recipients, created) SELECT ?1, ?2, ?3, ?4
                WHERE NOT EXISTS (
                    SELECT 1 FROM generation WHERE id = (SELECT max(id) FROM generation)
                    AND generation = ?2 AND recipients = ?3 AND created = ?4)
                """, arguments: [time, generation, recipients, created])
    }

    /// The whole history, oldest first.
    static func all(_ db: Database) throws -> [RecordedIndex] {
        let sql = "SELECT time, generation, recipients, created FROM generation ORDER BY time, id"
        return try Row.fetchAll(db, sql: sql).map {
            RecordedIndex(
                time: try $0.value(0), generation: try $0.value(1), recipients: try $0.value(2),
                created: try $0.value(3))
        }
    }
}
