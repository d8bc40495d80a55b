public import Foundation
import GRDB
public import RecipientIndex
import RecipientSources

/// That a source lists a recipient: which source, where in it, and with which flags.
public struct Provenance: Sendable, Equatable {
    /// The source's name in the configuration.
    public var source: String
    /// The source's type in the configuration.
    public var type: String
    /// Where in the source: `line 17 of /etc/postfix/virtual`; nil if the place isn't known.
    public var origin: String?
    /// The flags that this source gives.
    public var flags: RecipientFlags
    /// When the list in the state was last known to be the source's list.
    public var lastSynced: Date

    /// Finds the sources that list a recipient, in the order of the state. Works while a sync writes.
    ///
    /// The line of a file is looked for in the file as it is now.
    ///
    /// - Parameter key: `user@domain` or `@domain`, canonical.
    /// - Returns: an empty array if there is no state that can be read.
    public static func all(of key: String, state path: String) -> [Provenance] {
        guard let state = try? SyncState(reading: path) else { return [] }
        let found = try? state.transaction(.deferred) { database in
            let sources = Dictionary(
                try SyncState.sources(database).map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
            let rows = try Row.fetchAll(
                database, sql: "SELECT source, flags, object FROM entry WHERE address = ? ORDER BY source, object",
                arguments: [key])
            let listings = try rows.compactMap { row -> (SourceRecord, RecipientFlags, Data)? in
                guard let source = sources[try row.value("source")] else { return nil }
                return (source, try row.flags("flags"), try row.value("object"))
            }
            return (listings, .commit)
        }
        return (found ?? []).map { source, flags, object in
            Provenance(
                source: source.name, type: source.type,
                origin: source.configuration.flatMap { $0.source(folder: "").origin(of: key, object: object) }, flags: flags,
                lastSynced: source.lastSynced)
        }
    }
}

/// When a recipient left the list, and how long it is still deferred.
public struct Departure: Sendable, Equatable {
    /// When a sync found that no source listed it any more.
    public var left: Date
    /// For how many more seconds it is deferred; 0 if the next sync rejects it.
    public var remaining: Double
    /// The names of the sources that listed it last.
    public var sources: [String]

    /// Looks up how a recipient left the list; nil unless it is leaving, and if there is no state that can be read. Works while a sync
    /// writes.
    ///
    /// - Parameters:
    ///   - key: `user@domain` or `@domain`, canonical.
    ///   - grace: `sync.grace` in seconds.
    public init?(of key: String, state path: String, grace: Int) {
        guard let state = try? SyncState(reading: path) else { return nil }
        let departure: Departure?? = try? state.transaction(.deferred) { database in
            (try Departure(of: key, database, grace: grace), .commit)
        }
        guard let departure = departure ?? nil else { return nil }
        self = departure
    }

    private init?(of key: String, _ database: Database, grace: Int) throws {
        let row = try Row.fetchOne(
            database, sql: "SELECT at, time, sources FROM loss WHERE address = ? AND kind = 0 AND leaving = 1",
            arguments: [key])
        guard let row else { return nil }
        let passed = Double(try SyncState.time(database, .machine)) - Double(try row.value("at") as Int64)
        left = Date(milliseconds: try row.value("time"))
        remaining = max(0, Double(grace) - passed / 1_000)
        sources = try row.names("sources")
    }
}
