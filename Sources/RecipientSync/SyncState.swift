import Foundation
import GRDB
import Glibc
import System

/// The database of the sync: which source lists which recipients, and which list passed the guards last.
///
/// A new list is committed to the state first; the snapshot is made from it afterwards. After a crash between the two, the state is one
/// list ahead of the snapshot, and the next sync publishes that list before it reads anything. So a new list is always compared with
/// the published one.
final class SyncState {
    /// "PSyn", which tells a sync state from other databases.
    static let applicationID = 0x5053_796e
    /// The version of the tables that this code writes; also PRAGMA user_version.
    static let version = 3

    let path: String
    let queue: DatabaseQueue
    /// The version of the tables; an older one only if the state was opened for reading.
    let form: Int

    /// Opens the state for a sync, creating or migrating it as needed.
    init(path: String) throws(SyncError) {
        self.path = path
        form = Self.version
        try Self.createPrivately(path)
        // Opened for reading first: a database that isn't a sync state of this version stays as it is to the byte.
        _ = try SyncState(reading: path)
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        configuration.journalMode = .wal
        configuration.prepareDatabase { database in
            try Self.checkPlace(database, path: path)
            // FULL: a list is on disk before the snapshot that is made from it.
            try database.execute(
                sql: """
                    PRAGMA synchronous = FULL; PRAGMA cache_size = -4000; PRAGMA journal_size_limit = 4194304;
                    PRAGMA temp_store = FILE
                    """)
        }
        do {
            queue = try DatabaseQueue(path: path, configuration: configuration)
            let path = path
            try queue.inTransaction(.immediate) { database in
                try Self.migrate(database, path: path)
                return .commit
            }
        } catch {
            throw Self.error(error, path: path)
        }
    }

    /// Opens an existing state for reading; nil where there is none yet.
    init?(reading path: String) throws(SyncError) {
        guard try Self.exists(path) else { return nil }
        self.path = path
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(2)
        configuration.prepareDatabase { database in try Self.checkPlace(database, path: path) }
        do {
            queue = try DatabaseQueue(path: path, configuration: configuration)
            let path = path
            form = try queue.read { database in try Self.identify(database, path: path) }
            if form == 0 { return nil }
            if form < 3 { try queue.inDatabase { database in try Self.addLossesForReading(database) } }
        } catch {
            throw Self.error(error, path: path)
        }
    }

    /// An empty state in memory, for a dry run without a state.
    init() throws(SyncError) {
        path = "(none)"
        form = Self.version
        do {
            queue = try DatabaseQueue()
            try queue.inTransaction { database in
                try Self.createSchema(database)
                return .commit
            }
        } catch {
            throw Self.error(error, path: path)
        }
    }

    /// Runs work on the database in a transaction; any error becomes a `SyncError`.
    func transaction<Value>(
        _ kind: Database.TransactionKind, _ work: (Database) throws -> (Value, Database.TransactionCompletion)
    ) throws(SyncError) -> Value {
        do {
            var value: Value?
            try queue.inTransaction(kind) { database in
                let (result, completion) = try work(database)
                value = result
                return completion
            }
            guard let value else { throw SyncError(.state, "the sync state \(path) gave no answer") }
            return value
        } catch {
            throw Self.error(error, path: path)
        }
    }

    /// The version of a sync state's tables; 0 for an empty database, an error for another program's and for a newer version.
    private static func identify(_ database: Database, path: String) throws -> Int {
        let id = try Int.fetchOne(database, sql: "PRAGMA application_id") ?? 0
        let version = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        let isEmpty = try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") == 0
        if isEmpty, version == 0 { return 0 }
        guard id == applicationID else {
            throw SyncError(
                .state, "\(path) is another program's database, not a sync state; it was left alone",
                advice: "name another path as sync.state, or move that database away")
        }
        guard version <= Self.version else {
            throw SyncError(
                .state,
                "the sync state \(path) was written by a newer version (its tables have version \(version), this one knows \(Self.version)); "
                    + "it was left alone",
                advice: "install that version again, or move the state away: the next sync makes a new one")
        }
        return version
    }

    private static func migrate(_ database: Database, path: String) throws {
        switch try identify(database, path: path) {
        case 0: try createSchema(database)
        case 1:
            try addDomains(database)
            try addLosses(database)
        case 2: try addLosses(database)
        default: break
        }
    }

    static func error(_ error: any Error, path: String) -> SyncError {
        if let error = error as? SyncError { return error }
        guard let error = error as? DatabaseError else { return SyncError(.state, "the sync state \(path): \(error)") }
        return failure(error.resultCode, error.message ?? "error", path: path)
    }

    /// Whether SQLite's message says that the tables aren't those that a sync makes; GRDB uses the same code for its own faults.
    private static func concernsTables(_ message: String) -> Bool {
        ["no such table", "no column", "no such column", "malformed"].contains { message.contains($0) }
    }

    /// The error for a result of SQLite.
    ///
    /// - Parameter code: the primary result code.
    static func failure(_ code: ResultCode, _ message: String, path: String) -> SyncError {
        switch code {
        // The statements are always the same: if one fails for its tables or their contents, a sync didn't make these.
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH,
            .SQLITE_ERROR where code != .SQLITE_ERROR || concernsTables(message):
            return SyncError(
                .state, "the sync state \(path) is damaged: \(message) (SQLite \(code.rawValue))",
                advice: moveAway, isDamage: true)
        case .SQLITE_FULL:
            return SyncError(
                .state, "the sync state \(path) can't be written: \(message) (SQLite \(code.rawValue))",
                advice: advice(ENOSPC, path: path))
        case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM:
            return SyncError(
                .state, "the sync state \(path) can't be written: \(message) (SQLite \(code.rawValue))",
                advice: advice(EACCES, path: path))
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            return SyncError(
                .state, "the sync state \(path) is in use by another program: \(message) (SQLite \(code.rawValue))",
                advice: "end the program that has it open, such as sqlite3")
        default:
            return SyncError(
                .state, "the sync state \(path): \(message) (SQLite \(code.rawValue))", advice: advice(EIO, path: path))
        }
    }
}
