public import Foundation
public import RecipientSources

/// What is known of one source: what it lists, when and how it was last read, what is wrong with it, and what happens to it now.
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
    /// What the last reading found, with what earlier ones found in the entries that it didn't read.
    public var report = SourceReport()
    /// Why the last sync could not read it; nil if it could.
    public var failure: String?
    /// When that sync began.
    public var failedAt: Date?
    /// How far the reading under way is; nil while the source isn't being read.
    public var progress: SourceProgress?
    /// When a running sync thread reads it again after a failure.
    public var nextTry: Date?

    /// A source that nothing is known of yet.
    public init(name: String, type: String) {
        self.name = name
        self.type = type
    }

    /// This state with the faults, doubts and expiry dates that a later one knows of.
    func with(faultsOf later: SourceState) -> SourceState {
        var state = self
        state.report.faults = later.report.faults
        state.report.domainFaults = later.report.domainFaults
        state.report.doubts = later.report.doubts
        state.report.nextExpiry = later.report.nextExpiry
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

    /// Writes a source; of the reading under way only when it began.
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
