import RecipientSources

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
    public let description: String
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
        self.advice = advice
        self.isDamage = isDamage
        self.isUnsound = isUnsound
        self.sources = report?.sources ?? sources
        self.kind = kind
        self.description = description
        self.source = source
        self.report = report
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
