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
    /// What happened, without what to do about it.
    public let reason: String
    /// What the postmaster can do; may be empty.
    public let advice: String

    /// The reason, then the advice.
    public var description: String { advice.isEmpty ? reason : "\(reason); \(advice)" }

    init(_ code: Code, _ path: String, _ reason: String, advice: String = "") {
        self.code = code
        self.path = path
        self.reason = reason
        self.advice = advice
    }

    /// The database holds what no filter has written there.
    static func damaged(_ path: String, _ words: String) -> LogError {
        LogError(
            .corrupt, path, "the rejection log \(path) is damaged: \(words)",
            advice: "check the disk; move the file away with its -wal and -shm, and a running filter begins a new one")
    }
}
