import Foundation
import GRDB
import Glibc
import System

/// The sync's memory: which source lists which recipients, and which list was last decided on.
///
/// The list in the state is the decision; the snapshot is made from it after the commit. A crash between the two leaves a state
/// that is ahead of the snapshot by one decision, which the next run publishes before it reads anything: so a new list is
/// only ever compared with the one that is published.
final class SyncState {
    /// "PSyn": tells the state from other databases.
    static let applicationID = 0x5053_796e
    /// The newest form this code writes; also PRAGMA user_version.
    static let version = 3

    let path: String
    let queue: DatabaseQueue
    /// The form of the tables; an older one only where the state was opened for reading.
    let form: Int

    /// Opens the state for a sync, creating or migrating it as needed.
    init(path: String) throws(SyncError) {
        self.path = path
        form = Self.version
        try Self.createPrivately(path)
        // Looked at for reading first: a state that isn't ours to write stays as it is to the byte.
        _ = try SyncState(reading: path)
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        configuration.journalMode = .wal
        configuration.prepareDatabase { database in
            try Self.checkPlace(database, path: path)
            // FULL: a decision is on disk before the snapshot that follows from it.
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

    /// An empty state in memory, to compare with where there is none yet.
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

    /// Runs work on the database; whatever it throws becomes a `SyncError`.
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
            guard let value else { throw SyncError(.state, "the state \(path) gave no answer") }
            return value
        } catch {
            throw Self.error(error, path: path)
        }
    }

    /// The version of a database that is a sync state this code understands; 0 for an empty one.
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
                "the sync state \(path) was written by a newer version (form \(version), known here is \(Self.version)); it was left alone",
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

    /// Whether SQLite's words are about tables that are other ones than a sync makes; GRDB uses the same code for faults of its own.
    private static func isOfTables(_ message: String) -> Bool {
        ["no such table", "no column", "no such column", "malformed"].contains { message.contains($0) }
    }

    /// What a result of SQLite's means.
    ///
    /// - Parameter code: the primary one.
    static func failure(_ code: ResultCode, _ message: String, path: String) -> SyncError {
        switch code {
        // Statements are always the same: one that fails for its tables or their contents has met others than a sync makes.
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH,
            .SQLITE_ERROR where code != .SQLITE_ERROR || isOfTables(message):
            return SyncError(
                .state, "the sync state \(path) is damaged: \(message) (SQLite \(code.rawValue))",
                advice: "move it away with its -wal and -shm: the next sync makes a new one", isDamage: true)
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
                advice: "end the program that holds it open, such as sqlite3")
        default:
            return SyncError(
                .state, "the sync state \(path): \(message) (SQLite \(code.rawValue))", advice: advice(EIO, path: path))
        }
    }

    /// The error of a state whose entries aren't those of its decision.
    static func unsound(found: Int, expected: Int) -> SyncError {
        SyncError(
            .state,
            "the sync state lists \(found) addresses where it should list \(expected): it has lost or gained some",
            isUnsound: true)
    }
}
