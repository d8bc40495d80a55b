import GRDB

/// Removes what is past its retention, a little at a time between the writer's rounds, and gives the room back to the disk.
struct Pruner {
    private static let batch = 1_000
    private static let hour: Int64 = 3_600_000

    private let retention: Int64?
    private var next: Int64 = 0
    /// True while a round of pruning has more to do.
    private(set) var isBusy = false

    /// - Parameter retention: in seconds; nil keeps all.
    init(retention: Double?) {
        self.retention = retention.flatMap { Int64(exactly: ($0 * 1000).rounded()) }
    }

    /// Once an hour, and then at each call until the work is done. `now` in milliseconds since 1970.
    func isDue(_ now: Int64) -> Bool {
        retention != nil && (isBusy || now >= next || now < next &- Self.hour)
    }

    /// After a failure: not again before the next hour.
    mutating func postpone() {
        isBusy = false
    }

    /// One small batch of work.
    mutating func step(_ db: Database, now: Int64) throws {
        guard let retention else { return }
        next = now &+ Self.hour
        isBusy = true
        let cutoff = now &- retention
        // Counters of all units go by whole days, so that the units still agree with each other.
        let minute = TimeUnit.day.start(of: CounterKey.minute(ofMilliseconds: cutoff))

        var removed = 0
        try db.inTransaction(.immediate) {
            try db.execute(
                sql: "DELETE FROM detail WHERE id IN (SELECT id FROM detail WHERE time < ? ORDER BY time LIMIT ?)",
                arguments: [cutoff, Self.batch])
            removed = db.changesCount
            for unit in TimeUnit.allCases where removed < Self.batch {
                removed += try Self.remove(db, "counter", unit, before: minute, limit: Self.batch - removed)
                removed += try Self.remove(db, "thinned", unit, before: minute, limit: Self.batch - removed)
            }
            if removed < Self.batch {
                try db.execute(
                    sql: """
                        DELETE FROM domain WHERE id IN (
                            SELECT id FROM domain WHERE last_day > 0 AND last_day < ? LIMIT ?)
                        """, arguments: [minute / 1440, Self.batch - removed])
                removed += db.changesCount
            }
            return .commit
        }
        if removed >= Self.batch { return }
        let free = try Int.fetchOne(db, sql: "PRAGMA freelist_count") ?? 0
        if free > 256 {
            try db.execute(sql: "PRAGMA incremental_vacuum(512)")
            return
        }
        isBusy = false
    }

    private static func remove(
        _ db: Database, _ table: String, _ unit: TimeUnit, before minute: Int64, limit: Int
    ) throws -> Int {
        var removed = 0
        while removed < limit {
            let first = try Int64.fetchOne(
                db, sql: "SELECT min(start) FROM \(table) WHERE unit = ? AND start < ?",
                arguments: [unit.rawValue, minute])
            guard let first else { break }
            try db.execute(
                sql: "DELETE FROM \(table) WHERE unit = ? AND start = ?", arguments: [unit.rawValue, first])
            removed += db.changesCount
        }
        return removed
    }
}
