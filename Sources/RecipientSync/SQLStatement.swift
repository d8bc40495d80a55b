import GRDB
import GRDBSQLite

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
        if blob.isEmpty {
            // A null pointer would mean NULL.
            sqlite3_bind_zeroblob(handle, parameter, 0)
        } else {
            sqlite3_bind_blob(handle, parameter, blob.baseAddress, Int32(truncatingIfNeeded: blob.count), nil)
        }
    }

    func bind(_ text: String, at parameter: Int32) {
        // SQLITE_TRANSIENT, a macro that Swift doesn't import: SQLite makes a copy.
        sqlite3_bind_text(handle, parameter, text, -1, unsafeBitCast(-1, to: sqlite3_destructor_type.self))
    }

    func bind(_ number: Int64, at parameter: Int32) { sqlite3_bind_int64(handle, parameter, number) }

    // MARK: Running

    /// Runs a statement that gives no rows.
    func run() throws(SyncError) {
        let result = sqlite3_step(handle)
        sqlite3_reset(handle)
        guard result == SQLITE_DONE else { throw failure }
    }

    /// Runs a query from its beginning; the number in the first column of its first row, nil if it finds none.
    func firstNumber() throws(SyncError) -> Int64? {
        defer { sqlite3_reset(handle) }
        return try step() ? sqlite3_column_int64(handle, 0) : nil
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

    func text(_ column: Int32) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(
            start: sqlite3_column_text(handle, column), count: Int(sqlite3_column_bytes(handle, column)))
    }

    func blob(_ column: Int32) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(
            start: sqlite3_column_blob(handle, column)?.assumingMemoryBound(to: UInt8.self),
            count: Int(sqlite3_column_bytes(handle, column)))
    }

    private var failure: SyncError {
        SyncState.failure(
            ResultCode(rawValue: sqlite3_errcode(database)).primaryResultCode,
            sqlite3_errmsg(database).map { String(cString: $0) } ?? "unknown error",
            path: sqlite3_db_filename(database, "main").map { String(cString: $0) } ?? "")
    }
}
