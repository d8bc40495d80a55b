import Dispatch
public import Foundation
import Glibc
import Synchronization
public import System

/// The log of what was refused, and the count of everything that was asked: fast to write from many threads, kept in a
/// SQLite database by a thread of its own.
///
/// Counters (by minute, reason, domain, outcome and observe mode) are exact: nothing that was recorded is missing from
/// them, whatever happens to detail rows. Detail rows are thinned out when they come faster than the disk takes them, or
/// for long faster than 1,000 a second (250,000 at once are kept), and the thinned ones are counted by minute. While the
/// database can't be opened or written, counts stay in memory and are tried again; a damaged database is moved aside and a
/// new one begun.
/// A process that is killed loses what it recorded since the last write, at most a second.
public final class RejectionLog: Sendable {
    /// Where and how the log is kept.
    public struct Options: Sendable {
        /// The database; created with mode 0600 if missing. An existing file's mode is kept: 0640 and a group lets others
        /// read. Beside it lie `-wal`, `-shm` and `-lock`.
        public var path: String
        /// Seconds until counters and tallies go, by whole days (UTC), and with them detail rows. Nil keeps all.
        public var retention: TimeInterval?
        /// Seconds until detail rows go, to the second; not longer than the retention. Nil keeps them as long as that.
        public var detailRetention: TimeInterval?
        /// Octets that the database may take on disk: over it the oldest detail rows go, then the oldest tallies; counters
        /// stay. Nil: no limit.
        public var maximumSize: Int?
        /// Octets for detail records that wait to be written; as much again is used while writing. At least 64 KiB.
        public var queueCapacity: Int
        /// Gets a line for the operator's log when writing fails, once for each reason, when it goes on, and when a damaged
        /// database was moved aside. Called on the writer's thread; about recipients that are lost at the end, on that of
        /// ``RejectionLog/close(within:)``.
        public var report: @Sendable (String) -> Void
        /// Gets the failure at each attempt that fails, and nil when the log works again. Called on the writer's thread.
        public var condition: @Sendable (PartFailure?) -> Void = { _ in }
        /// Gets the detail rows when the writer takes them from the queue, whether or not it can write them. Called on the writer's thread, which
        /// waits: it must be quick.
        public var received: (@Sendable (ReceivedRows) -> Void)?
        /// Gets the unlisted senders of the database each time it has been opened. Called on the writer's thread.
        public var unlistedSenders: (@Sendable ([UnlistedSender]) -> Void)?
        /// Gets the day, in days since 1970 (UTC), a few times a second once it is sure that the clock hasn't leapt. Called on the
        /// writer's thread.
        public var day: @Sendable (Int64) -> Void = { _ in }

        /// Where the time comes from, for retention and the ends of days.
        var clocks = LogClocks.system
        /// How many detail rows are kept in a second on the average, and how many at once. A gateway that is asked that fast
        /// for long is flooded: more of the same rows would tell nothing, and cost the answers time and the disk room.
        var detailRate = 1_000
        var detailBurst = 250_000
        /// Milliseconds between writes.
        var interval = 250
        /// Milliseconds until the next attempt after a failure, doubled after each.
        var retryPause = 1_000...60_000
        /// Seconds that the writer may be at work before its disk is said to hang.
        var patience: TimeInterval = 30
        /// Seconds that a new database is given before it may be moved aside as damaged too.
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

    /// The name of the reason under which the MTA's own refusals are recorded; reports keep them apart.
    public static let mtaReason = "mta"

    private let options: Options
    private let queue: RecordingQueue
    private let writer: LogWriter
    private let finished = SteadySemaphore()

    /// Starts the writer, which opens or creates the database and brings an older one up to date.
    ///
    /// Where that fails it tries again for as long as the log lives, and ``failure`` says why. A damaged database is moved aside;
    /// another program's, or one of a newer Postern, is left as it is.
    public init(_ options: Options) {
        self.options = options
        let capacity = max(options.queueCapacity, 64 << 10) / RecordingQueue.stripeCount
        queue = RecordingQueue(detailCapacity: capacity, patience: options.patience)
        writer = LogWriter(queue: queue, options: options, detailCapacity: capacity)
        let thread = Thread { [writer, finished] in
            writer.run()
            finished.signal()
        }
        thread.name = "rejection log"
        thread.start()
    }

    deinit {
        if !queue.isAbandoned { close() }
    }

    /// The domain's place in the counters: always the same for the same name while the log is open. For the domains of the
    /// policy, given as A-labels; not for what clients send.
    public func slot(forDomain name: String) -> DomainSlot {
        DomainSlot(index: UInt32(queue.domains.number(of: name)))
    }

    /// The reason's place in the counters: always the same for the same name while the log is open. For the few words of
    /// the verdict table ("unknown", "relay", …) and "mta" for what the MTA refused itself.
    public func slot(forReason name: String) -> ReasonSlot {
        ReasonSlot(index: UInt8(queue.reasons.number(of: name)))
    }

    /// Counts the recipient and, unless it was accepted, queues its detail row for the writer. Any thread; never waits for the writer or the disk,
    /// and allocates nothing unless the counters' table has to grow.
    public func record(_ event: borrowing RecipientEvent) {
        // Spreads the threads over the stripes; any number will do.
        let thread = UInt(bitPattern: Int(pthread_self()))
        queue.record(event, home: Int(truncatingIfNeeded: (thread >> 12) &* 0x9E37_79B9_7F4A_7C15 >> 48))
    }

    /// Waits until everything recorded so far is in the database; false if that failed (it will be tried again).
    @discardableResult
    public func flush() -> Bool {
        queue.request(.store)
    }

    /// Prunes everything that is past its retention now; for tests.
    @discardableResult
    func prune() -> Bool {
        queue.request(.prune)
    }

    /// Adds everything written so far to the tallies and closes the days that are over; for tests.
    @discardableResult
    func tally() -> Bool {
        queue.request(.tally)
    }

    /// Notes that an index came into force: reports tell from it when a recipient was listed. The same one again is noted once.
    ///
    /// - Parameters:
    ///   - generation: the publisher's number for it.
    ///   - recipients: how many it lists.
    ///   - created: when it was made.
    ///   - time: when it came into force.
    public func recordIndex(generation: UInt64, recipients: Int, created: Date, time: Date = Date()) {
        queue.note(
            IndexNote(
                time: Timestamp.milliseconds(since1970: time), generation: Int64(clamping: generation),
                recipients: Int64(clamping: recipients), created: Timestamp.milliseconds(since1970: created)))
    }

    /// Notes that a sender that the index doesn't list has sent a message through the gateway. Any thread; never waits for the writer or the disk.
    ///
    /// - Parameters:
    ///   - address: its canonical address.
    ///   - time: when, in milliseconds since 1970.
    public func recordUnlistedSender(_ address: UnsafeBufferPointer<UInt8>, time: Int64) {
        queue.note(
            UnlistedSender(
                address: StoredText.string(UnsafeRawBufferPointer(address)), lastDay: time / 86_400_000, count: 1))
    }

    /// Returns when the writer has tried to open the database, and ``Options/unlistedSenders`` has been called if it could.
    ///
    /// - Returns: false where the disk hasn't answered in time.
    @discardableResult
    public func waitForOpening(within limit: Duration) -> Bool {
        defer { queue.firstOpening.signal() }
        return queue.firstOpening.wait(within: limit)
    }

    /// Writes what is left and ends the writer. What is recorded later is lost.
    ///
    /// - Parameter limit: how long to wait; nil: until it is done. A process that is about to end must not wait for a disk that
    ///   hangs: the writer is then left to itself, and the number of recipients that are lost is reported.
    /// - Returns: true if the writer has ended.
    @discardableResult
    public func close(within limit: Duration? = nil) -> Bool {
        queue.stop()
        guard let limit else {
            finished.wait()
            finished.signal()
            return true
        }
        if finished.wait(within: limit) {
            // For whoever else waits.
            finished.signal()
            return true
        }
        queue.abandon()
        options.report(
            "rejection log \(options.path): closed with \(queue.uncounted) recipients uncounted: its disk doesn't answer"
        )
        return false
    }

    /// Why the log can't be written at the moment, and when it is tried next; nil while it can. Any thread.
    public var failure: PartFailure? { queue.failure(path: options.path) }

    /// How the log is doing, for metrics.
    public struct Statistics: Sendable, Equatable {
        /// Octets of detail records that wait.
        public var queued: Int
        /// Octets that may wait.
        public var queueCapacity: Int
        /// Detail rows written since the start.
        public var written: Int
        /// Detail rows thinned out since the start, as far as the writer has taken note.
        public var thinned: Int
        /// True while the database can't be written.
        public var failing: Bool
        /// Recipients that are counted in memory only: those of the last moments, and all since it can't be written.
        public var waiting: Int
        /// True while the writer has the database open.
        public var isOpen: Bool
        /// Where a damaged database was moved to last, since the start; nil if none was.
        public var damagedCopy: String?
    }

    /// What was recorded since the log was opened, as far as the writer has taken it over, which it does four times a second.
    public var verdictTotals: [VerdictTotal] {
        queue.totals.list(domains: queue.domains.names, reasons: queue.reasons.names)
    }

    /// How the log is doing at this moment.
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
            isOpen: queue.isOpen.load(ordering: .relaxed), damagedCopy: queue.damagedCopy)
    }
}
