public import Foundation
import GRDB
import RecipientSources

/// What the sync state says of the syncs so far, for `postern status`.
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
        let status = try? state.transaction(.deferred) { database in (try SyncStatus(database), .commit) }
        guard let status else { return nil }
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
            source.recipients = record.recipients
            source.lastSynced = record.lastSynced
            source.failure = failures[record.name]?.text
            source.failedAt = failures[record.name]?.at
            if source.failure != nil { source.reading = .failed }
            return source
        }
    }
}
