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

    init(_ code: Code, _ path: String, _ reason: String, advice: String = "") {
        self.code = code
        self.path = path
        self.reason = reason
        self.advice = advice
    }

    /// The database has a value that no filter has written.
    static func damaged(_ path: String, _ words: String) -> LogError {
        LogError(
            .corrupt, path, "the rejection log \(path) is damaged: \(words)",
            advice: "check the disk; move the file away with its -wal and -shm, and a running filter starts a new one")
    }
}

extension LogError {
    /// The failure that an error of SQLite means for a rejection log.
    init(_ error: any Error, path: String, doing: String) {
        if let error = error as? LogError {
            self = error
            return
        }
        guard let error = error as? DatabaseError else {
            // A value whose type is not that of the column.
            if let error = error as? DamagedValue {
                self = .damaged(path, error.words)
            } else if error is RowDecodingError {
                self = .damaged(path, "a value is not of its column's type")
            } else {
                self.init(.failed, path, "can't \(doing) the rejection log \(path): \(error)")
            }
            return
        }
        let words = error.message ?? "\(error.resultCode)"
        let subject = "can't \(doing) the rejection log \(path)"
        switch error.resultCode {
        case .SQLITE_NOTADB:
            self = .damaged(path, "it is not an SQLite database")
        case .SQLITE_CORRUPT, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH:
            // The statements are always the same: an error in one is a fault of the database.
            self = .damaged(path, words)
        case .SQLITE_ERROR
        where ["no such table", "no column", "no such column", "malformed"].contains(where: words.contains):
            self = .damaged(path, words)
        case .SQLITE_PERM, .SQLITE_READONLY, .SQLITE_AUTH:
            self.init(.permission, path, "\(subject): \(words)", advice: Self.accessAdvice)
        case .SQLITE_CANTOPEN:
            self.init(.permission, path, "\(subject): \(words)", advice: Self.accessAdvice)
        case .SQLITE_FULL:
            self.init(.failed, path, "\(subject): the disk is full", advice: Self.spaceAdvice)
        case .SQLITE_IOERR where Self.isFull(path):
            self.init(.failed, path, "\(subject): the disk is full", advice: Self.spaceAdvice)
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self.init(
                .failed, path, "\(subject): another program keeps it locked",
                advice: "find and end the program that has the database open: fuser \(path)")
        default:
            self.init(.failed, path, "\(subject): \(words)", advice: "see the kernel's messages about the disk: dmesg")
        }
    }

    static let accessAdvice = "the file and its folder must be accessible to the user that runs this"
    static let spaceAdvice = "make room on its disk"

    /// True where the disk is full: SQLite reports that as an I/O error in some cases.
    private static func isFull(_ path: String) -> Bool {
        var status = statvfs()
        guard statvfs(folder(of: path), &status) == 0 else { return false }
        return status.f_bavail < 16 || (status.f_files > 0 && status.f_favail == 0)
    }

    /// True if the database itself is damaged, so that only a new one helps.
    static func isDamage(_ error: any Error) -> Bool {
        LogError(error, path: "", doing: "write").code == .corrupt
    }
}
