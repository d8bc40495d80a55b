import Foundation
import Monitoring
import RecipientIndex
import RecipientSources
import RecipientSync

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
        /// Recipients that are counted in memory only.
        var waiting: Int
        var failing: Bool
        /// Where a damaged log was moved to last.
        var damagedCopy: String?
    }

    struct Harvest: Codable, Sendable {
        /// Client networks in memory, and how many have reached the limit since the start.
        var networks: Int
        var offenders: Int
        /// Recipients held in the tarpit now.
        var held: Int
    }

    struct Connections: Codable, Sendable {
        /// Connections of MTAs now, and how many there may be.
        var open: Int
        var limit: Int
        /// Since the start: those whose recipients were deferred for being too many, those closed at once, those ended since a packet wasn't whole
        /// in time.
        var deferred: Int
        var dropped: Int
        var expired: Int
    }

    struct SyncOutlook: Codable, Sendable {
        /// Since when a sync has been running; nil between two.
        var runningSince: Date?
        /// When all sources are read next.
        var next: Date?
        /// The sources that are being read.
        var running: [SourceProgress]?
    }

    var version: String
    var process: Int
    /// The number of the user that it runs as.
    var user: Int
    var started: Date
    var socket: String
    /// `enforce`, `observe`, or both where the domains differ.
    var mode: String
    var domains: Int
    var sessions: Sessions
    var connections: Connections
    /// What of the filter works and what doesn't.
    var parts: [ServiceHealth.Report]
    /// Messages that could not be written to standard error.
    var messagesDropped: Int
    var syncOutlook: SyncOutlook?
    var index: IndexFigures?
    /// Whether recipients are put off without an index.
    var indexExpected: Bool
    var log: Log
    var harvest: Harvest
    /// Senders of relay domains that the index doesn't list, and that have sent lately.
    var unlistedSenders: Int
    /// Where metrics and the live page are; nil: nowhere.
    var http: String?
}

/// A snapshot.
struct IndexFigures: Codable, Sendable {
    var path: String
    var created: Date
    var generation: UInt64
    var recipients: Int
    /// Recipients and catch-all domains that have left the list, and are deferred until they are rejected.
    var leaving: Int
    var catchAllDomains: Int
    /// The relay domains that it names itself.
    var relayDomains: Int
    var size: Int

    init(_ info: IndexInfo, path: String) {
        self.path = path
        created = info.created
        generation = info.generation
        recipients = info.recipients
        leaving = info.leaving
        catchAllDomains = info.catchAllDomains
        relayDomains = info.sources.filter { !$0.isRelayTable }.flatMap(\.relayDomains).count
        size = info.fileSize
    }
}

/// Something that needs a look, and what to do.
struct Trouble: Codable, Sendable, Equatable {
    var text: String
    var advice: String

    /// A part of the running filter that doesn't work; nil for one that does.
    init?(_ report: ServiceHealth.Report, now: Date) {
        guard !report.works, let reason = report.reason else { return nil }
        text = reason.hasPrefix("\(report.part.rawValue)") ? reason : "\(report.part.rawValue): \(reason)"
        func seconds(_ interval: TimeInterval) -> String {
            Words.duration(seconds: Int(exactly: max(0, interval).rounded()) ?? 0)
        }
        let age = "for \(seconds(now.timeIntervalSince(report.since)))"
        let next = report.nextTry.map { "; next try in \(seconds($0.timeIntervalSince(now)))" } ?? ""
        advice = "\(report.advice ?? "see the filter's messages") (\(age)\(next))"
    }

    init(text: String, advice: String) {
        self.text = text
        self.advice = advice
    }

    /// The troubles of the running filter's parts, an index and a sync, gravest first.
    ///
    /// - Parameters:
    ///   - parts: what the running filter says of itself; empty where none runs.
    ///   - sync: nil where there is no state that can be read.
    static func all(
        _ configuration: Configuration, index: IndexFigures?, isIndexExpected: Bool, sync: SyncStatus?,
        parts: [ServiceHealth.Report], now: Date = Date()
    ) -> [Trouble] {
        let failing = Set(parts.filter { !$0.works }.map(\.part))
        // What the sync says of its sources comes below, with more in it; the control files lie beside the log.
        let told = parts.filter { $0.part != .sync && !($0.part == .control && failing.contains(.log)) }
        var troubles = told.compactMap { Trouble($0, now: now) }
        if index == nil, isIndexExpected {
            troubles.append(
                Trouble(
                    text: "there is no index at \(configuration.index.path): recipients can't be verified",
                    advice: configuration.sync.sources.isEmpty
                        ? "bring the index here from where postern sync makes it"
                        : "see why the sync publishes none: postern sync --dry-run"))
        }
        if let index, index.created.timeIntervalSince(now) > Words.clockTolerance {
            troubles.append(
                Trouble(
                    text: "the index is \(Words.age(of: index.created, now: now)): its age isn't known",
                    advice:
                        "set the clock of this machine, or of the one that makes the index and then have it made anew; more than an "
                        + "hour ahead counts as older than index.max_age"))
        } else if let index, configuration.index.maximumAge > 0 {
            let age = now.timeIntervalSince(index.created)
            if age > Double(configuration.index.maximumAge) {
                troubles.append(
                    Trouble(
                        text:
                            "the index is \(Words.duration(seconds: Int(exactly: age.rounded(.down)) ?? .max)) old, more than index.max_age",
                        advice: "mend the sync, or whatever brings the index here; policy.index_stale decides meanwhile"
                    ))
            }
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
        for source in sync?.sources ?? [] {
            guard let worst = source.report.faults.first.first ?? source.report.domainFaults.first.first else {
                continue
            }
            let count = source.report.faults.count + source.report.domainFaults.count
            troubles.append(
                Trouble(
                    text:
                        "source \(source.name) has \(count == 1 ? "1 faulty entry" : "\(count) faulty entries"): \(worst)",
                    advice: "mend it there; see all: postern sync --dry-run"))
        }
        if sync == nil, !configuration.sync.sources.isEmpty, !failing.contains(.state) {
            troubles.append(
                Trouble(
                    text: "there is no sync state that can be read at \(configuration.sync.state)",
                    advice: "the first sync makes it: postern sync --once, as the filter's user"))
        }
        return troubles
    }
}
