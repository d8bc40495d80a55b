public import Foundation
import RecipientSources

/// What one sync read, changed and published.
public struct SyncReport: Sendable, Codable {
    /// The outcome of a sync for the recipient index.
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
    public var duration = 0.0
    /// The outcome of a sync for the recipient index.
    public var outcome: Publication = .unchanged
    /// The number of the list now in force; it grows by one with every publication.
    public var generation = 0
    /// How many recipients are listed now; after a dry or refused run, how many would be.
    public var recipients = 0
    /// How many catch-all domains are listed besides.
    public var catchAllDomains = 0
    /// How many alias domains are listed besides.
    public var aliasDomains = 0
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
    /// The seconds from the end of this sync until the next leaving recipient is rejected; nil if none is leaving.
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

    init(started: Date) { self.started = started }

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
        (leaving, nextLeaves) = (later.leaving, later.nextLeaves)
        left += later.left
        duration += later.duration
        if outcome != .published { outcome = later.outcome }
        (generation, recipients) = (later.generation, later.recipients)
        (catchAllDomains, aliasDomains) = (later.catchAllDomains, later.aliasDomains)
        for source in later.sources where source.reading != .unchanged {
            if let place = sources.firstIndex(where: { $0.name == source.name }) { sources[place] = source }
        }
    }

    /// Adds the changes of a sync that ran right after this one and read these sources in full again.
    mutating func append(reconciliation later: SyncReport, of names: [String]) {
        let kinds = [("+", later.added), ("-", later.removed), ("~", later.changed)]
        let found = kinds.map(\.1.count).reduce(0, +)
        let sources = names.map { "\"\($0)\"" }.joined(separator: ", ")
        let changes = kinds.flatMap { sign, list in list.addresses.prefix(5).map { sign + $0 } }
        notes.append(
            found > 0
                ? "reading \(sources) in full again found \(found) differences that the directory had not reported as changes: "
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

/// Why a sync published nothing. The index that was published before stays in force.
public struct SyncError: Error, Sendable, CustomStringConvertible {
    /// The class of a failure, which decides the exit status.
    public enum Kind: String, Sendable, Codable {
        /// A guard refused the new list; a person may accept it.
        case guardRefused
        /// A source could not be read; trying again may help.
        case unreachable
        /// A source holds lines or values that can't be understood; its owner has to correct them.
        case malformed
        /// The state, its lock, the index or a temporary file could not be opened or written.
        case state
        /// Another sync works on the same state.
        case locked
        /// The configuration asks for something impossible.
        case configuration
        /// The filter or a signal stopped the sync.
        case cancelled
    }

    /// The class of the failure.
    public let kind: Kind
    /// One or more sentences for a postmaster, one a line.
    public private(set) var description: String
    /// The name of the source at fault; nil if no single source is.
    public let source: String?
    /// The report of the refused list, for `guardRefused`.
    public let report: SyncReport?
    /// The sources, as far as the sync got to them.
    public let sources: [SourceState]
    /// What a person can do, if the description doesn't say so.
    public let advice: String?
    /// Whether the state is damaged, so that a new one may replace it.
    let isDamage: Bool
    /// Whether the state's entries aren't those of its list, so that all sources must be read in full.
    let isUnsound: Bool

    init(
        _ kind: Kind, _ description: String, source: String? = nil, report: SyncReport? = nil,
        sources: [SourceState] = [], advice: String? = nil, isDamage: Bool = false, isUnsound: Bool = false
    ) {
        (self.kind, self.description, self.advice) = (kind, description, advice)
        (self.isDamage, self.isUnsound) = (isDamage, isUnsound)
        (self.source, self.report) = (source, report)
        self.sources = report?.sources ?? sources
    }

    /// This error with other text before its description.
    func prefixed(_ text: String) -> SyncError {
        var error = self
        error.description = text + description
        return error
    }

    /// The failure of a sync because of a source.
    init(_ error: SourceError) {
        let kind: Kind =
            switch error.kind {
            case .unreachable: .unreachable
            case .malformed: .malformed
            case .temporaryFile: .state
            case .configuration: .configuration
            case .cancelled: .cancelled
            }
        self.init(kind, error.description, source: error.source, advice: error.advice)
    }

    /// The exit status of a command, from sysexits where one fits: 1 refused by a guard, 65 malformed input, 74 state or index,
    /// 75 unreachable, locked or stopped, 78 configuration.
    public var exitStatus: Int32 {
        switch kind {
        case .guardRefused: 1
        case .malformed: 65
        case .state: 74
        case .unreachable, .locked, .cancelled: 75
        case .configuration: 78
        }
    }
}

extension SourceError {
    /// The error that ends the reading of a source because the sync ends.
    init(_ error: SyncError) {
        self.init(
            error.kind == .cancelled ? .cancelled : .unreachable, error.description, source: error.source,
            advice: error.advice)
    }
}

/// Does work that throws a `SourceError`, and throws it as a `SyncError`.
@inline(__always)
func translatingErrors<Value>(_ work: () throws(SourceError) -> Value) throws(SyncError) -> Value {
    do throws(SourceError) { return try work() } catch { throw SyncError(error) }
}

/// Calls a sync's check on behalf of a source, and throws its error as a `SourceError`.
@inline(__always)
func askingSync<Value>(_ work: () throws(SyncError) -> Value) throws(SourceError) -> Value {
    do throws(SyncError) { return try work() } catch { throw SourceError(error) }
}
