/// Why a filter can't start or go on, in one line for the person who runs it.
public struct MilterError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What sort of failure it is, for an exit status.
    public enum Kind: Sendable, Equatable {
        /// The address of the socket isn't one that is accepted.
        case invalidSocket
        /// Another process answers at the socket.
        case inUse
        /// The process may not make or remove the socket there.
        case notPermitted
        /// The place is not usable: a missing folder, a file in the way, a host name or address that isn't here.
        case unusable
        /// libmilter is of a version that can't be used.
        case libmilter
    }

    /// What sort of failure it is.
    public let kind: Kind
    /// What failed, where, why, and what is accepted instead.
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}
