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
            form = try queue.read { database in try Self.identify(database, path: path) }
            if form == 0 { return nil }
            if form < 3 { try queue.inDatabase { database in try database.execute(sql: Self.lossTables("TEMP ")) } }
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
            guard let value else {
                throw SyncError(.state, "the sync state \(path): a transaction ended without a result")
            }
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
        let version = try identify(database, path: path)
        if version == 0 {
            try createSchema(database)
        } else if version < Self.version {
            try migrate(database, from: version)
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
        // The statements are always the same: if one fails for its tables or their contents, no sync made these.
        let isDamage =
            [.SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH].contains(code)
            || code == .SQLITE_ERROR && concernsTables(message)
        let (problem, remedy) =
            switch code {
            case _ where isDamage: (" is damaged", moveAway)
            case .SQLITE_FULL: (" can't be written", advice(ENOSPC, path: path))
            case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM: (" can't be written", advice(EACCES, path: path))
            case .SQLITE_BUSY, .SQLITE_LOCKED:
                (" is in use by another program", "end the program that has it open, such as sqlite3")
            default: ("", advice(EIO, path: path))
            }
        return SyncError(
            .state, "the sync state \(path)\(problem): \(message) (SQLite \(code.rawValue))", advice: remedy,
            isDamage: isDamage)
    }
}

extension SyncState {
    /// Creates the tables of version 3. Version 1 lacked the table `domain` and the column `source.domains`; versions 1 and 2 lacked
    /// those of losses.
    ///
    /// - `decision` (one row): the list that passed the guards last, see ``ApprovedList``: its generation, its date (ms since 1970) and
    ///   its counts, which its snapshot has too; generation and date of the list before; the refusal of a newer list (JSON).
    /// - `source`: each source of that list: its configuration (JSON), when its entries were last known to be right (`as_of`, ms), the
    ///   cursor that belongs to them, its last ``SourceState`` (JSON), the relay domains that it names (JSON).
    /// - `domain`: how many addresses each domain has in `entry`, so that a small change needn't count them.
    /// - `failure`: the sources that the last sync could not read, and why.
    /// - `entry`: which object of which source lists which address.
    /// - `loss`: the addresses that no source lists any more (kind 0) or that were restricted (kind 1): their domain, the flags and
    ///   sources (names as JSON) that they had, when they were lost by the sync's time (`at`, see ``SyncClock``) and by the wall clock
    ///   (`time`, ms), whether the guard counts them, and whether the snapshot still holds them as leaving.
    /// - `refused`: the losses of the list that was last refused and shown.
    /// - `clock` (one row): the sync's time and what the clocks showed then.
    /// - `relay_table`: the relay domains that each table of the configuration listed (JSON).
    private static func createSchema(_ database: Database) throws {
        try database.execute(
            sql: """
                PRAGMA application_id = \(applicationID);
                PRAGMA user_version = \(version);
                CREATE TABLE decision (
                    id INTEGER PRIMARY KEY CHECK (id = 1),
                    generation INTEGER NOT NULL, created INTEGER NOT NULL, recipients INTEGER NOT NULL,
                    catch_all_domains INTEGER NOT NULL,
                    before_generation INTEGER NOT NULL, before_created INTEGER NOT NULL,
                    refusal TEXT, leaving INTEGER NOT NULL DEFAULT 0, alias_domains INTEGER NOT NULL DEFAULT 0
                );
                INSERT INTO decision VALUES (1, 0, 0, 0, 0, 0, 0, NULL, 0, 0);
                CREATE TABLE source (
                    id INTEGER PRIMARY KEY AUTOINCREMENT,
                    name TEXT NOT NULL UNIQUE, type TEXT NOT NULL, configuration TEXT NOT NULL, fingerprint TEXT NOT NULL,
                    recipients INTEGER NOT NULL, as_of INTEGER NOT NULL, cursor BLOB, report TEXT, domains TEXT
                );
                \(domainTable);
                CREATE TABLE failure (source TEXT PRIMARY KEY, text TEXT NOT NULL, at INTEGER NOT NULL);
                CREATE TABLE entry (
                    address TEXT NOT NULL, source INTEGER NOT NULL, object BLOB NOT NULL, flags INTEGER NOT NULL,
                    PRIMARY KEY (address, source, object)
                ) WITHOUT ROWID;
                CREATE INDEX entry_of_object ON entry (source, object) WHERE object <> x'';
                \(lossTables());
                \(lossIndexes)
                """)
    }

    /// Migrates from version 1 or 2. After version 1, the next comparison of the whole list counts the domains.
    private static func migrate(_ database: Database, from version: Int) throws {
        if version == 1 { try database.execute(sql: "ALTER TABLE source ADD COLUMN domains TEXT; \(domainTable)") }
        try database.execute(
            sql: """
                ALTER TABLE decision ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
                ALTER TABLE decision ADD COLUMN alias_domains INTEGER NOT NULL DEFAULT 0;
                \(lossTables());
                \(lossIndexes)
                PRAGMA user_version = \(Self.version)
                """)
    }

    private static let lossIndexes = """
        CREATE INDEX leaving ON loss (at) WHERE leaving = 1;
        CREATE INDEX counted ON loss (counted, at) WHERE leaving = 0;
        """

    /// - Parameter place: `TEMP ` for a connection that only reads an older state.
    private static func lossTables(_ place: String = "") -> String {
        """
        CREATE \(place)TABLE loss (
            address TEXT NOT NULL, kind INTEGER NOT NULL, domain TEXT NOT NULL, flags INTEGER NOT NULL, sources TEXT NOT NULL,
            at INTEGER NOT NULL, time INTEGER NOT NULL, counted INTEGER NOT NULL, leaving INTEGER NOT NULL,
            PRIMARY KEY (address, kind)
        ) WITHOUT ROWID;
        CREATE \(place)TABLE refused (
            address TEXT NOT NULL, kind INTEGER NOT NULL, PRIMARY KEY (address, kind)
        ) WITHOUT ROWID;
        CREATE \(place)TABLE clock (
            id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL, wall INTEGER NOT NULL, steady INTEGER NOT NULL,
            boot TEXT NOT NULL
        );
        CREATE \(place)TABLE relay_table (path TEXT PRIMARY KEY, domains TEXT NOT NULL) WITHOUT ROWID
        """
    }

    private static let domainTable =
        "CREATE TABLE domain (name TEXT PRIMARY KEY, recipients INTEGER NOT NULL) WITHOUT ROWID"
}
