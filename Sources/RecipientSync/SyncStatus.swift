public import Foundation
import GRDB
public import RecipientSources

/// What the state says of the syncs so far, for `postern status`.
public struct SyncStatus: Sendable, Codable {
    /// A failure to read a source.
    public struct Failure: Sendable, Codable, Equatable {
        /// The error as it was reported.
        public var text: String
        /// When it was met last.
        public var at: Date
    }

    /// One source of the list in force.
    public struct Source: Sendable, Codable {
        /// The name in the configuration.
        public var name: String
        /// The type in the configuration.
        public var type: String
        /// How many recipients it lists.
        public var recipients: Int
        /// When it was last known to be as the state has it.
        public var asOf: Date
        /// The directory server that answered last, where it is a directory.
        public var server: String?
        /// How the directory is asked.
        public var method: String?
        /// Entries that list nobody though they seem meant to.
        public var faults = EntryFaults()
        /// Values that should name relay domains, and don't.
        public var domainFaults = EntryFaults()
        /// Listed entries of which something that decides can't be read.
        public var doubts = EntryFaults()
    }

    /// The number of the list in force; 0 before the first.
    public var generation: Int
    /// The date of the list in force.
    public var created: Date
    /// How many recipients it holds.
    public var recipients: Int
    /// The sources that it is made of.
    public var sources: [Source]
    /// The sources that could not be read the last time, by name.
    public var failures: [String: Failure]
    /// Why the guards refused the last list that differed, until one passes.
    public var refusal: Refusal?
}

/// What a state says of its syncs; nil where there is no state that can be read. Works while a sync writes.
public func syncStatus(state path: String) -> SyncStatus? {
    guard let state = try? SyncState(reading: path) else { return nil }
    return try? state.transaction(.deferred) { database in
        let decision = try SyncState.decision(database)
        let sources = try SyncState.sources(database).map {
            SyncStatus.Source(
                name: $0.name, type: $0.type, recipients: $0.recipients, asOf: $0.asOf, server: $0.report?.server,
                method: $0.report?.method, faults: $0.report?.faults ?? EntryFaults(),
                domainFaults: $0.report?.domainFaults ?? EntryFaults(), doubts: $0.report?.doubts ?? EntryFaults())
        }
        let status = SyncStatus(
            generation: decision.generation, created: decision.created, recipients: decision.recipients,
            sources: sources, failures: try SyncState.failures(database), refusal: decision.refusal)
        return (status, .commit)
    }
}
