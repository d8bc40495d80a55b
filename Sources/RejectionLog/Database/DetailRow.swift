import GRDB
import GRDBSQLite

/// Calls SQLite directly where thousands of rows are written at once: values are bound to GRDB's prepared statement in
/// place.
extension Statement {
    /// `SQLITE_TRANSIENT`: SQLite copies the bound value.
    static var copies: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

    /// Runs the statement once and prepares it for the next values (`sqlite3_step`, `sqlite3_reset`).
    ///
    /// - Parameter bound: the results of all calls that bound a value, combined with `|`.
    func runOnce(bound: CInt) throws {
        guard bound == SQLITE_OK else { throw failure(bound) }
        let result = sqlite3_step(sqliteStatement)
        let reset = sqlite3_reset(sqliteStatement)
        guard result == SQLITE_DONE else { throw failure(reset) }
    }

    private func failure(_ code: CInt) -> DatabaseError {
        DatabaseError(
            resultCode: ResultCode(rawValue: code),
            message: String(cString: sqlite3_errmsg(sqlite3_db_handle(sqliteStatement))))
    }
}

/// A detail row, read in place through GRDB's prepared statement: up to a million rows a second.
struct DetailRow {
    /// The columns in the order in which ``init(_:)`` expects them.
    static let columns =
        "d.id, d.time, d.reason, d.domain, d.client, d.recipient, d.sender, d.client_name, d.helo, d.mta, d.reply, "
        + "d.outcome, d.observed"

    private let handle: OpaquePointer

    /// Calls `body` for each detail row of the condition; the row is valid for the call.
    static func forEach(
        _ db: Database, where condition: String, _ arguments: StatementArguments, _ body: (DetailRow) throws -> Void
    ) throws {
        let statement = try db.makeStatement(sql: "SELECT \(columns) FROM detail d WHERE \(condition)")
        try statement.setArguments(arguments)
        try RawRows.forEach(statement) { try body(DetailRow(handle: $0)) }
    }

    private init(handle: OpaquePointer) { self.handle = handle }

    var id: Int64 { sqlite3_column_int64(handle, 0) }
    var time: Int64 { sqlite3_column_int64(handle, 1) }
    var reason: Int64 { sqlite3_column_int64(handle, 2) }
    var domain: Int64 { sqlite3_column_int64(handle, 3) }
    var client: UnsafeRawBufferPointer { RawRows.bytes(handle, 4) }
    var recipient: UnsafeRawBufferPointer { RawRows.bytes(handle, 5) }
    var sender: UnsafeRawBufferPointer { RawRows.bytes(handle, 6) }
    var clientName: UnsafeRawBufferPointer { RawRows.bytes(handle, 7) }
    var helo: UnsafeRawBufferPointer { RawRows.bytes(handle, 8) }
    var mta: UnsafeRawBufferPointer { RawRows.bytes(handle, 9) }
    var reply: UnsafeRawBufferPointer { RawRows.bytes(handle, 10) }
    var outcome: Int64 { sqlite3_column_int64(handle, 11) }
    var observed: Bool { sqlite3_column_int64(handle, 12) != 0 }
    /// The day (UTC) since 1970.
    var day: Int64 { time / 86_400_000 }
}

/// Steps through a statement's rows without GRDB's row objects.
enum RawRows {
    static func forEach(_ statement: Statement, _ body: (OpaquePointer) throws -> Void) throws {
        let handle = statement.sqliteStatement
        defer { sqlite3_reset(handle) }
        while true {
            switch sqlite3_step(handle) {
            case SQLITE_ROW: try body(handle)
            case SQLITE_DONE: return
            case let code:
                throw DatabaseError(
                    resultCode: ResultCode(rawValue: code),
                    message: String(cString: sqlite3_errmsg(sqlite3_db_handle(handle))))
            }
        }
    }

    /// The bytes of a text or blob, valid until the next step.
    static func bytes(_ handle: OpaquePointer, _ column: CInt) -> UnsafeRawBufferPointer {
        let start = sqlite3_column_blob(handle, column)
        return UnsafeRawBufferPointer(start: start, count: start == nil ? 0 : Int(sqlite3_column_bytes(handle, column)))
    }
}

/// A row of a tally, read in place.
struct TallyRow {
    /// The columns in the order in which they are read.
    static let columns = "value, reason, count, first, last, name, peers, networks, day"

    let handle: OpaquePointer

    var value: UnsafeRawBufferPointer { RawRows.bytes(handle, 0) }
    var reason: Int64 { sqlite3_column_int64(handle, 1) }
    var count: Int64 { sqlite3_column_int64(handle, 2) }
    var first: Int64 { sqlite3_column_int64(handle, 3) }
    var last: Int64 { sqlite3_column_int64(handle, 4) }
    var name: UnsafeRawBufferPointer { RawRows.bytes(handle, 5) }
    var peers: DistinctSketch { DistinctSketch(stored: RawRows.bytes(handle, 6)) }
    var networks: DistinctSketch { DistinctSketch(stored: RawRows.bytes(handle, 7)) }
}
