import Foundation
import GRDB

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
    var report: SourceReport?
}

/// The list last decided on.
struct Decision: Equatable {
    /// 0 before the first.
    var generation = 0
    /// To the millisecond, as the snapshot has it.
    var created = Date(milliseconds: 0)
    var recipients = 0
    var catchAllDomains = 0
    var beforeGeneration = 0
    var beforeCreated = Date(milliseconds: 0)
    var refusal: Refusal?
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
            throw SyncError(.state, "the sync state lost its decision; move it away and sync again")
        }
        let refusal: String? = row["refusal"]
        return Decision(
            generation: row["generation"], created: Date(milliseconds: row["created"]), recipients: row["recipients"],
            catchAllDomains: row["catch_all_domains"], beforeGeneration: row["before_generation"],
            beforeCreated: Date(milliseconds: row["before_created"]),
            refusal: refusal.flatMap { try? JSONDecoder().decode(Refusal.self, from: Data($0.utf8)) })
    }

    static func store(_ decision: Decision, _ database: Database) throws {
        try database.execute(
            sql: """
                UPDATE decision SET generation = ?, created = ?, recipients = ?, catch_all_domains = ?,
                before_generation = ?, before_created = ?, refusal = ?
                """,
            arguments: [
                decision.generation, decision.created.milliseconds, decision.recipients, decision.catchAllDomains,
                decision.beforeGeneration,
                decision.beforeCreated.milliseconds, try decision.refusal.map(json),
            ])
    }

    static func sources(_ database: Database) throws -> [SourceRecord] {
        try Row.fetchAll(database, sql: "SELECT * FROM source ORDER BY id").map { row in
            let configuration: String = row["configuration"]
            let report: String? = row["report"]
            return SourceRecord(
                id: row["id"], name: row["name"], type: row["type"],
                configuration: try? JSONDecoder().decode(SourceConfiguration.self, from: Data(configuration.utf8)),
                fingerprint: row["fingerprint"], recipients: row["recipients"], asOf: Date(milliseconds: row["as_of"]),
                cursor: row["cursor"],
                report: report.flatMap { try? JSONDecoder().decode(SourceReport.self, from: Data($0.utf8)) })
        }
    }

    /// Stores a source, by name; returns its id.
    static func store(_ source: SourceRecord, _ database: Database) throws -> Int64 {
        try database.execute(
            sql: """
                INSERT INTO source (name, type, configuration, fingerprint, recipients, as_of, cursor, report)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (name) DO UPDATE SET type = excluded.type, configuration = excluded.configuration,
                fingerprint = excluded.fingerprint, recipients = excluded.recipients, as_of = excluded.as_of,
                cursor = excluded.cursor, report = excluded.report
                """,
            arguments: [
                source.name, source.type, try source.configuration.map(json) ?? "{}", source.fingerprint,
                source.recipients, source.asOf.milliseconds, source.cursor, try source.report.map(json),
            ])
        return try Int64.fetchOne(database, sql: "SELECT id FROM source WHERE name = ?", arguments: [source.name]) ?? 0
    }

    static func failures(_ database: Database) throws -> [String: SyncStatus.Failure] {
        let rows = try Row.fetchAll(database, sql: "SELECT * FROM failure")
        return Dictionary(
            rows.map { ($0["source"], SyncStatus.Failure(text: $0["text"], at: Date(milliseconds: $0["at"]))) },
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
