/// Why a snapshot can't be used or wasn't published: a sentence that names the file.
public struct IndexError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Kind: Sendable, Equatable {
        /// No file has this name.
        case missing
        /// The system refused to open or read it, or had no memory for it; its errno.
        case unreadable(Int32)
        /// It is something else than a snapshot.
        case notAnIndex
        /// It is a snapshot of a version or with a feature that this program doesn't know.
        case unsupported
        /// It is cut off, has been added to or changed, or contradicts itself.
        case damaged
        /// It was changed while it was read: someone writes it in place.
        case changing
        /// Its generation is older than that of the snapshot in use.
        case older
        /// The system refused to write, sync or rename it; its errno. The published file is the old one.
        case notPublished(Int32)
    }

    /// What kind of failure it is.
    public let kind: Kind
    /// The file.
    public let path: String
    /// What is wrong, without the file's name.
    public let reason: String

    /// "/var/lib/postern/recipients.index: the header's checksum is wrong: the file is damaged".
    public var description: String { "\(path): \(reason)" }

    init(_ fault: IndexFault, path: String) {
        kind = fault.kind
        self.path = path
        reason = fault.reason
    }
}

/// An ``IndexError`` where the file's name isn't known yet.
struct IndexFault: Error, Equatable {
    let kind: IndexError.Kind
    let reason: String

    init(_ kind: IndexError.Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    static func damaged(_ reason: String) -> IndexFault { IndexFault(.damaged, reason) }
}
