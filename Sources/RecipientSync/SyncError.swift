import RecipientSources

/// Why a sync did not publish. What was published before stays in force whatever the kind.
public struct SyncError: Error, Sendable, CustomStringConvertible {
    /// The class of a failure, which decides the exit status.
    public enum Kind: String, Sendable, Codable {
        /// A guard refused the new list; a person may accept it.
        case guardRefused
        /// A source could not be read; trying again may help.
        case unreachable
        /// A source holds what can't be understood; its owner has to mend it.
        case malformed
        /// The state or the snapshot could not be opened or written.
        case state
        /// Another sync works on the same state.
        case locked
        /// The configuration asks for what can't be done.
        case configuration
        /// The sync was told to stop.
        case cancelled
    }

    /// The class of the failure.
    public let kind: Kind
    /// One or more sentences for a postmaster, one a line.
    public let description: String
    /// The source at fault, where it is one.
    public let source: String?
    /// What a refused sync found, for `guardRefused`.
    public let report: SyncReport?
    /// How reading each source went, as far as that was begun.
    public let sources: [SourceState]
    /// What a person can do, where that isn't said in the description.
    public let advice: String?
    /// Whether the state is damaged: a new one can take its place.
    let isDamage: Bool
    /// Whether the state's entries aren't those of its decision: all sources must be read anew.
    let isUnsound: Bool

    init(
        _ kind: Kind, _ description: String, source: String? = nil, report: SyncReport? = nil,
        sources: [SourceState] = [], advice: String? = nil, isDamage: Bool = false,
        isUnsound: Bool = false
    ) {
        self.advice = advice
        self.isDamage = isDamage
        self.isUnsound = isUnsound
        self.sources = report?.sources ?? sources
        self.kind = kind
        self.description = description
        self.source = source
        self.report = report
    }

    /// The failure of a source as that of the sync.
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

    /// The status to exit with, after sysexits where one fits: 1 refused by a guard, 65 malformed input, 74 state or snapshot,
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
    /// What ends the reading of a source: the sync's reason to stop.
    init(_ error: SyncError) {
        self.init(
            error.kind == .cancelled ? .cancelled : .unreachable, error.description, source: error.source,
            advice: error.advice)
    }
}

/// Does work with what a source gave; its failure is the sync's.
@inline(__always)
func translatingErrors<Value>(_ work: () throws(SourceError) -> Value) throws(SyncError) -> Value {
    do throws(SourceError) { return try work() } catch { throw SyncError(error) }
}

/// Asks whether to go on, on behalf of a source; the sync's reason to stop is the source's.
@inline(__always)
func askingSync<Value>(_ work: () throws(SyncError) -> Value) throws(SourceError) -> Value {
    do throws(SyncError) { return try work() } catch { throw SourceError(error) }
}
