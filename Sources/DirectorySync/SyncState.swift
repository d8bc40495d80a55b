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
    static let version = 2

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
        guard access(path, F_OK) == 0 else { return nil }
        self.path = path
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(2)
        do {
            queue = try DatabaseQueue(path: path, configuration: configuration)
            let path = path
            form = try queue.read { database in try Self.identify(database, path: path) }
            if form == 0 { return nil }
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

    /// Makes the file before SQLite does, so that no moment exists in which others may read it.
    static func createPrivately(_ path: String) throws(SyncError) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            let code = errno
            let place = folder(of: path)
            throw SyncError(
                .state,
                code == ENOENT
                    ? "the sync state \(path) can't be created: there is no folder \(place)"
                    : "the sync state \(path) can't be opened for writing: \(systemMessage(code))")
        }
        defer { Glibc.close(descriptor) }
        var status = stat()
        if fstat(descriptor, &status) == 0, status.st_mode & 0o077 != 0 { _ = fchmod(descriptor, 0o600) }
    }

    /// The version of a database that is a sync state this code understands; 0 for an empty one.
    private static func identify(_ database: Database, path: String) throws -> Int {
        let id = try Int.fetchOne(database, sql: "PRAGMA application_id") ?? 0
        let version = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        let isEmpty = try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") == 0
        if isEmpty, version == 0 { return 0 }
        guard id == applicationID else {
            throw SyncError(.state, "\(path) is another program's database, not a sync state; it was left alone")
        }
        guard version <= Self.version else {
            throw SyncError(
                .state,
                "the sync state \(path) was written by a newer version (form \(version), known here is \(Self.version)); it was left alone"
            )
        }
        return version
    }

    private static func migrate(_ database: Database, path: String) throws {
        switch try identify(database, path: path) {
        case 0: try createSchema(database)
        case 1: try addDomains(database)
        default: break
        }
    }

    static func error(_ error: any Error, path: String) -> SyncError {
        if let error = error as? SyncError { return error }
        if let error = error as? DatabaseError {
            return SyncError(.state, "the sync state \(path): \(error.message ?? "error") (\(error.resultCode))")
        }
        return SyncError(.state, "the sync state \(path): \(error)")
    }
}
