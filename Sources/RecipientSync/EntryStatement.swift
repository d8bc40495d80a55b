import GRDB
import GRDBSQLite
import RecipientIndex
import RecipientSources

/// Reads the state's entries in the order of address, source, object. SQLite's own functions: a million rows as values of
/// GRDB would take several times as long.
struct EntryCursor: ~Copyable {
    private let database: OpaquePointer?
    private let statement: OpaquePointer?

    /// - Parameter affected: whether to give those entries only whose addresses are in `AffectedAddresses`.
    init(_ database: Database, affected: Bool = false) throws(SyncError) {
        self.database = database.sqliteConnection
        let rows =
            affected
            ? "temp.affected CROSS JOIN entry ON entry.address = affected.address ORDER BY affected.address, source, object"
            : "entry ORDER BY address, source, object"
        statement = try prepare("SELECT entry.address, source, object, flags FROM \(rows)", self.database)
    }

    deinit {
        sqlite3_finalize(statement)
    }

    /// The next entry, its tag the id of its source, good until the next call; nil at the end.
    func next() throws(SyncError) -> Entry? {
        let result = sqlite3_step(statement)
        if result == SQLITE_DONE { return nil }
        guard result == SQLITE_ROW else { throw failure(database) }
        return Entry(
            key: UnsafeBufferPointer(
                start: sqlite3_column_text(statement, 0), count: Int(sqlite3_column_bytes(statement, 0))),
            tag: Int(sqlite3_column_int64(statement, 1)),
            flags: RecipientFlags(rawValue: UInt8(truncatingIfNeeded: sqlite3_column_int64(statement, 3))),
            object: UnsafeBufferPointer(
                start: sqlite3_column_blob(statement, 2)?.assumingMemoryBound(to: UInt8.self),
                count: Int(sqlite3_column_bytes(statement, 2))))
    }
}

/// The addresses that changes may concern, in a table that is gone with the connection: those that the changed objects list in the
/// state, and those that they list now.
final class AffectedAddresses {
    private let database: OpaquePointer?
    private var addition: OpaquePointer?
    private var search: OpaquePointer?

    init(_ database: Database) throws {
        try database.execute(
            sql: """
                CREATE TEMP TABLE IF NOT EXISTS affected (address TEXT PRIMARY KEY) WITHOUT ROWID;
                DELETE FROM temp.affected
                """)
        self.database = database.sqliteConnection
        addition = try prepare("INSERT OR IGNORE INTO temp.affected VALUES (?)", self.database)
        search = try prepare(
            """
            INSERT OR IGNORE INTO temp.affected
            SELECT address FROM entry WHERE source = ? AND object = ? AND object <> x''
            """, self.database)
    }

    deinit {
        sqlite3_finalize(addition)
        sqlite3_finalize(search)
    }

    func add(_ key: UnsafeBufferPointer<UInt8>) throws(SyncError) {
        let text = UnsafeRawPointer(key.baseAddress)?.assumingMemoryBound(to: CChar.self)
        sqlite3_bind_text(addition, 1, text, Int32(truncatingIfNeeded: key.count), nil)
        try run(addition)
    }

    /// Adds what an object lists in the state.
    func add(object: [UInt8], source: Int64) throws(SyncError) {
        var failure: SyncError?
        sqlite3_bind_int64(search, 1, source)
        object.withUnsafeBytes { bytes in
            sqlite3_bind_blob(search, 2, bytes.baseAddress, Int32(truncatingIfNeeded: bytes.count), nil)
            do throws(SyncError) { try run(search) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private func run(_ statement: OpaquePointer?) throws(SyncError) {
        let result = sqlite3_step(statement)
        sqlite3_reset(statement)
        guard result == SQLITE_DONE else { throw failure(database) }
    }
}

/// Writes entries of the state.
final class EntryWriter {
    private let database: OpaquePointer?
    private var insertion: OpaquePointer?
    private var deletion: OpaquePointer?

    init(_ database: Database) throws(SyncError) {
        self.database = database.sqliteConnection
        insertion = try prepare(
            "INSERT OR REPLACE INTO entry (address, source, object, flags) VALUES (?, ?, ?, ?)", self.database)
        deletion = try prepare("DELETE FROM entry WHERE address = ? AND source = ? AND object = ?", self.database)
    }

    deinit {
        sqlite3_finalize(insertion)
        sqlite3_finalize(deletion)
    }

    func insert(_ entry: Entry, source: Int64) throws(SyncError) {
        bind(entry, source, insertion)
        sqlite3_bind_int64(insertion, 4, Int64(entry.flags.rawValue))
        try run(insertion)
    }

    func delete(_ entry: Entry, source: Int64) throws(SyncError) {
        bind(entry, source, deletion)
        try run(deletion)
    }

    private func bind(_ entry: Entry, _ source: Int64, _ statement: OpaquePointer?) {
        // Without a destructor SQLite takes no copies: the bytes outlive the step.
        let text = UnsafeRawPointer(entry.key.baseAddress)?.assumingMemoryBound(to: CChar.self)
        sqlite3_bind_text(statement, 1, text, Int32(truncatingIfNeeded: entry.key.count), nil)
        sqlite3_bind_int64(statement, 2, source)
        if entry.object.isEmpty {
            // A null pointer would mean NULL.
            sqlite3_bind_zeroblob(statement, 3, 0)
        } else {
            sqlite3_bind_blob(
                statement, 3, entry.object.baseAddress, Int32(truncatingIfNeeded: entry.object.count), nil)
        }
    }

    private func run(_ statement: OpaquePointer?) throws(SyncError) {
        let result = sqlite3_step(statement)
        sqlite3_reset(statement)
        guard result == SQLITE_DONE else { throw failure(database) }
    }
}

func prepare(_ sql: String, _ database: OpaquePointer?) throws(SyncError) -> OpaquePointer? {
    var statement: OpaquePointer?
    guard sqlite3_prepare_v2(database, sql, -1, &statement, nil) == SQLITE_OK else {
        throw failure(database)
    }
    return statement
}

func failure(_ database: OpaquePointer?) -> SyncError {
    SyncState.failure(
        ResultCode(rawValue: sqlite3_errcode(database)).primaryResultCode,
        sqlite3_errmsg(database).map { String(cString: $0) } ?? "unknown error",
        path: sqlite3_db_filename(database, "main").map { String(cString: $0) } ?? "")
}
