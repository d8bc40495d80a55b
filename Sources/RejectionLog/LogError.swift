/// Why a rejection log can't be opened, read or written: a sentence for the postmaster.
public struct LogError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is the matter, for the choice of an exit status.
    public enum Code: Sendable, Equatable {
        /// There is no database at the path (or no folder for it).
        case notFound
        /// The file or its folder can't be written or read with these rights.
        case permission
        /// A newer Postern wrote it; it was left as it is.
        case newerVersion
        /// A file that isn't a rejection log; it was left as it is.
        case notALog
        /// A rejection log that is damaged.
        case corrupt
        /// Another process writes to it.
        case inUse
        /// Anything else that SQLite or the system says (disk full, I/O error, locked).
        case failed
    }

    /// What is the matter.
    public let code: Code
    /// The database.
    public let path: String
    /// The sentence.
    public let description: String

    init(_ code: Code, _ path: String, _ description: String) {
        self.code = code
        self.path = path
        self.description = description
    }
}
