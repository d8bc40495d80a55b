import GRDB
import System

/// Deletes data that is older than its retention or over the size limit, a little at a time between the writer's
/// rounds, and gives the space back to the file system.
struct Pruner {
    /// The most rows that one step deletes.
    private static let batch = 1_000
    private static let hour: Int64 = 3_600_000
    /// Milliseconds between checks of the size.
    private static let sizeCheckInterval: Int64 = 5_000
    /// Milliseconds until the next attempt while the time isn't trusted.
    private static let untrustedTimeInterval: Int64 = 60_000

    private let retention: Int64?
    private let detailRetention: Int64?
    private let maximumSize: Int64?
    /// When to prune by age next, on the steady clock; nil: at once.
    private var next: Int64?
    /// When to check the size next, on the steady clock; nil: at once.
    private var nextSizeCheck: Int64?
    /// Whether there is more to prune now.
    private(set) var isBusy = false

    /// A pruner with the retention and size limit of the options.
    init(_ options: RejectionLog.Options) {
        func milliseconds(_ seconds: Double?) -> Int64? { seconds.flatMap { Int64(exactly: ($0 * 1000).rounded()) } }
        retention = milliseconds(options.retention)
        detailRetention = [retention, milliseconds(options.detailRetention)].compactMap(\.self).min()
        maximumSize = options.maximumSize.map(Int64.init)
    }

    /// Whether it is time to prune: once an hour; with a size limit, every few seconds; and until all is done.
    func isDue(_ steady: Int64) -> Bool {
        if isBusy { return true }
        if detailRetention != nil, isOver(next, steady) { return true }
        return maximumSize != nil && isOver(nextSizeCheck, steady)
    }

    private func isOver(_ moment: Int64?, _ steady: Int64) -> Bool { moment.map { steady >= $0 } ?? true }

    /// The last time that an earlier run of the filter trusted.
    static func trustedTime(_ db: Database) throws -> Int64? {
        try db.state("trusted_time").flatMap { (0...CounterKey.maximumMinute * 60_000).contains($0) ? $0 : nil }
    }

    /// Ends pruning until the next hour, after a failure.
    mutating func postpone() { isBusy = false }

    /// Prunes one small batch.
    ///
    /// - Parameters:
    ///   - now: the trusted time, in milliseconds since 1970; while there is none, nothing is too old.
    ///   - wall: the time of the wall clock.
    ///   - steady: the time of the steady clock.
    ///   - wanted: whether to prune by age before it is time.
    ///   - tallied: the id of the last detail row in the tallies; later ones stay.
    mutating func step(
        _ db: Database, now: Int64?, wall: Int64, steady: Int64, wanted: Bool, tallied: Int64
    ) throws {
        nextSizeCheck = steady &+ Self.sizeCheckInterval
        let isAged = isBusy || wanted || isOver(next, steady)
        isBusy = true
        if isAged {
            next = steady &+ (now == nil ? Self.untrustedTimeInterval : Self.hour)
            if let now, try removeOld(db, now: now, tallied: tallied) >= Self.batch { return }
        }
        if try removeLarge(db, now: now ?? wall, tallied: tallied) { return }
        let (free, pages) = (try db.pragma("freelist_count"), try db.pragma("page_count"))
        // New rows soon use some of the free pages again.
        if isAged, free > max(256, pages / 16) {
            try db.execute(sql: "PRAGMA incremental_vacuum(512)")
            return
        }
        isBusy = false
    }

    /// Deletes a batch of data that is older than its retention; returns how many rows.
    private func removeOld(_ db: Database, now: Int64, tallied: Int64) throws -> Int {
        var removed = 0
        try db.inTransaction(.immediate) {
            try db.setState("trusted_time", to: now)
            try UnlistedSenderStore.prune(db, today: now / Timestamp.day)
            if let detailRetention {
                removed = try Self.removeDetails(db, before: now &- detailRetention, now: now, tallied: tallied)
            }
            guard let retention else { return .commit }
            // Counters of all units are deleted by whole days, so that they agree with each other and with the tallies.
            let minute = TimeUnit.day.start(of: CounterKey.minute(ofMilliseconds: now &- retention))
            for unit in TimeUnit.allCases where removed < Self.batch {
                for table in ["counter", "thinned"] {
                    removed += try Self.remove(db, from: table, unit, before: minute, limit: Self.batch - removed)
                }
            }
            removed += try Self.removeTallies(db, before: minute / 1440, limit: Self.batch - removed)
            guard removed < Self.batch else { return .commit }
            try db.execute(sql: "DELETE FROM folded WHERE day < ?", arguments: [minute / 1440])
            removed += try AcceptedNetworkStore.prune(db, before: minute / 1440, limit: Self.batch - removed)
            // The index that was in force when the retention begins stays.
            try db.execute(
                sql: """
                    DELETE FROM generation WHERE time < ?1
                    AND id < (SELECT max(id) FROM generation WHERE time < ?1)
                    """, arguments: [minute * 60_000])
            try db.execute(
                sql: """
                    DELETE FROM domain WHERE id IN (
                        SELECT id FROM domain WHERE last_day > 0 AND last_day < ? LIMIT ?)
                    """, arguments: [minute / 1440, Self.batch - removed])
            removed += db.changesCount
            return .commit
        }
        return removed
    }

    /// Deletes a batch if the database is too large; returns false if it isn't, or if nothing can be deleted.
    private func removeLarge(_ db: Database, now: Int64, tallied: Int64) throws -> Bool {
        guard let maximumSize else { return false }
        let size = try db.pragma("page_size")
        let (free, pages) = (try db.pragma("freelist_count"), try db.pragma("page_count"))
        guard pages &* size > maximumSize else { return false }
        guard (pages &- free) &* size > maximumSize &- maximumSize / 64 else {
            try db.execute(sql: "PRAGMA incremental_vacuum(512)")
            return true
        }
        var removed = 0
        try db.inTransaction(.immediate) {
            removed = try Self.removeDetails(db, before: .max, now: now, tallied: tallied)
            if removed == 0,
                let oldest = try db.integer("SELECT min(day) FROM (SELECT day FROM tally GROUP BY kind, day)")
            {
                removed = try Self.removeTallies(db, before: oldest &+ 1, limit: Self.batch)
            }
            return .commit
        }
        return removed > 0
    }

    /// Deletes a batch of the oldest detail rows, and notes the time from which all rows are there. That is at most now:
    /// rows that were recorded with a wrong clock may have a future time.
    private static func removeDetails(_ db: Database, before time: Int64, now: Int64, tallied: Int64) throws -> Int {
        let selection = "SELECT id, time FROM detail WHERE time < ? AND id <= ? ORDER BY time LIMIT \(batch)"
        let arguments: StatementArguments = [time, tallied]
        guard let newest = try db.integer("SELECT max(time) FROM (\(selection))", arguments) else { return 0 }
        try db.execute(sql: "DELETE FROM detail WHERE id IN (SELECT id FROM (\(selection)))", arguments: arguments)
        let removed = db.changesCount
        try db.execute(
            sql: """
                INSERT INTO state VALUES ('details_from', ?)
                ON CONFLICT DO UPDATE SET value = max(value, excluded.value)
                """, arguments: [min(newest, now) &+ 1])
        return removed
    }

    /// Deletes the oldest counts of one unit of time; returns how many rows.
    private static func remove(
        _ db: Database, from table: String, _ unit: TimeUnit, before minute: Int64, limit: Int
    ) throws -> Int {
        var removed = 0
        while removed < limit {
            try db.execute(
                sql: """
                    DELETE FROM \(table) WHERE unit = ?1 AND start = (
                        SELECT min(start) FROM \(table) WHERE unit = ?1 AND start < ?2)
                    """, arguments: [unit.rawValue, minute])
            if db.changesCount == 0 { break }
            removed += db.changesCount
        }
        return removed
    }

    /// Deletes tallies of the days before a day; returns how many rows.
    private static func removeTallies(_ db: Database, before day: Int64, limit: Int) throws -> Int {
        var removed = 0
        for kind in TallyKind.allCases {
            for table in ["tally", "open_tally"] where removed < limit {
                try db.execute(
                    sql: """
                        DELETE FROM \(table) WHERE (kind, day, value, reason, domain) IN (
                            SELECT kind, day, value, reason, domain FROM \(table) WHERE kind = ? AND day < ? LIMIT ?)
                        """, arguments: [kind.rawValue, day, limit - removed])
                removed += db.changesCount
            }
        }
        return removed
    }
}

extension Database {
    /// The number that a pragma of SQLite gives.
    fileprivate func pragma(_ name: String) throws -> Int64 { try integer("PRAGMA \(name)") ?? 0 }
}

/// The clocks of the log, in milliseconds.
package struct LogClocks: Sendable {
    /// The time since 1970; an administrator may set this clock.
    package var wall: @Sendable () -> Int64
    /// The time since a fixed moment, suspended time included; nobody can set this clock.
    package var steady: @Sendable () -> Int64

    /// The clocks of the system, unless others are given.
    package init(
        wall: @escaping @Sendable () -> Int64 = { Clocks.wall },
        steady: @escaping @Sendable () -> Int64 = { Clocks.sinceBoot }
    ) {
        self.wall = wall
        self.steady = steady
    }
}

/// The time by which old data is deleted: a wall clock that is set wrong must not make everything old.
///
/// The wall clock is trusted after it has agreed with the steady clock for an hour. Until then, the time is the last
/// trusted time plus the time that has passed on the steady clock, or the wall clock's time if that is earlier. After a
/// restart the last trusted time comes from the database.
struct TrustedTime {
    /// The milliseconds for which the clocks must agree.
    static let proof: Int64 = 3_600_000
    /// The milliseconds by which clocks that agree may drift apart.
    static let tolerance: Int64 = 300_000

    /// The difference between the wall clock and the steady clock in milliseconds, and the steady clock's time since
    /// which it has not changed.
    private var agreement: (difference: Int64, since: Int64)?
    /// The last trusted time, on both clocks.
    private var anchor: (wall: Int64, steady: Int64)?

    /// The time in milliseconds since 1970; nil while no time was ever trusted.
    private(set) var now: Int64?

    /// Sets the time that an earlier run trusted last, unless this run has trusted one.
    mutating func remember(_ time: Int64, steady: Int64) {
        if anchor == nil { anchor = (time, steady) }
    }

    /// Updates the time from both clocks.
    mutating func observe(wall: Int64, steady: Int64) {
        let difference = wall &- steady
        if let agreement, (difference &- agreement.difference).magnitude <= UInt64(Self.tolerance),
            steady >= agreement.since
        {
            if steady &- agreement.since >= Self.proof { anchor = (wall, steady) }
        } else {
            agreement = (difference, steady)
        }
        now = anchor.map { min(wall, $0.wall &+ max(0, steady &- $0.steady)) }
    }
}
