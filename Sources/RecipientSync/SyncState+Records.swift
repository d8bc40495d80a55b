import Foundation
import GRDB
import RecipientIndex
import RecipientSources
import System

/// The row of a source in the sync state.
struct SourceRecord {
    var id: Int64 = 0
    var name: String
    var type: String
    var configuration: SourceConfiguration?
    /// The fingerprint of the configuration and domains under which the entries were read.
    var fingerprint: String
    var recipients: Int
    /// When the entries were last known to be those of the source.
    var lastSynced: Date
    /// Where the next reading goes on from.
    var cursor: Data?
    /// The source after its last reading in full, with the faults known since; nil if an older version wrote the record.
    var state: SourceState?
    /// The relay domains that the source names; nil if it isn't asked for any.
    var domains: [RelayDomain]?

    /// The last reading of the source, for its next one.
    var previous: PreviousReading { PreviousReading(cursor: cursor, report: state?.report, domains: domains) }
}

/// The list that passed the guards last; the published snapshot is made from it.
struct ApprovedList: Equatable {
    /// 0 before the first list.
    var generation = 0
    /// To the millisecond, as the snapshot has it.
    var created = Date(milliseconds: 0)
    var recipients = 0
    var catchAllDomains = 0
    var aliasDomains = 0
    /// The number of leaving addresses in the snapshot, not among `recipients`.
    var leaving = 0
    /// The generation and date of the list before, whose snapshot a crash may have left in place.
    var beforeGeneration = 0
    var beforeCreated = Date(milliseconds: 0)
    /// The refusal of a newer list; nil once one has passed.
    var refusal: Refusal?

    /// How many addresses the entries list.
    var listed: Int { recipients + catchAllDomains + aliasDomains }

    /// Makes this the next list, created at this time; the caller sets its counts.
    mutating func advance(created time: Date, after other: Int = 0) {
        (beforeGeneration, beforeCreated) = (generation, created)
        generation = max(generation, other) + 1
        created = time
    }
}

extension SyncState {
    static let moveAway = "move it away with its -wal and -shm: the next sync makes a new one"

    static func approvedList(_ database: Database) throws -> ApprovedList {
        guard let row = try Row.fetchOne(database, sql: "SELECT * FROM decision") else {
            throw SyncError(.state, "the sync state is damaged: its list is missing", isDamage: true)
        }
        do {
            return ApprovedList(
                generation: try row.count("generation"), created: Date(milliseconds: try row.value("created")),
                recipients: try row.count("recipients"), catchAllDomains: try row.count("catch_all_domains"),
                aliasDomains: row.hasColumn("alias_domains") ? try row.count("alias_domains") : 0,
                leaving: row.hasColumn("leaving") ? try row.count("leaving") : 0,
                beforeGeneration: try row.count("before_generation"),
                beforeCreated: Date(milliseconds: try row.value("before_created")), refusal: try row.json("refusal"))
        } catch {
            throw SyncError(.state, "the sync state holds an impossible list: \(error)", advice: moveAway)
        }
    }

    static func store(_ list: ApprovedList, _ database: Database) throws {
        try database.execute(
            sql: """
                UPDATE decision SET generation = ?, created = ?, recipients = ?, catch_all_domains = ?,
                before_generation = ?, before_created = ?, refusal = ?, leaving = ?, alias_domains = ?
                """,
            arguments: [
                list.generation, list.created.milliseconds, list.recipients, list.catchAllDomains,
                list.beforeGeneration, list.beforeCreated.milliseconds, try list.refusal.map(json), list.leaving,
                list.aliasDomains,
            ])
    }

    static func sources(_ database: Database) throws -> [SourceRecord] {
        try Row.fetchAll(database, sql: "SELECT * FROM source ORDER BY id").map { row in
            SourceRecord(
                id: try row.value("id"), name: try row.value("name"), type: try row.value("type"),
                configuration: try row.json("configuration"), fingerprint: try row.value("fingerprint"),
                recipients: try row.count("recipients"), lastSynced: Date(milliseconds: try row.value("as_of")),
                cursor: try row.optional("cursor"), state: try row.json("report"),
                // A state of form 1 that is only read has no such column.
                domains: row.hasColumn("domains") ? try row.json("domains") : nil)
        }
    }

    /// Stores a source, by name; returns its id.
    static func store(_ source: SourceRecord, _ database: Database) throws -> Int64 {
        try database.execute(
            sql: """
                INSERT INTO source (name, type, configuration, fingerprint, recipients, as_of, cursor, report, domains)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (name) DO UPDATE SET type = excluded.type, configuration = excluded.configuration,
                fingerprint = excluded.fingerprint, recipients = excluded.recipients, as_of = excluded.as_of,
                cursor = excluded.cursor, report = excluded.report, domains = excluded.domains
                """,
            arguments: [
                source.name, source.type, try source.configuration.map(json) ?? "{}", source.fingerprint,
                source.recipients, source.lastSynced.milliseconds, source.cursor, try source.state.map(json),
                try source.domains.map(json),
            ])
        return try Int64.fetchOne(database, sql: "SELECT id FROM source WHERE name = ?", arguments: [source.name]) ?? 0
    }

    static func deleteSource(_ id: Int64, _ database: Database) throws {
        try database.execute(sql: "DELETE FROM source WHERE id = ?", arguments: [id])
    }

    /// How many addresses each domain has; empty if they must be counted.
    static func domains(_ database: Database) throws -> [String: Int] {
        try dictionary("SELECT name, recipients FROM domain", in: database) { try $0.count("recipients") }
    }

    /// Stores how many addresses each domain has now, in place of what was stored.
    static func store(domains changes: ListChanges, _ database: Database) throws {
        try database.execute(sql: "DELETE FROM domain")
        for (number, counts) in changes.byDomain.enumerated() where counts.after > 0 {
            try database.execute(
                sql: "INSERT INTO domain (name, recipients) VALUES (?, ?)",
                arguments: [changes.domains[number], counts.after])
        }
    }

    /// The relay domains that each table of the configuration listed, by its path.
    static func relayTables(_ database: Database) throws -> [String: [String]] {
        try dictionary("SELECT path, domains FROM relay_table", in: database) { try $0.names("domains") }
    }

    /// Stores the relay domains of the tables in place of those that were stored.
    static func store(relayTables: [String: [String]], _ database: Database) throws {
        try database.execute(sql: "DELETE FROM relay_table")
        for (path, names) in relayTables {
            try database.execute(
                sql: "INSERT INTO relay_table (path, domains) VALUES (?, ?)",
                arguments: [path, try json(names.sorted())])
        }
    }

    /// The sources that the last sync could not read, by name.
    static func failures(_ database: Database) throws -> [String: SyncStatus.Failure] {
        try dictionary("SELECT source, text, at FROM failure", in: database) {
            SyncStatus.Failure(text: try $0.value("text"), at: Date(milliseconds: try $0.value("at")))
        }
    }

    /// Stores which sources this sync could not read, in place of those of the last one.
    static func store(failuresOf report: SyncReport, _ database: Database) throws {
        try database.execute(sql: "DELETE FROM failure")
        for source in report.failures {
            try database.execute(
                sql: "INSERT OR REPLACE INTO failure VALUES (?, ?, ?)",
                arguments: [source.name, source.failure, report.started.milliseconds])
        }
    }

    /// The values of a query's rows by their first columns.
    private static func dictionary<Value>(
        _ sql: String, in database: Database, _ value: (Row) throws -> Value
    ) throws -> [String: Value] {
        let rows = try Row.fetchAll(database, sql: sql)
        return Dictionary(
            try rows.map { (try $0.decode(String.self, atIndex: 0), try value($0)) }, uniquingKeysWith: { $1 })
    }

    private static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

extension Date {
    init(milliseconds: Int64) {
        self.init(timeIntervalSince1970: Double(milliseconds) / 1_000)
    }

    /// Since 1970; dates out of range become 0.
    var milliseconds: Int64 { Int64(exactly: (timeIntervalSince1970 * 1_000).rounded()) ?? 0 }
}

extension Row {
    /// The largest number that a state is believed to hold; sums of a few of them don't overflow.
    private static var mostCounted: Int { 1 << 53 }

    /// The value of a column; an error if it has another type, where GRDB's subscript would end the process.
    func value<Value: DatabaseValueConvertible>(_ column: String) throws -> Value {
        try decode(Value.self, forColumn: column)
    }

    /// The value of a column that may be NULL.
    func optional<Value: DatabaseValueConvertible>(_ column: String) throws -> Value? {
        try decode(Value?.self, forColumn: column)
    }

    /// A count, or a generation.
    func count(_ column: String) throws -> Int {
        let count: Int = try value(column)
        guard (0...Self.mostCounted).contains(count) else {
            throw SyncError(
                .state, "the sync state has the impossible number \(count) in its column \(column)",
                advice: SyncState.moveAway)
        }
        return count
    }

    func flags(_ column: String) throws -> RecipientFlags {
        let flags: Int = try value(column)
        return RecipientFlags(rawValue: UInt8(truncatingIfNeeded: flags))
    }

    /// A value stored as JSON; nil if the column is NULL or can't be understood.
    func json<Value: Decodable>(_ column: String) throws -> Value? {
        let text: String? = try optional(column)
        return text.flatMap { try? JSONDecoder().decode(Value.self, from: Data($0.utf8)) }
    }

    /// Names stored as JSON.
    func names(_ column: String) throws -> [String] { try json(column) ?? [] }
}
