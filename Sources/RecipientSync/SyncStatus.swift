public import Foundation
import GRDB
public import RecipientIndex
public import RecipientSources

/// The list in force and its sources, as the sync state has them, for `postern status`.
public struct SyncStatus: Sendable, Codable {
    /// A failure to read a source.
    public struct Failure: Sendable, Codable, Equatable {
        /// The error as it was reported.
        public var text: String
        /// When the last sync that met it began.
        public var at: Date
    }

    /// The number of the list in force; 0 before the first.
    public var generation: Int
    /// The date of the list in force.
    public var created: Date
    /// How many recipients it holds.
    public var recipients: Int
    /// The sources that the list was made from.
    public var sources: [SourceState]
    /// The sources that the last sync could not read, by name; also those that have never been read.
    public var failures: [String: Failure]
    /// Why the guards refused the last list that differed; nil once a list has passed.
    public var refusal: Refusal?

    /// Reads the status from a sync state; nil if there is no state that can be read. Works while a sync writes.
    public init?(state path: String) {
        guard let state = try? SyncState(reading: path) else { return nil }
        guard let status = try? state.transaction(.deferred, { (try SyncStatus($0), .commit) }) else { return nil }
        self = status
    }

    private init(_ database: Database) throws {
        let list = try SyncState.approvedList(database)
        let failures = try SyncState.failures(database)
        generation = list.generation
        created = list.created
        recipients = list.recipients
        refusal = list.refusal
        self.failures = failures
        sources = try SyncState.sources(database).map { record in
            var source = record.state ?? SourceState(name: record.name, type: record.type)
            (source.recipients, source.lastSynced) = (record.recipients, record.lastSynced)
            (source.failure, source.failedAt) = (failures[record.name]?.text, failures[record.name]?.at)
            if source.failure != nil { source.reading = .failed }
            return source
        }
    }
}

/// The state of one source: what it lists, when and how it was last read, what is wrong with it, and what happens to it now.
///
/// The report of a sync, the status in the state file and the outlook of a running sync thread all describe sources with it.
public struct SourceState: Sendable {
    /// The source's name in the configuration.
    public var name: String
    /// The source's type in the configuration.
    public var type: String
    /// How many recipients it lists within the relay domains and its own domains, each counted once.
    public var recipients = 0
    /// When the list in the state was last known to be the source's list; nil before the first.
    public var lastSynced: Date?
    /// How the last sync read it.
    public var reading = SourceReport.Reading.full
    /// How long the last sync read it, in seconds.
    public var duration = 0.0
    /// The findings on the source's entries: of the last reading, and of earlier ones for entries that it didn't read
    /// again.
    public var report = SourceReport()
    /// Why the last sync could not read it; nil if it could.
    public var failure: String?
    /// When that sync began.
    public var failedAt: Date?
    /// The progress of the running reading; nil while the source isn't being read.
    public var progress: SourceProgress?
    /// When a running sync thread reads it again after a failure.
    public var nextTry: Date?

    /// A source that hasn't been read yet.
    public init(name: String, type: String) {
        self.name = name
        self.type = type
    }

    /// This state with the faults, doubts and expiry dates of a later one.
    func with(faultsOf later: SourceState) -> SourceState {
        var state = self
        (state.report.faults, state.report.domainFaults) = (later.report.faults, later.report.domainFaults)
        (state.report.doubts, state.report.nextExpiry) = (later.report.doubts, later.report.nextExpiry)
        return state
    }
}

/// In JSON the fields of the report stand among those of the source. `listed` and `recipients` are the same number: `postern sync`
/// has always written the one, and `postern status` the other.
extension SourceState: Codable {
    private enum CodingKeys: String, CodingKey {
        case name, type, recipients, listed
        case lastSynced = "asOf"
        case reading, duration, failure, failedAt, runningSince, nextTry
    }

    /// Reads a source; fields that an older version didn't write have their defaults.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        name = try values.decode(String.self, forKey: .name)
        type = try values.decode(String.self, forKey: .type)
        let listed = try values.decodeIfPresent(Int.self, forKey: .listed)
        recipients = try listed ?? values.decodeIfPresent(Int.self, forKey: .recipients) ?? 0
        lastSynced = try values.decodeIfPresent(Date.self, forKey: .lastSynced)
        reading = try values.decodeIfPresent(SourceReport.Reading.self, forKey: .reading) ?? .full
        duration = try values.decodeIfPresent(Double.self, forKey: .duration) ?? 0
        report = try SourceReport(from: decoder)
        failure = try values.decodeIfPresent(String.self, forKey: .failure)
        failedAt = try values.decodeIfPresent(Date.self, forKey: .failedAt)
        nextTry = try values.decodeIfPresent(Date.self, forKey: .nextTry)
    }

    /// Writes a source; of the running reading only when it began.
    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(name, forKey: .name)
        try values.encode(type, forKey: .type)
        try values.encode(recipients, forKey: .recipients)
        try values.encode(recipients, forKey: .listed)
        try values.encodeIfPresent(lastSynced, forKey: .lastSynced)
        try values.encode(reading, forKey: .reading)
        try values.encode(duration, forKey: .duration)
        try report.encode(to: encoder)
        try values.encodeIfPresent(failure, forKey: .failure)
        try values.encodeIfPresent(failedAt, forKey: .failedAt)
        try values.encodeIfPresent(progress?.since, forKey: .runningSince)
        try values.encodeIfPresent(nextTry, forKey: .nextTry)
    }
}

/// How far the reading of a source is.
public struct SourceProgress: Sendable, Equatable, Codable {
    /// The source's name in the configuration.
    public var name: String
    /// When the reading began.
    public var since: Date
    /// How many entries have been read so far.
    public var entries: Int
    /// Why the entries can't be read yet, as a clause; nil once they are being read.
    public var waitsFor: String?

    /// The entries read in a second, on average since the reading began.
    public var rate: Double { Double(entries) / max(0.1, Date().timeIntervalSince(since)) }
}

/// One listing of a recipient: by which source, where in it, and with which flags.
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
                origin: source.configuration.flatMap { $0.source(folder: "").origin(of: key, object: object) },
                flags: flags,
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
        let departure: Departure?? = try? state.transaction(.deferred) {
            (try Departure(of: key, $0, grace: grace), .commit)
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
