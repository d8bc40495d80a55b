public import Foundation
import GRDB
import Glibc
public import RecipientIndex
import RecipientSources

/// That a source lists an address.
public struct Provenance: Sendable, Equatable {
    /// The source's name in the configuration.
    public var source: String
    /// The source's type in the configuration.
    public var type: String
    /// Where in the source: `line 17 of /etc/postfix/virtual`; nil where that can't be told.
    public var origin: String?
    /// The flags that this source gives.
    public var flags: RecipientFlags
    /// When the source was last known to be as the state has it.
    public var asOf: Date
}

/// The sources that list a key (`user@domain` or `@domain`, canonical), in the order of the state; empty where there is no state
/// that can be read. Works while a sync writes. The line of a file is looked for in the file as it is now.
public func provenance(of key: String, state path: String) -> [Provenance] {
    guard let state = try? SyncState(reading: path) else { return [] }
    let found = try? state.transaction(.deferred) { database in
        let sources = Dictionary(
            try SyncState.sources(database).map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let rows = try Row.fetchAll(
            database, sql: "SELECT source, flags, object FROM entry WHERE address = ? ORDER BY source, object",
            arguments: [key]
        )
        return (
            try rows.compactMap { row -> (SourceRecord, RecipientFlags, Data)? in
                guard let source = sources[try row.value("source")] else { return nil }
                let flags: Int = try row.value("flags")
                return (source, RecipientFlags(rawValue: UInt8(truncatingIfNeeded: flags)), try row.value("object"))
            }, .commit
        )
    }
    return (found ?? []).map { source, flags, object in
        Provenance(
            source: source.name, type: source.type,
            origin: source.configuration.flatMap { $0.origin(of: key, object: object) },
            flags: flags, asOf: source.asOf)
    }
}

/// How a recipient that is leaving left the list.
public struct Departure: Sendable, Equatable {
    /// When the sync found that no source listed it any more.
    public var left: Date
    /// For how many seconds more it is deferred; 0 where it is rejected with the next sync.
    public var remaining: Double
    /// The names of the sources that listed it last.
    public var sources: [String]
}

/// How a key (`user@domain` or `@domain`, canonical) left the list; nil unless it is leaving, and where there is no state that can be
/// read. Works while a sync writes.
///
/// - Parameter grace: `sync.grace` in seconds.
public func departure(of key: String, state path: String, grace: Int) -> Departure? {
    guard let state = try? SyncState(reading: path) else { return nil }
    return try? state.transaction(.deferred) { database in
        let row = try Row.fetchOne(
            database, sql: "SELECT at, time, sources FROM loss WHERE address = ? AND kind = 0 AND leaving = 1",
            arguments: [key])
        guard let row else { return (nil, .commit) }
        let now = try SyncState.time(database, .machine, isReading: true)
        let sources: String = try row.value("sources")
        let passed = Double(now) - Double(try row.value("at") as Int64)
        let departure = Departure(
            left: Date(milliseconds: try row.value("time")), remaining: max(0, Double(grace) - passed / 1_000),
            sources: (try? JSONDecoder().decode([String].self, from: Data(sources.utf8))) ?? [])
        return (departure, .commit)
    }
}
