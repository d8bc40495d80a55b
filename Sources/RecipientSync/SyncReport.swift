public import Foundation
import RecipientSources

/// What one sync read, changed and published.
public struct SyncReport: Sendable, Codable {
    /// What became of the recipient index.
    public enum Publication: String, Sendable, Codable {
        /// A new list is in force.
        case published
        /// The same recipients were written again with a new date.
        case refreshed
        /// The recipients are the same, and the index is recent enough to stay.
        case unchanged
        /// A dry run: nothing was written.
        case dryRun
        /// A guard refused the new list; see `refusal`.
        case refused
    }

    /// When the sync began.
    public var started: Date
    /// How long it took, in seconds.
    public var duration: Double = 0
    /// What became of the recipient index.
    public var outcome: Publication = .unchanged
    /// The number of the list now in force; it grows by one with every publication.
    public var generation: Int = 0
    /// How many recipients are listed now; after a dry or refused run, how many would be.
    public var recipients: Int = 0
    /// How many catch-all domains are listed besides.
    public var catchAllDomains: Int = 0
    /// How many alias domains are listed besides.
    public var aliasDomains: Int = 0
    /// Recipients that no source listed before.
    public var added = ChangeList()
    /// Recipients that no source lists any more.
    public var removed = ChangeList()
    /// Recipients whose flags have changed.
    public var changed = ChangeList()
    /// Recipients that were leaving and are listed again; they were never rejected, and aren't among `added`.
    public var returned = ChangeList()
    /// How many recipients are leaving: no source lists them any more, and they are deferred until `sync.grace` has passed.
    public var leaving = 0
    /// How many recipients have been leaving for `sync.grace`; from now on they are rejected.
    public var left = 0
    /// In how many seconds from the end of this sync the next leaving recipient is to be rejected; nil if none is leaving.
    public var nextLeaves: Double?
    /// How many losses this sync left to the next one, because the person who accepted others had not been shown them.
    public var held = 0
    /// The sources of the configuration, in its order.
    public var sources: [SourceState] = []
    /// What else an operator should know, a sentence each.
    public var notes: [String] = []
    /// Why a guard refused this list, or would refuse it in a dry run.
    public var refusal: Refusal?
    /// Whether an earlier list is still refused, because this sync didn't read all of its sources.
    public var refusalStands = false

    init(started: Date) {
        self.started = started
    }

    /// The sources that could not be read, and whose last list stays in use.
    public var failures: [SourceState] { sources.filter { $0.failure != nil } }

    /// How many recipients differ from the list before, counting those that have left for good.
    var differences: Int { left + added.count + removed.count + changed.count + returned.count }

    /// Adds the changes of a sync that ran right after this one.
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

    /// Adds the changes of a sync that ran right after this one and read these sources in full again.
    mutating func append(reconciliation later: SyncReport, of names: [String]) {
        let found = later.added.count + later.removed.count + later.changed.count
        let sources = names.map { "\"\($0)\"" }.joined(separator: ", ")
        let changes =
            later.added.addresses.prefix(5).map { "+" + $0 } + later.removed.addresses.prefix(5).map { "-" + $0 }
            + later.changed.addresses.prefix(5).map { "~" + $0 }
        notes.append(
            found > 0
                ? "reading \(sources) in full again found \(found) differences that the directory's changes had left out: "
                    + changes.joined(separator: ", ")
                : "reading \(sources) in full again found no difference")
        append(later)
    }
}

/// Recipients that have changed in one way: all are counted, and the first thousand kept.
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
