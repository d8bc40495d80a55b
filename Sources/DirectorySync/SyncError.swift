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
    public let sources: [SourceReport]
    /// What a person can do, where that isn't said in the description.
    public let advice: String?
    /// Whether the state is damaged: a new one can take its place.
    let isDamage: Bool
    /// Whether the state's entries aren't those of its decision: all sources must be read anew.
    let isUnsound: Bool

    init(
        _ kind: Kind, _ description: String, source: String? = nil, report: SyncReport? = nil,
        sources: [SourceReport] = [], advice: String? = nil, isDamage: Bool = false,
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
