import GRDB

/// Adds counts and detail rows to the database. Holds the ids that names have there.
struct CounterStore {
    /// The key of a row in the table `counter`, but for its unit of time.
    private struct CounterRow: Hashable {
        var start: Int64
        var reason: Int64
        var domain: Int64
        var outcome: Outcome
        var observed: Bool
    }

    /// The id of the next detail row.
    private(set) var nextDetail: Int64
    /// The id of the newest detail row.
    var lastDetail: Int64 { nextDetail &- 1 }
    /// The ids of domains and reasons by slot; -1 for those that haven't been looked up.
    private var domainIDs: [Int64] = [0]
    private var reasonIDs: [Int64] = []
    private var foreignDomains = ForeignDomains()

    /// Reads the ids of the database.
    ///
    /// - Parameter least: the lowest id that the next detail row may get.
    init(_ db: Database, path: String, from least: Int64) throws {
        // The table may have a higher id than the noted one. An id that is in use would stop all writing.
        let noted = try db.state("next_detail") ?? 1
        let last = try db.integer("SELECT max(id) FROM detail") ?? 0
        nextDetail = max(noted, last &+ 1, least)
        guard last < Self.highestDetail, (1..<Self.highestDetail).contains(nextDetail) else {
            throw LogError.damaged(path, "the id \(max(noted, last)) of its newest row is out of range")
        }
    }

    /// An id that no log reaches in a thousand years.
    private static let highestDetail: Int64 = 1 << 60

    /// Adds counts and detail rows, within the caller's transaction.
    ///
    /// A recipient in a foreign domain is counted under slot 0. Its detail row, if it has one, moves the count to the
    /// domain's name: the sum is exact with and without the row.
    ///
    /// - Parameters:
    ///   - domains: the names by domain slot.
    ///   - reasons: the names by reason slot.
    ///   - namesForeign: whether foreign domains are counted by name.
    /// - Returns: how many detail rows were written.
    mutating func add(
        _ db: Database, counts: [CounterKey: Int64], details: [DetailBuffer], domains: [String], reasons: [String],
        namesForeign: Bool
    ) throws -> Int {
        var rows: [CounterRow: Int64] = [:]
        var thinned: [Int64: Int64] = [:]
        for (key, count) in counts {
            if key.reason == ReasonSlot.thinned.index {
                thinned[key.minute, default: 0] &+= count
                continue
            }
            let row = CounterRow(
                start: key.minute, reason: try reasonID(db, slot: Int(key.reason), names: reasons),
                domain: try domainID(db, slot: Int(key.slot), names: domains), outcome: key.outcome,
                observed: key.observed)
            rows[row, default: 0] &+= count
        }

        var statement = try RawStatement(
            db,
            """
            INSERT INTO detail (id, time, outcome, observed, reason, domain, authenticated, client,
                recipient, sender, client_name, helo, session, mta, reply)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """)
        var id = nextDetail
        for buffer in details {
            try buffer.forEach { record in
                let reason = try reasonID(db, slot: Int(record.reason), names: reasons)
                var domain = try domainID(db, slot: Int(record.slot), names: domains)
                if record.slot == 0, namesForeign {
                    let minute = CounterKey.minute(ofMilliseconds: record.time)
                    domain = try foreignDomains.id(db, record.text(.domainName), minute: minute)
                    if domain != 0 {
                        var row = CounterRow(
                            start: minute, reason: reason, domain: domain, outcome: record.outcome,
                            observed: record.observed)
                        rows[row, default: 0] &+= 1
                        row.domain = 0
                        rows[row, default: 0] &-= 1
                    }
                }
                try statement.run(with: record, id: id, reason: reason, domain: domain)
                id &+= 1
            }
        }
        // The texts of the last row point into the buffers, which are reused.
        statement.clearBindings()
        try add(db, rows)
        try add(db, thinned: thinned)
        if id != nextDetail {
            try db.execute(sql: "UPDATE state SET value = ? WHERE name = 'next_detail'", arguments: [id])
        }
        let written = Int(id &- nextDetail)
        // If the commit fails, these ids stay unused.
        nextDetail = id
        return written
    }

    /// Adds the counts of minutes to the counters of all units of time. A flood of made-up domains needs thousands of
    /// rows.
    private func add(_ db: Database, _ minutes: [CounterRow: Int64]) throws {
        var statement = try RawStatement(
            db,
            """
            INSERT INTO counter (unit, start, reason, domain, outcome, observed, count) VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET count = count + excluded.count
            """)
        for unit in TimeUnit.allCases {
            var rows: [CounterRow: Int64] = [:]
            for (row, count) in minutes {
                var row = row
                row.start = unit.start(of: row.start)
                rows[row, default: 0] &+= count
            }
            for (row, count) in rows where count != 0 {
                statement.bind(unit.rawValue)
                statement.bind(row.start)
                statement.bind(row.reason)
                statement.bind(row.domain)
                statement.bind(Int64(row.outcome.rawValue))
                statement.bind(row.observed ? 1 : 0)
                statement.bind(count)
                try statement.run()
            }
        }
    }

    private func add(_ db: Database, thinned: [Int64: Int64]) throws {
        let statement = try db.cachedStatement(
            sql: "INSERT INTO thinned VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count")
        for (minute, count) in thinned {
            for unit in TimeUnit.allCases {
                try statement.execute(arguments: [unit.rawValue, unit.start(of: minute), count])
            }
        }
    }

    private mutating func reasonID(_ db: Database, slot: Int, names: [String]) throws -> Int64 {
        while reasonIDs.count <= slot { reasonIDs.append(-1) }
        if reasonIDs[slot] < 0 {
            let name = slot < names.count ? names[slot] : "other"
            try db.execute(sql: "INSERT INTO reason (name) VALUES (?) ON CONFLICT DO NOTHING", arguments: [name])
            reasonIDs[slot] = try db.integer("SELECT id FROM reason WHERE name = ?", [name]) ?? 0
        }
        return reasonIDs[slot]
    }

    private mutating func domainID(_ db: Database, slot: Int, names: [String]) throws -> Int64 {
        while domainIDs.count <= slot { domainIDs.append(-1) }
        if domainIDs[slot] < 0 {
            domainIDs[slot] = try ForeignDomains.register(db, slot < names.count ? names[slot] : "", day: nil)
        }
        return domainIDs[slot]
    }
}

extension RawStatement {
    /// Inserts a detail row. The texts are bound in place: most of the work of a flood is done here.
    fileprivate mutating func run(with record: DetailRecord, id: Int64, reason: Int64, domain: Int64) throws {
        bind(id)
        bind(record.time)
        bind(Int64(record.outcome.rawValue))
        bind(record.observed ? 1 : 0)
        bind(reason)
        bind(domain)
        bind(record.authenticated ? 1 : 0)
        record.client.withStored { $0.isEmpty ? bindNull() : bind(blob: $0) }
        record.forEachText { field, bytes in
            if field != .domainName { bind(inPlace: bytes) }
        }
        try run()
    }
}

/// The foreign domains that are counted by name: at most 1,000 a minute and 20,000 a day, so that a client that makes
/// up names can't grow the database without bound. Further domains are counted without their names.
struct ForeignDomains {
    static let minuteLimit = 1_000
    static let dayLimit = 20_000

    /// The ids of the names that are counted on a day, by day.
    private var days: [Int64: [String: Int64]] = [:]
    /// The ids that are counted in a minute, by minute.
    private var minutes: [Int64: Set<Int64>] = [:]

    /// The id under which a recipient in the domain is counted; 0 for no name.
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

    /// The id of a name, which is added to the database if it isn't there.
    ///
    /// - Parameter day: the last day on which the name is counted; nil for a relay domain, which is never pruned: its
    ///   day in the table is 0.
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
        // Records of yesterday may come late, between those of today. A clock that jumps must not make the table grow.
        if days.count > 2 { days.removeAll() }
        let rows = try Row.fetchCursor(db, sql: "SELECT name, id FROM domain WHERE last_day = ?", arguments: [day])
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
