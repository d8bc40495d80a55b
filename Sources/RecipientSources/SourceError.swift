/// Why a source could not be read.
public struct SourceError: Error, Sendable, CustomStringConvertible {
    /// The class of a failure.
    public enum Kind: Sendable {
        /// The source can't be read now; trying again may help.
        case unreachable
        /// The source holds lines or values that can't be understood; its owner has to correct them.
        case malformed
        /// A temporary file for entries could not be written or read back.
        case temporaryFile
        /// The configuration asks for what can't be done.
        case configuration
        /// The caller's check ended the reading.
        case cancelled
    }

    /// The class of the failure.
    public let kind: Kind
    /// One or more sentences for a postmaster, one a line.
    public let description: String
    /// The name of the source at fault.
    public let source: String?
    /// What a person can do, where the description doesn't say.
    public let advice: String?

    /// A failure of a source.
    package init(_ kind: Kind, _ description: String, source: String? = nil, advice: String? = nil) {
        self.kind = kind
        self.description = description
        self.source = source
        self.advice = advice
    }
}
