import GRDB
import GRDBSQLite
import RecipientIndex
import RecipientSources

/// Reads the state's entries in the order of address, source, object.
struct EntryCursor: ~Copyable {
    private let statement: SQLStatement

    /// - Parameter affected: whether to give only the entries whose addresses are in ``AffectedAddresses``.
    init(_ database: Database, affected: Bool = false) throws(SyncError) {
        let rows =
            affected
            ? "temp.affected CROSS JOIN entry ON entry.address = affected.address ORDER BY affected.address, source, object"
            : "entry ORDER BY address, source, object"
        statement = try SQLStatement("SELECT entry.address, source, object, flags FROM \(rows)", database)
    }

    /// The next entry, its tag the id of its source, valid until the next call; nil at the end.
    func next() throws(SyncError) -> SourceEntry? {
        guard try statement.step() else { return nil }
        return SourceEntry(
            key: statement.bytes(0), tag: Int(statement.number(1)),
            flags: RecipientFlags(rawValue: UInt8(truncatingIfNeeded: statement.number(3))), object: statement.bytes(2))
    }
}

/// The addresses that a source's changes may concern: those that the changed objects list in the state, and those that they list
/// now. They are in a temporary table, which ends with the connection.
final class AffectedAddresses {
    private let addition: SQLStatement
    private let search: SQLStatement

    init(_ database: Database) throws {
        try database.execute(
            sql: """
                CREATE TEMP TABLE IF NOT EXISTS affected (address TEXT PRIMARY KEY) WITHOUT ROWID;
                DELETE FROM temp.affected
                """)
        addition = try SQLStatement("INSERT OR IGNORE INTO temp.affected VALUES (?)", database)
        search = try SQLStatement(
            """
            INSERT OR IGNORE INTO temp.affected
            SELECT address FROM entry WHERE source = ? AND object = ? AND object <> x''
            """, database)
    }

    func add(_ key: UnsafeBufferPointer<UInt8>) throws(SyncError) {
        addition.bind(key, at: 1)
        try addition.run()
    }

    /// Adds the addresses that an object lists in the state.
    func add(object: [UInt8], source: Int64) throws(SyncError) {
        search.bind(source, at: 1)
        try withBytes(of: object) { bytes throws(SyncError) in
            search.bind(blob: bytes, at: 2)
            try search.run()
        }
    }
}

/// Writes entries of the state.
final class EntryWriter {
    private let insertion: SQLStatement
    private let deletion: SQLStatement

    init(_ database: Database) throws(SyncError) {
        insertion = try SQLStatement(
            "INSERT OR REPLACE INTO entry (address, source, object, flags) VALUES (?, ?, ?, ?)", database)
        deletion = try SQLStatement("DELETE FROM entry WHERE address = ? AND source = ? AND object = ?", database)
    }

    func insert(_ entry: SourceEntry, source: Int64) throws(SyncError) {
        insertion.bind(Int64(entry.flags.rawValue), at: 4)
        try run(insertion, on: entry, source)
    }

    func delete(_ entry: SourceEntry, source: Int64) throws(SyncError) { try run(deletion, on: entry, source) }

    private func run(_ statement: SQLStatement, on entry: SourceEntry, _ source: Int64) throws(SyncError) {
        statement.bind(entry.key, at: 1)
        statement.bind(source, at: 2)
        statement.bind(blob: entry.object, at: 3)
        try statement.run()
    }
}

/// Calls work with the bytes of an array, and passes on a `SyncError`, which the standard library's function doesn't do by its type.
func withBytes<Value>(
    of array: [UInt8], _ work: (UnsafeBufferPointer<UInt8>) throws(SyncError) -> Value
) throws(SyncError) -> Value {
    try array.withUnsafeBufferPointer { bytes in Result { () throws(SyncError) in try work(bytes) } }.get()
}

extension SyncState {
    /// The error of a state that holds other entries than its list counts.
    static func unsound(found: Int, expected: Int) -> SyncError {
        SyncError(
            .state,
            "the sync state lists \(found) addresses where it should list \(expected): it has lost or gained some",
            isUnsound: true)
    }

    /// Deletes the entries of sources that the state doesn't know.
    static func deleteOrphans(_ database: Database) throws {
        try database.execute(sql: "DELETE FROM entry WHERE source NOT IN (SELECT id FROM source)")
    }
}

/// A prepared statement that is run many times, with SQLite's own functions: a million rows as values of GRDB would take several
/// times as long.
final class SQLStatement {
    private let database: OpaquePointer?
    private var handle: OpaquePointer?

    init(_ sql: String, _ database: Database) throws(SyncError) {
        self.database = database.sqliteConnection
        guard sqlite3_prepare_v2(self.database, sql, -1, &handle, nil) == SQLITE_OK else { throw failure }
    }

    deinit {
        sqlite3_finalize(handle)
    }

    // MARK: Parameters

    /// Binds text that must stay where it is until the statement has run: without a destructor SQLite makes no copy.
    func bind(_ text: UnsafeBufferPointer<UInt8>, at parameter: Int32) {
        let start = UnsafeRawPointer(text.baseAddress)?.assumingMemoryBound(to: CChar.self)
        sqlite3_bind_text(handle, parameter, start, Int32(truncatingIfNeeded: text.count), nil)
    }

    /// Binds bytes that must stay where they are until the statement has run.
    func bind(blob: UnsafeBufferPointer<UInt8>, at parameter: Int32) {
        // A null pointer would mean NULL.
        guard !blob.isEmpty else { return _ = sqlite3_bind_zeroblob(handle, parameter, 0) }
        sqlite3_bind_blob(handle, parameter, blob.baseAddress, Int32(truncatingIfNeeded: blob.count), nil)
    }

    func bind(_ text: String, at parameter: Int32) {
        // SQLITE_TRANSIENT, a macro that Swift doesn't import: SQLite makes a copy.
        sqlite3_bind_text(handle, parameter, text, -1, unsafeBitCast(-1, to: sqlite3_destructor_type.self))
    }

    func bind(_ number: Int64, at parameter: Int32) { sqlite3_bind_int64(handle, parameter, number) }

    // MARK: Running

    /// Runs the statement from its beginning; the number in the first column of its first row, nil if it gives no rows.
    @discardableResult
    func run() throws(SyncError) -> Int64? {
        defer { sqlite3_reset(handle) }
        return try step() ? number(0) : nil
    }

    /// Goes to the next row of a query; false at the end.
    func step() throws(SyncError) -> Bool {
        switch sqlite3_step(handle) {
        case SQLITE_ROW: true
        case SQLITE_DONE: false
        default: throw failure
        }
    }

    // MARK: Columns of the row, valid until the next step

    func number(_ column: Int32) -> Int64 { sqlite3_column_int64(handle, column) }

    /// The bytes of a text or a blob.
    func bytes(_ column: Int32) -> UnsafeBufferPointer<UInt8> {
        let start = sqlite3_column_blob(handle, column)?.assumingMemoryBound(to: UInt8.self)
        return UnsafeBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column)))
    }

    private var failure: SyncError {
        SyncState.failure(
            ResultCode(rawValue: sqlite3_errcode(database)).primaryResultCode,
            sqlite3_errmsg(database).map { String(cString: $0) } ?? "unknown error",
            path: sqlite3_db_filename(database, "main").map { String(cString: $0) } ?? "")
    }
}
