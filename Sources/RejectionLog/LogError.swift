import GRDB
import Glibc
import System

/// Why a rejection log can't be opened, read or written: a sentence for the postmaster.
public struct LogError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of a failure, for the choice of an exit status.
    public enum Code: Sendable, Equatable {
        /// There is no database at the path, or no folder for it.
        case notFound
        /// The user may not read or write the file or its folder.
        case permission
        /// A newer Postern wrote the database; it is unchanged.
        case newerVersion
        /// The file is not a rejection log; it is unchanged.
        case notALog
        /// The rejection log is damaged.
        case corrupt
        /// Another process writes to the database.
        case inUse
        /// Any other error of SQLite or the system: disk full, I/O error, locked.
        case failed
    }

    static let accessAdvice = "the file and its folder must be accessible to the user that runs this"
    static let spaceAdvice = "make room on its disk"

    /// The kind of the failure.
    public let code: Code
    /// The path of the database.
    public let path: String
    /// What happened, without the advice.
    public let reason: String
    /// What the postmaster can do; may be empty.
    public let advice: String

    /// The reason, then the advice.
    public var description: String { advice.isEmpty ? reason : "\(reason); \(advice)" }

    init(_ code: Code, path: String, _ reason: String, advice: String = "") {
        self.code = code
        self.path = path
        self.reason = reason
        self.advice = advice
    }

    /// The database has a value that no filter has written.
    static func damaged(_ path: String, _ words: String) -> LogError {
        LogError(
            .corrupt, path: path, "the rejection log \(path) is damaged: \(words)",
            advice: "check the disk; move the file away with its -wal and -shm, and a running filter starts a new one")
    }

    /// Whether the database itself is damaged, so that only a new one helps.
    static func isDamage(_ error: any Error) -> Bool { LogError(error, path: "", doing: "write").code == .corrupt }
}

extension LogError {
    /// The failure that any error means for a rejection log.
    ///
    /// - Parameter doing: what was being done: "read" or "write".
    init(_ error: any Error, path: String, doing: String) {
        let subject = "can't \(doing) the rejection log \(path)"
        switch error {
        case let error as LogError: self = error
        case let error as DamagedValue: self = .damaged(path, error.words)
        case is RowDecodingError: self = .damaged(path, "a value is not of its column's type")
        case let error as DatabaseError: self.init(error, path: path, subject: subject)
        default: self.init(.failed, path: path, "\(subject): \(error)")
        }
    }

    private init(_ error: DatabaseError, path: String, subject: String) {
        let words = error.message ?? "\(error.resultCode)"
        switch error.resultCode {
        case .SQLITE_NOTADB:
            self = .damaged(path, "it is not an SQLite database")
        case .SQLITE_CORRUPT, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH:
            // The statements are always the same: an error in one is a fault of the database.
            self = .damaged(path, words)
        case .SQLITE_ERROR
        where ["no such table", "no column", "no such column", "malformed"].contains(where: words.contains):
            self = .damaged(path, words)
        case .SQLITE_PERM, .SQLITE_READONLY, .SQLITE_AUTH, .SQLITE_CANTOPEN:
            self.init(.permission, path: path, "\(subject): \(words)", advice: Self.accessAdvice)
        case let code where code == .SQLITE_FULL || code == .SQLITE_IOERR && Self.isDiskFull(path):
            self.init(.failed, path: path, "\(subject): the disk is full", advice: Self.spaceAdvice)
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self.init(
                .failed, path: path, "\(subject): another program keeps it locked",
                advice: "find and end the program that has the database open: fuser \(path)")
        default:
            self.init(
                .failed, path: path, "\(subject): \(words)", advice: "see the kernel's messages about the disk: dmesg")
        }
    }

    /// Whether the disk is full, which SQLite reports as an I/O error in some cases.
    private static func isDiskFull(_ path: String) -> Bool {
        var status = statvfs()
        guard statvfs(folder(of: path), &status) == 0 else { return false }
        return status.f_bavail < 16 || (status.f_files > 0 && status.f_favail == 0)
    }
}
