import DirectorySync
import Foundation
import RecipientIndex

/// What a running filter knows of itself at a moment: for `postern status` and the live page.
struct FilterFigures: Codable, Sendable {
    struct Sessions: Codable, Sendable {
        var open: Int
        var total: Int
    }

    struct Log: Codable, Sendable {
        /// Octets that wait to be written, and how many may.
        var queued: Int
        var queueCapacity: Int
        var written: Int
        var thinned: Int
        var failing: Bool
    }

    struct Harvest: Codable, Sendable {
        /// Client networks in memory, and how many have reached the limit since the start.
        var networks: Int
        var offenders: Int
        /// Recipients held in the tarpit now.
        var held: Int
    }

    var version: String
    var process: Int
    var started: Date
    var socket: String
    /// `enforce`, `observe`, or both where the domains differ.
    var mode: String
    var domains: Int
    var sessions: Sessions
    var index: IndexFigures?
    /// Whether recipients are put off without an index.
    var indexExpected: Bool
    var log: Log
    var harvest: Harvest
    /// Where metrics and the live page are; nil: nowhere.
    var http: String?
}

/// A snapshot.
struct IndexFigures: Codable, Sendable {
    var path: String
    var created: Date
    var generation: UInt64
    var recipients: Int
    var catchAllDomains: Int
    /// The relay domains that it names itself.
    var relayDomains: Int
    var size: Int

    init(_ info: IndexInfo, path: String) {
        self.path = path
        created = info.created
        generation = info.generation
        recipients = info.recipients
        catchAllDomains = info.catchAllDomains
        relayDomains = info.sources.flatMap(\.relayDomains).count
        size = info.fileSize
    }
}

/// Something that needs a look, and what to do.
struct Trouble: Codable, Sendable, Equatable {
    var text: String
    var advice: String

    /// The troubles of an index, a sync and a log, gravest first.
    ///
    /// - Parameter sync: nil where there is no state that can be read.
    static func all(
        _ configuration: Configuration, index: IndexFigures?, isIndexExpected: Bool, sync: SyncStatus?,
        log: FilterFigures.Log?, now: Date = Date()
    ) -> [Trouble] {
        var troubles: [Trouble] = []
        if index == nil, isIndexExpected {
            troubles.append(
                Trouble(
                    text: "there is no index at \(configuration.index.path): recipients can't be verified",
                    advice: configuration.sync.sources.isEmpty
                        ? "bring the index here from where postern sync makes it"
                        : "see why the sync publishes none: postern sync --dry-run"))
        }
        if let index, configuration.index.maximumAge > 0 {
            let age = now.timeIntervalSince(index.created)
            if age > Double(configuration.index.maximumAge) {
                troubles.append(
                    Trouble(
                        text: "the index is \(Words.duration(seconds: Int(age))) old, more than index.max_age",
                        advice: "mend the sync, or whatever brings the index here; policy.index_stale decides meanwhile"
                    ))
            }
        }
        if log?.failing == true {
            troubles.append(
                Trouble(
                    text: "the rejection log can't be written; counts wait in memory",
                    advice: "see the filter's messages; is the disk full? \(configuration.log.database)"))
        }
        if let refusal = sync?.refusal {
            // What nobody may overrule comes first.
            let violations =
                refusal.violations.filter { $0.rule != .maxShrink }
                + refusal.violations.filter { $0.rule == .maxShrink }
            troubles.append(
                Trouble(
                    text: "the list of \(Words.time(refusal.time)) was refused: "
                        + violations.prefix(3).map(\.text).joined(separator: "; "),
                    advice: refusal.acceptable
                        ? "if that is meant: postern sync --accept-shrink"
                        : "mend the source; --accept-shrink doesn't overrule minimum and canaries"))
        }
        for (name, failure) in (sync?.failures ?? [:]).sorted(by: { $0.key < $1.key }) {
            troubles.append(
                Trouble(
                    text: "source \(name) could not be read at \(Words.time(failure.at)): \(failure.text)",
                    advice: "its last list stays in use; try it: postern sync --dry-run"))
        }
        if sync == nil, !configuration.sync.sources.isEmpty {
            troubles.append(
                Trouble(
                    text: "there is no sync state that can be read at \(configuration.sync.state)",
                    advice: "the first sync makes it: postern sync --once, as the filter's user"))
        }
        return troubles
    }
}
