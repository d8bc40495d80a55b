import Foundation
import GRDB

/// Adds detail rows to the tallies of their days, so that a report need not read a year of rows, and closes the days
/// that are over. It works on the writer's thread, a few rows at a time, in the order of their ids.
///
/// The mark `tallied` in the table `state` is the id of the last row in the tallies. It changes in the transaction that
/// adds the rows: even after a crash, each row is either in the tallies or after the mark. Reports read rows after the
/// mark directly. A database of an older Postern starts at the mark 0, and its rows are tallied in the background.
struct Tallier {
    /// Rows in one step: about 30 ms of work.
    static let chunk = 2_000
    /// While more rows than this arrive in a round of the writer, tallying waits, so that it doesn't slow down replies.
    static let busy = 250
    /// The most rows that wait while many arrive.
    static let backlogLimit: Int64 = 2_000_000

    /// A later day than the log can hold.
    private static let lastDay = CounterKey.maximumMinute / 1_440 + 1
    /// Milliseconds after midnight before a day is closed, for rows that arrive late.
    private static let grace: Int64 = 600_000
    /// Milliseconds after which fewer rows than a step are tallied, too.
    private static let patience: Int64 = 30_000

    /// The id of the last row in the tallies.
    private(set) var tallied: Int64
    /// The last closed day of each kind; 0: none.
    private var closed: [TallyKind: Int64]
    /// The time of the last step on the steady clock; nil before the first step.
    private var last: Int64?
    private var chunksUntilCheck = 0
    private var scratch: [UInt8] = []

    init(_ db: Database) throws {
        tallied = try Self.mark(db)
        closed = try Self.closedDays(db)
    }

    /// The id of the last row in the tallies. If the mark is missing, all present rows are left out, so that no row is
    /// counted twice.
    static func mark(_ db: Database) throws -> Int64 {
        try db.state("tallied") ?? db.integer("SELECT max(id) FROM detail") ?? 0
    }

    /// The last day of each kind whose tallies are final.
    static func closedDays(_ db: Database) throws -> [TallyKind: Int64] {
        var days: [TallyKind: Int64] = [:]
        for kind in TallyKind.allCases {
            days[kind] = try db.state("closed_\(kind.rawValue)").map { min(max($0, 0), Self.lastDay) }
        }
        return days
    }

    /// Whether a step is due.
    ///
    /// - Parameters:
    ///   - steady: the time of the steady clock.
    ///   - newest: the id of the newest row.
    ///   - arriving: how many rows arrived in this round of the writer.
    mutating func isDue(_ steady: Int64, newest: Int64, arriving: Int) -> Bool {
        let waiting = newest &- tallied
        if arriving > Self.busy { return waiting > Self.backlogLimit }
        guard let last else {
            self.last = steady
            return waiting >= Int64(Self.chunk)
        }
        return waiting >= Int64(Self.chunk) || steady >= last &+ Self.patience
    }

    /// Does one step of work; returns false if there was none.
    ///
    /// - Parameter now: the trusted time, which decides whether a day is over; without one, no day is closed.
    mutating func step(_ db: Database, now: Int64?, steady: Int64) throws -> Bool {
        last = steady
        if try addRows(db) { return true }
        return try now.map { try closeDay(db, now: $0) } ?? false
    }

    // MARK: Rows

    private mutating func addRows(_ db: Database) throws -> Bool {
        var table = TallyTable()
        var mark = tallied
        let reasons = try TallyReasons(db)
        var key: [UInt8] = []
        var scratch: [UInt8] = []
        swap(&scratch, &self.scratch)
        defer { swap(&scratch, &self.scratch) }
        var added = 0
        try db.inTransaction(.immediate) {
            let condition = "d.id > ? ORDER BY d.id LIMIT ?"
            try DetailRow.forEach(db, where: condition, arguments: [tallied, Self.chunk]) { row in
                mark = max(mark, row.id)
                added += 1
                guard row.outcome != .accepted else { return }
                let time = row.time
                TallyKind.forEachItem(of: row, reasons: reasons, scratch: &scratch) { item in
                    Self.pack(item, of: row, into: &key)
                    let position = key.withUnsafeBytes { table.position(of: $0) }
                    table.update(position) { entry in
                        entry.count &+= 1
                        entry.first = min(entry.first, time)
                        entry.last = max(entry.last, time)
                        entry.addDetails(of: item)
                    }
                }
            }
            guard added > 0 else { return .rollback }
            try store(db, table)
            try db.setState("tallied", to: mark)
            return .commit
        }
        guard added > 0 else { return false }
        tallied = mark
        chunksUntilCheck -= 1
        if chunksUntilCheck <= 0 {
            try keepOpenDaysSmall(db)
            chunksUntilCheck = TallyKind.openLimit / Self.chunk / 4
        }
        return true
    }

    /// Packs a key in the order of the table's key: kind, day, value, reason, domain.
    private static func pack(_ item: TallyKind.Item, of row: DetailRow, into key: inout [UInt8]) {
        key.removeAll(keepingCapacity: true)
        key.append(UInt8(truncatingIfNeeded: item.kind.rawValue))
        withUnsafeBytes(of: UInt32(clamping: row.day).bigEndian) { key.append(contentsOf: $0) }
        key.append(contentsOf: item.value)
        withUnsafeBytes(of: row.reason.bigEndian) { key.append(contentsOf: $0) }
        withUnsafeBytes(of: row.domain.bigEndian) { key.append(contentsOf: $0) }
    }

    /// Adds the tallies of packed keys to those in the database.
    private func store(_ db: Database, _ table: TallyTable) throws {
        var open = try TallyWriter(db, table: "open_tally")
        var final = try TallyWriter(db, table: "tally")
        for position in (0..<table.count).sorted(by: table.precedes) {
            try table.withValue(position) { key in
                guard key.count >= 21, let kind = TallyKind(rawValue: Int64(key[0])) else { return }
                let day = Int64(UInt32(bigEndian: key.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
                let end = key.count - 16
                let key = TallyWriter.Key(
                    kind: kind, day: day, value: UnsafeRawBufferPointer(rebasing: key[5..<end]),
                    reason: Int64(bigEndian: key.loadUnaligned(fromByteOffset: end, as: Int64.self)),
                    domain: Int64(bigEndian: key.loadUnaligned(fromByteOffset: end + 8, as: Int64.self)))
                // Reports read `open_tally` only for days that aren't closed.
                if day <= closed[kind] ?? 0 {
                    try final.add(key, table.tallies[position])
                } else {
                    try open.add(key, table.tallies[position])
                }
            }
        }
    }

    /// Removes the rarest values of a day that has too many, so that made-up recipients can't fill the disk.
    private func keepOpenDaysSmall(_ db: Database) throws {
        let days = try Row.fetchAll(db, sql: "SELECT kind, day, count(*) FROM open_tally GROUP BY kind, day")
        for row in days {
            let (kind, day, count): (Int64, Int64, Int) = (try row.value(0), try row.value(1), try row.value(2))
            guard count > TallyKind.openLimit else { continue }
            let arguments: StatementArguments = [kind, day]
            try db.inTransaction(.immediate) {
                var left = count
                var least: Int64 = 1
                while left > TallyKind.openLimit / 2, least < 1 << 40 {
                    let rare = "FROM open_tally WHERE kind = ? AND day = ? AND count <= ?"
                    let removed = try db.integer("SELECT sum(count) \(rare)", arguments + [least]) ?? 0
                    try db.execute(sql: "DELETE \(rare)", arguments: arguments + [least])
                    left -= db.changesCount
                    try Self.addFolded(db, kind: kind, day: day, count: removed)
                    least *= 2
                }
                return .commit
            }
        }
    }

    // MARK: Days

    /// Closes one day of one kind, or removes some rows of closed days from `open_tally`; returns false if there was
    /// nothing to do.
    private mutating func closeDay(_ db: Database, now: Int64) throws -> Bool {
        let today = max(0, now &- Self.grace) / Timestamp.day
        for kind in TallyKind.allCases {
            let oldest = try db.integer("SELECT min(day) FROM open_tally WHERE kind = ?", [kind.rawValue])
            guard let oldest, oldest < today else { continue }
            guard oldest >= 0 else { throw DamagedValue(words: "a tally has the day \(oldest)") }
            if oldest <= closed[kind] ?? 0 {
                try db.inTransaction(.immediate) {
                    try db.execute(
                        sql: """
                            DELETE FROM open_tally WHERE (kind, day, value, reason, domain) IN (
                                SELECT kind, day, value, reason, domain FROM open_tally WHERE kind = ? AND day = ?
                                LIMIT 5000)
                            """, arguments: [kind.rawValue, oldest])
                    // Otherwise the same day would be found again and again.
                    if db.changesCount == 0 { throw DamagedValue(words: "a tally's day is not a number") }
                    return .commit
                }
                return true
            }
            try db.inTransaction(.immediate) {
                if kind == .pair { try closePairs(db, oldest) } else { try close(db, kind, day: oldest) }
                try db.setState("closed_\(kind.rawValue)", to: oldest)
                return .commit
            }
            closed[kind] = oldest
            return true
        }
        return false
    }

    /// Closes a day of any kind but pairs: keeps its most frequent values.
    private func close(_ db: Database, _ kind: TallyKind, day: Int64) throws {
        try db.execute(
            sql: """
                INSERT OR REPLACE INTO tally SELECT * FROM open_tally WHERE kind = ?1 AND day = ?2 AND value IN (
                    SELECT value FROM open_tally WHERE kind = ?1 AND day = ?2
                    GROUP BY value ORDER BY sum(count) DESC, value LIMIT ?3)
                """, arguments: [kind.rawValue, day, kind.kept])
        let counts = try ["open_tally", "tally"].map {
            try db.integer("SELECT sum(count) FROM \($0) WHERE kind = ? AND day = ?", [kind.rawValue, day]) ?? 0
        }
        try Self.addFolded(db, kind: kind.rawValue, day: day, count: counts[0] &- counts[1])
        let crowded = try Data.fetchAll(
            db, sql: "SELECT value FROM tally WHERE kind = ? AND day = ? GROUP BY value HAVING count(*) > ?",
            arguments: [kind.rawValue, day, 2 * TallyKind.domainLimit])
        for value in crowded { try foldDomains(db, of: value, kind, day: day) }
    }

    /// Keeps the most frequent domains of a value; its counts by reason stay exact.
    private func foldDomains(_ db: Database, of value: Data, _ kind: TallyKind, day: Int64) throws {
        let key: StatementArguments = [kind.rawValue, day, value]
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT reason, domain, count, first, last, name, peers, networks FROM tally
                WHERE kind = ? AND day = ? AND value = ? ORDER BY count DESC, domain
                """, arguments: key)
        var writer = try TallyWriter(db, table: "tally")
        for row in rows.dropFirst(TallyKind.domainLimit) {
            let (reason, domain): (Int64, Int64) = (try row.value(0), try row.value(1))
            guard domain != TallyKind.variousDomains else { continue }
            var entry = Tally()
            entry.count = try row.value(2)
            entry.first = try row.value(3)
            entry.last = try row.value(4)
            entry.name = try row.value(5)
            entry.peers = (try row.optional(6) as Data?)?.withUnsafeBytes(DistinctSketch.init(stored:)) ?? .init()
            entry.networks = (try row.optional(7) as Data?)?.withUnsafeBytes(DistinctSketch.init(stored:)) ?? .init()
            try db.execute(
                sql: "DELETE FROM tally WHERE kind = ? AND day = ? AND value = ? AND reason = ? AND domain = ?",
                arguments: key + [reason, domain])
            try value.withUnsafeBytes {
                let folded = TallyWriter.Key(
                    kind: kind, day: day, value: $0, reason: reason, domain: TallyKind.variousDomains)
                try writer.add(folded, entry)
            }
        }
    }

    /// Closes a day of pairs. A pair matters if it returns on another day. Pairs of the last 14 days are kept first; of
    /// all others the same part of all hashes is kept every day, so that a pair that returns is kept again. After 14
    /// days, pairs of a single day are removed.
    private func closePairs(_ db: Database, _ day: Int64) throws {
        let kind = TallyKind.pair
        var known: Set<UInt64> = []
        try RawRow.forEach(
            db, "SELECT DISTINCT value FROM tally WHERE kind = ? AND day >= ? AND day < ?",
            arguments: [kind.rawValue, day - 14, day]
        ) { known.insert(ByteHash.hash($0.bytes(0))) }
        var ranked: [(rank: UInt64, hash: UInt64)] = []
        try RawRow.forEach(
            db, "SELECT DISTINCT value FROM open_tally WHERE kind = ? AND day = ?", arguments: [kind.rawValue, day]
        ) {
            let hash = ByteHash.hash($0.bytes(0))
            ranked.append((known.contains(hash) ? hash >> 1 : hash >> 1 | 1 << 63, hash))
        }
        var limit = UInt64.max
        if ranked.count > kind.kept {
            ranked.sort { $0.rank < $1.rank }
            limit = ranked[kind.kept - 1].rank
        }
        let kept = Set(ranked.lazy.filter { $0.rank <= limit }.map(\.hash))
        db.add(
            function: DatabaseFunction("kept_pair", argumentCount: 1, pure: true) { values in
                guard let data = Data.fromDatabaseValue(values[0]) else { return false }
                return kept.contains(data.withUnsafeBytes { ByteHash.hash($0) })
            })
        try db.execute(
            sql:
                "INSERT OR REPLACE INTO tally SELECT * FROM open_tally WHERE kind = ? AND day = ? AND kept_pair(value)",
            arguments: [kind.rawValue, day])
        try db.execute(
            sql: """
                DELETE FROM tally WHERE kind = ?1 AND day = ?2 AND value NOT IN (
                    SELECT value FROM tally WHERE kind = ?1 AND day BETWEEN ?2 - 13 AND ?2 + 14 AND day <> ?2)
                """, arguments: [kind.rawValue, day - 14])
    }

    /// Adds to the number of rejections of a day that no tally has.
    private static func addFolded(_ db: Database, kind: Int64, day: Int64, count: Int64) throws {
        guard count > 0 else { return }
        try db.execute(
            sql: "INSERT INTO folded VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            arguments: [kind, day, count])
    }
}
