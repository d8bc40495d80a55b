import GRDB

/// Which foreign domains are counted by name: at most 1,000 different ones a minute and 20,000 a day, so that a sender who
/// makes names up can't grow the database without bound. The others are counted without a name.
struct ForeignNames {
    static let minuteLimit = 1_000
    static let dayLimit = 20_000

    /// By day: the ids of the names counted on it.
    private var days: [Int64: [String: Int64]] = [:]
    /// By minute: the ids counted in it.
    private var minutes: [Int64: Set<Int64>] = [:]

    /// The id under which a refusal for this domain is counted; 0 is "without a name".
    mutating func id(_ db: Database, _ name: UnsafeRawBufferPointer, minute: Int64) throws -> Int64 {
        guard !name.isEmpty else { return 0 }
        let name = StoredText.string(name)
        let day = minute / 1440
        if days[day] == nil { try open(db, day: day) }
        if minutes[minute] == nil { try open(db, minute: minute) }

        let known = days[day]?[name]
        if let known, minutes[minute]?.contains(known) == true { return known }
        guard (minutes[minute]?.count ?? 0) < Self.minuteLimit else { return 0 }
        if let known {
            minutes[minute]?.insert(known)
            return known
        }
        guard (days[day]?.count ?? 0) < Self.dayLimit else { return 0 }
        let id = try Self.register(db, name, day: day)
        days[day]?[name] = id
        minutes[minute]?.insert(id)
        return id
    }

    /// Adds the name to the database if need be.
    /// - Parameter day: the last day on which it is counted; nil for a relay domain, which isn't pruned.
    static func register(_ db: Database, _ name: String, day: Int64?) throws -> Int64 {
        try db.cachedStatement(
            sql: """
                INSERT INTO domain (name, last_day) VALUES (?1, ?2)
                ON CONFLICT (name) DO UPDATE SET last_day = CASE
                    WHEN ?2 = 0 OR last_day = 0 THEN 0 ELSE max(last_day, ?2) END
                """
        ).execute(arguments: [name, day ?? 0])
        let statement = try db.cachedStatement(sql: "SELECT id FROM domain WHERE name = ?")
        return try Int64.fetchOne(statement, arguments: [name]) ?? 0
    }

    private mutating func open(_ db: Database, day: Int64) throws {
        // Late records of yesterday come beside those of today; clocks that leap don't make this grow.
        if days.count > 2 { days.removeAll() }
        let rows = try Row.fetchCursor(
            db, sql: "SELECT name, id FROM domain WHERE last_day = ?", arguments: [day])
        var names: [String: Int64] = [:]
        while let row = try rows.next() { names[try row.value(0)] = try row.value(1) as Int64 }
        days[day] = names
    }

    private mutating func open(_ db: Database, minute: Int64) throws {
        if minutes.count > 4 { minutes.removeAll() }
        minutes[minute] = try Set(
            Int64.fetchAll(
                db,
                sql: """
                    SELECT DISTINCT c.domain FROM counter c JOIN domain d ON d.id = c.domain
                    WHERE c.unit = 0 AND c.start = ? AND d.last_day > 0
                    """, arguments: [minute]))
    }
}
