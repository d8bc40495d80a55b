import Foundation
import GRDB
import RecipientSources
import System

/// What the state knows of a source.
struct SourceRecord {
    var id: Int64
    var name: String
    var type: String
    var configuration: SourceConfiguration?
    /// Tells a configuration under which its entries are right from others.
    var fingerprint: String
    var recipients: Int
    var asOf: Date
    var cursor: Data?
    var state: SourceState?
    /// The relay domains that it names; nil where it isn't asked for any.
    var domains: [RelayDomain]?

    /// What the source is told of its last reading.
    var previous: PreviousReading { PreviousReading(cursor: cursor, report: state?.report, domains: domains) }
}

/// The list last decided on.
struct Decision: Equatable {
    /// 0 before the first.
    var generation = 0
    /// To the millisecond, as the snapshot has it.
    var created = Date(milliseconds: 0)
    var recipients = 0
    var catchAllDomains = 0
    var aliasDomains = 0
    /// How many addresses its snapshot holds beside these, as leaving.
    var leaving = 0
    var beforeGeneration = 0
    var beforeCreated = Date(milliseconds: 0)
    var refusal: Refusal?

    /// How many addresses the entries list.
    var listed: Int { recipients + catchAllDomains + aliasDomains }
}

extension Date {
    init(milliseconds: Int64) {
        self.init(timeIntervalSince1970: Double(milliseconds) / 1_000)
    }

    /// Since 1970; dates out of range become 0.
    var milliseconds: Int64 { Int64(exactly: (timeIntervalSince1970 * 1_000).rounded()) ?? 0 }
}

extension SyncState {
    static func decision(_ database: Database) throws -> Decision {
        guard let row = try Row.fetchOne(database, sql: "SELECT * FROM decision") else {
            throw SyncError(.state, "the sync state is damaged: it lost its decision", isDamage: true)
        }
        do {
            let refusal: String? = try row.optional("refusal")
            return Decision(
                generation: try row.count("generation"), created: Date(milliseconds: try row.value("created")),
                recipients: try row.count("recipients"), catchAllDomains: try row.count("catch_all_domains"),
                aliasDomains: row.hasColumn("alias_domains") ? try row.count("alias_domains") : 0,
                leaving: row.hasColumn("leaving") ? try row.count("leaving") : 0,
                beforeGeneration: try row.count("before_generation"),
                beforeCreated: Date(milliseconds: try row.value("before_created")),
                refusal: refusal.flatMap { try? JSONDecoder().decode(Refusal.self, from: Data($0.utf8)) })
        } catch {
            throw SyncError(
                .state, "the sync state holds a decision that can't be: \(error)",
                advice: "move it away with its -wal and -shm: the next sync makes a new one")
        }
    }

    static func store(_ decision: Decision, _ database: Database) throws {
        try database.execute(
            sql: """
                UPDATE decision SET generation = ?, created = ?, recipients = ?, catch_all_domains = ?,
                before_generation = ?, before_created = ?, refusal = ?, leaving = ?, alias_domains = ?
                """,
            arguments: [
                decision.generation, decision.created.milliseconds, decision.recipients, decision.catchAllDomains,
                decision.beforeGeneration,
                decision.beforeCreated.milliseconds, try decision.refusal.map(json), decision.leaving,
                decision.aliasDomains,
            ])
    }

    static func sources(_ database: Database) throws -> [SourceRecord] {
        try Row.fetchAll(database, sql: "SELECT * FROM source ORDER BY id").map { row in
            let configuration: String = try row.value("configuration")
            let report: String? = try row.optional("report")
            // A state of form 1 that is only read has none.
            let domains: String? = row.hasColumn("domains") ? try row.optional("domains") : nil
            return SourceRecord(
                id: try row.value("id"), name: try row.value("name"), type: try row.value("type"),
                configuration: try? JSONDecoder().decode(SourceConfiguration.self, from: Data(configuration.utf8)),
                fingerprint: try row.value("fingerprint"), recipients: try row.count("recipients"),
                asOf: Date(milliseconds: try row.value("as_of")), cursor: try row.optional("cursor"),
                state: report.flatMap { try? JSONDecoder().decode(SourceState.self, from: Data($0.utf8)) },
                domains: domains.flatMap { try? JSONDecoder().decode([RelayDomain].self, from: Data($0.utf8)) })
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
                source.recipients, source.asOf.milliseconds, source.cursor, try source.state.map(json),
                try source.domains.map(json),
            ])
        return try Int64.fetchOne(database, sql: "SELECT id FROM source WHERE name = ?", arguments: [source.name]) ?? 0
    }

    /// How many addresses each domain has; empty where they must be counted.
    static func domains(_ database: Database) throws -> [String: Int] {
        let rows = try Row.fetchAll(database, sql: "SELECT name, recipients FROM domain")
        return Dictionary(
            try rows.map { (try $0.value("name") as String, try $0.count("recipients")) }, uniquingKeysWith: { $1 })
    }

    /// Stores how many addresses each domain has now, in place of what was stored.
    static func store(domains comparison: Comparison, _ database: Database) throws {
        try database.execute(sql: "DELETE FROM domain")
        for (number, tally) in comparison.byDomain.enumerated() where tally.after > 0 {
            try database.execute(
                sql: "INSERT INTO domain (name, recipients) VALUES (?, ?)",
                arguments: [comparison.domains[number], tally.after])
        }
    }

    /// The relay domains that each table of the configuration listed, by its path.
    static func relayTables(_ database: Database) throws -> [String: [String]] {
        let rows = try Row.fetchAll(database, sql: "SELECT path, domains FROM relay_table")
        return Dictionary(
            try rows.map { row in
                let domains: String = try row.value("domains")
                let names = (try? JSONDecoder().decode([String].self, from: Data(domains.utf8))) ?? []
                return (try row.value("path") as String, names)
            }, uniquingKeysWith: { $1 })
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

    static func failures(_ database: Database) throws -> [String: SyncStatus.Failure] {
        let rows = try Row.fetchAll(database, sql: "SELECT * FROM failure")
        return Dictionary(
            try rows.map {
                (
                    try $0.value("source") as String,
                    SyncStatus.Failure(text: try $0.value("text"), at: Date(milliseconds: try $0.value("at")))
                )
            },
            uniquingKeysWith: { $1 })
    }

    /// Replaces the failures with those of the sync just made.
    static func store(failures: [(source: String, text: String)], at time: Date, _ database: Database) throws {
        try database.execute(sql: "DELETE FROM failure")
        for failure in failures {
            try database.execute(
                sql: "INSERT OR REPLACE INTO failure VALUES (?, ?, ?)",
                arguments: [failure.source, failure.text, time.milliseconds])
        }
    }

    private static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

extension Row {
    /// The largest number of anything that a state is believed to hold; what is added to it doesn't overflow.
    private static var mostCounted: Int { 1 << 53 }

    /// The value of a column; an error for one of another type, where GRDB's subscript would end the process.
    func value<Value: DatabaseValueConvertible>(_ column: String) throws -> Value {
        try decode(Value.self, forColumn: column)
    }

    /// The same for a column that may be NULL.
    func optional<Value: DatabaseValueConvertible>(_ column: String) throws -> Value? {
        try decode(Value?.self, forColumn: column)
    }

    /// A number of things, or of a generation.
    func count(_ column: String) throws -> Int {
        let count: Int = try value(column)
        guard (0...Self.mostCounted).contains(count) else {
            throw SyncError(
                .state, "the sync state has \(count) as \(column)",
                advice: "move it away with its -wal and -shm: the next sync makes a new one")
        }
        return count
    }
}
