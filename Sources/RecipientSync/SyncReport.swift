public import Foundation
import RecipientSources

/// What one sync read, changed and published.
public struct SyncReport: Sendable, Codable {
    /// What became of the snapshot.
    public enum Outcome: String, Sendable, Codable {
        /// A new list is in force.
        case published
        /// The same recipients, written again with their new date.
        case refreshed
        /// The same recipients, recent enough to be left alone.
        case unchanged
        /// A dry run: nothing was written.
        case dryRun
        /// A guard refused it; see `refusal`.
        case refused
    }

    /// When the sync began.
    public var started: Date
    /// How long it took, in seconds.
    public var duration: Double = 0
    /// What became of the snapshot.
    public var outcome: Outcome = .unchanged
    /// The number of the list now in force; it grows by one with every publication.
    public var generation: Int = 0
    /// How many recipients are listed now (for a dry or refused run: would be).
    public var recipients: Int = 0
    /// How many catch-all domains are listed besides.
    public var catchAllDomains: Int = 0
    /// How many alias domains are listed besides.
    public var aliasDomains: Int = 0
    /// Recipients that no source listed before.
    public var added = ChangeList()
    /// Recipients that no source lists any more.
    public var removed = ChangeList()
    /// Recipients whose flags changed.
    public var changed = ChangeList()
    /// Recipients that were leaving and are listed again, so that they were never away; not among `added`.
    public var returned = ChangeList()
    /// How many recipients are leaving: no source lists them any more, and they are deferred until `sync.grace` has passed.
    public var leaving = 0
    /// How many recipients have been leaving for `sync.grace`, and are rejected from now on.
    public var left = 0
    /// When the next of those that are leaving is to be rejected, in seconds from the end of this sync; nil where none is.
    public var nextLeaves: Double?
    /// How many removals were left for the next sync, as the person who accepted others was not shown them.
    public var held = 0
    /// One for each source of the configuration, in its order.
    public var sources: [SourceState] = []
    /// What an operator should know besides, a sentence each.
    public var notes: [String] = []
    /// Why a guard refused (or, in a dry run, would refuse) this list.
    public var refusal: Refusal?
    /// Whether a list that was refused before still is, as this sync read other sources.
    public var refusalStands = false

    init(started: Date) {
        self.started = started
    }

    /// Adds what a sync right after this one has done.
    mutating func append(_ later: SyncReport) {
        notes += later.notes
        added.append(later.added)
        removed.append(later.removed)
        changed.append(later.changed)
        returned.append(later.returned)
        leaving = later.leaving
        left += later.left
        nextLeaves = later.nextLeaves
        if outcome != .published { outcome = later.outcome }
        generation = later.generation
        recipients = later.recipients
        catchAllDomains = later.catchAllDomains
        aliasDomains = later.aliasDomains
        duration += later.duration
        for source in later.sources where source.reading != .unchanged {
            if let place = sources.firstIndex(where: { $0.name == source.name }) { sources[place] = source }
        }
    }

    /// Adds what a sync right after this one found that read sources in full again.
    mutating func append(reconciliation later: SyncReport, of names: [String]) {
        let found = later.added.count + later.removed.count + later.changed.count
        let sources = names.map { "\"\($0)\"" }.joined(separator: ", ")
        if found > 0 {
            notes.append(
                "reading \(sources) in full again found \(found) differences that the changes hadn't told: "
                    + (later.added.addresses.prefix(5).map { "+" + $0 }
                    + later.removed.addresses.prefix(5).map { "-" + $0 }
                    + later.changed.addresses.prefix(5).map { "~" + $0 }).joined(separator: ", "))
        } else {
            notes.append("reading \(sources) in full again found nothing that the changes hadn't told")
        }
        append(later)
    }

    /// The failures of single sources whose last list stays in use; empty when all was read.
    public var failures: [SourceState] { sources.filter { $0.failure != nil } }
}

/// Addresses that changed: all counted, the first thousand kept.
public struct ChangeList: Sendable, Codable, Equatable {
    /// How many addresses are kept.
    public static let kept = 1_000
    /// How many there are.
    public private(set) var count = 0
    /// The first of them in the order of their keys; catch-all domains as `@domain`.
    public private(set) var addresses: [String] = []

    /// Adds the changes of a later sync.
    mutating func append(_ later: ChangeList) {
        count += later.count
        addresses += later.addresses.prefix(Self.kept - addresses.count)
    }

    mutating func append(_ key: UnsafeBufferPointer<UInt8>) {
        count += 1
        if addresses.count < Self.kept { addresses.append(String(decoding: key, as: UTF8.self)) }
    }
}

/// Why the guards refused a list, and what would have gone.
public struct Refusal: Sendable, Codable, Equatable {
    /// A guard of the configuration.
    public enum Rule: String, Sendable, Codable {
        /// More recipients would go than `max_shrink` allows, or all of a source or domain.
        case maxShrink = "max_shrink"
        /// Fewer recipients than `minimum`.
        case minimum
        /// A canary isn't listed.
        case canaries
        /// More than a tenth of what a source lists for the first time is malformed or can't be reached.
        case faulty
    }

    /// One reason.
    public struct Violation: Sendable, Codable, Equatable {
        /// The guard.
        public var rule: Rule
        /// `all`, `source NAME` or `domain NAME`.
        public var scope: String
        /// The reason as a clause: what would go, out of what, and what is allowed.
        public var text: String
        /// How many recipients would go, where they can't be named.
        public var count: Int?

        /// Whether a person may overrule it.
        var isAcceptable: Bool { rule == .maxShrink || rule == .faulty }
    }

    /// When it was refused.
    public var time: Date
    /// Every reason.
    public var violations: [Violation]
    /// How many recipients would have gone.
    public var removed: Int
    /// The first ten of them.
    public var first: [String]
    /// The sources that had been read for it; nil from an older version.
    public var sources: [String]?
    /// How many recipients would have become internal-only or disabled; nil from an older version.
    public var restricted: Int?
    /// The relay domains that would have gone, or would have accepted listed recipients only; nil where none would.
    public var domains: [String]?
    /// How many recipients would go by now, where that has become more since the refusal was shown.
    public var waiting: Int?

    /// Whether `--accept-shrink` would let this list pass: `minimum` and `canaries` are not for it to overrule.
    public var acceptable: Bool { violations.allSatisfy(\.isAcceptable) }
}
