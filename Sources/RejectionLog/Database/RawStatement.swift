import Foundation
import GRDB
import GRDBSQLite

// The tables with thousands of rows a transaction and millions a report are written and read by SQLite's own functions,
// through GRDB's prepared statements: values are bound and read in place, and a row costs no object.

/// A statement that writes a row at a time: the values are bound in the order of its parameters, then it runs.
struct RawStatement {
    private let statement: Statement
    private let handle: OpaquePointer
    private var parameter: CInt = 0
    /// The results of all calls that bound a value, combined with `|`.
    private var code = SQLITE_OK

    init(_ db: Database, _ sql: String) throws {
        statement = try db.cachedStatement(sql: sql)
        handle = statement.sqliteStatement
    }

    mutating func bind(_ value: Int64) {
        parameter &+= 1
        code |= sqlite3_bind_int64(handle, parameter, value)
    }

    mutating func bindNull() {
        parameter &+= 1
        code |= sqlite3_bind_null(handle, parameter)
    }

    /// Binds a blob; SQLite copies the bytes.
    mutating func bind(blob bytes: UnsafeRawBufferPointer) {
        parameter &+= 1
        code |=
            bytes.isEmpty
            ? sqlite3_bind_zeroblob(handle, parameter, 0)
            : sqlite3_bind_blob(handle, parameter, bytes.baseAddress, CInt(bytes.count), Self.copies)
    }

    /// Binds a sketch; NULL for an empty one.
    mutating func bind(_ sketch: DistinctSketch) {
        sketch.withStored { $0.isEmpty ? bindNull() : bind(blob: $0) }
    }

    /// Binds a text; SQLite copies it.
    mutating func bind(_ text: String) {
        parameter &+= 1
        code |= sqlite3_bind_text(handle, parameter, text, CInt(text.utf8.count), Self.copies)
    }

    /// Binds a text that SQLite reads in place: the bytes must stay until ``clearBindings()``.
    mutating func bind(inPlace bytes: UnsafeRawBufferPointer) {
        guard StoredText.isPlain(bytes) else { return bind(StoredText.escaped(bytes)) }
        parameter &+= 1
        let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
        code |= sqlite3_bind_text(handle, parameter, start, CInt(bytes.count), nil)
    }

    /// Runs the statement and prepares it for the next row; `sqlite3_step`, `sqlite3_reset`.
    mutating func run() throws {
        defer { (parameter, code) = (0, SQLITE_OK) }
        guard code == SQLITE_OK else { throw DatabaseError(code, handle) }
        let result = sqlite3_step(handle)
        let reset = sqlite3_reset(handle)
        guard result == SQLITE_DONE else { throw DatabaseError(reset, handle) }
    }

    /// Removes the bindings, before the memory that they point to is reused.
    func clearBindings() { sqlite3_clear_bindings(handle) }

    /// `SQLITE_TRANSIENT`: SQLite copies the bound value.
    private static var copies: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }
}

extension DatabaseError {
    /// The error of the last call on the statement's connection.
    fileprivate init(_ code: CInt, _ handle: OpaquePointer) {
        self.init(
            resultCode: ResultCode(rawValue: code), message: String(cString: sqlite3_errmsg(sqlite3_db_handle(handle))))
    }
}

/// A row of a query, read in place: up to a million rows a second. It is valid until the next row.
struct RawRow {
    private let handle: OpaquePointer

    static func forEach(
        _ db: Database, _ sql: String, arguments: StatementArguments, _ body: (RawRow) throws -> Void
    ) throws {
        let statement = try db.makeStatement(sql: sql)
        try statement.setArguments(arguments)
        let handle = statement.sqliteStatement
        defer { sqlite3_reset(handle) }
        while true {
            switch sqlite3_step(handle) {
            case SQLITE_ROW: try body(RawRow(handle: handle))
            case SQLITE_DONE: return
            case let code: throw DatabaseError(code, handle)
            }
        }
    }

    func integer(_ column: CInt) -> Int64 { sqlite3_column_int64(handle, column) }

    func bytes(_ column: CInt) -> UnsafeRawBufferPointer {
        let start = sqlite3_column_blob(handle, column)
        return UnsafeRawBufferPointer(start: start, count: start == nil ? 0 : Int(sqlite3_column_bytes(handle, column)))
    }
}

/// A row of the table `detail`.
struct DetailRow {
    private let row: RawRow

    /// Calls `body` with each detail row `d` of the condition.
    static func forEach(
        _ db: Database, where condition: String, arguments: StatementArguments, _ body: (DetailRow) throws -> Void
    ) throws {
        let sql = """
            SELECT d.id, d.time, d.reason, d.domain, d.client, d.recipient, d.sender, d.client_name, d.helo, d.mta,
                d.reply, d.outcome, d.observed
            FROM detail d WHERE \(condition)
            """
        try RawRow.forEach(db, sql, arguments: arguments) { try body(DetailRow(row: $0)) }
    }

    var id: Int64 { row.integer(0) }
    var time: Int64 { row.integer(1) }
    var reason: Int64 { row.integer(2) }
    var domain: Int64 { row.integer(3) }
    var client: UnsafeRawBufferPointer { row.bytes(4) }
    var recipient: UnsafeRawBufferPointer { row.bytes(5) }
    var sender: UnsafeRawBufferPointer { row.bytes(6) }
    var clientName: UnsafeRawBufferPointer { row.bytes(7) }
    var helo: UnsafeRawBufferPointer { row.bytes(8) }
    var mta: UnsafeRawBufferPointer { row.bytes(9) }
    var reply: UnsafeRawBufferPointer { row.bytes(10) }
    var outcome: Outcome { Outcome(stored: row.integer(11)) }
    var observed: Bool { row.integer(12) != 0 }
    /// The day (UTC) since 1970.
    var day: Int64 { time / Timestamp.day }
}

/// A row of the tables `tally` and `open_tally`.
struct TallyRow {
    /// The columns that the query must read, in this order.
    static let columns = "value, reason, count, first, last, name, peers, networks"

    let row: RawRow

    var value: UnsafeRawBufferPointer { row.bytes(0) }
    var reason: Int64 { row.integer(1) }
    var count: Int64 { row.integer(2) }
    var first: Int64 { row.integer(3) }
    var last: Int64 { row.integer(4) }
    var name: UnsafeRawBufferPointer { row.bytes(5) }
    var peers: DistinctSketch { DistinctSketch(stored: row.bytes(6)) }
    var networks: DistinctSketch { DistinctSketch(stored: row.bytes(7)) }
}

/// Adds tallies to the rows of `tally` or `open_tally`.
struct TallyWriter {
    /// A row's key.
    struct Key {
        var kind: TallyKind
        var day: Int64
        var value: UnsafeRawBufferPointer
        var reason: Int64
        var domain: Int64
    }

    private var statement: RawStatement

    init(_ db: Database, table: String) throws {
        statement = try RawStatement(
            db,
            """
            INSERT INTO \(table) (kind, day, value, reason, domain, count, first, last, name, peers, networks)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
            ON CONFLICT DO UPDATE SET count = count + excluded.count, first = min(first, excluded.first),
                last = max(last, excluded.last),
                name = CASE WHEN excluded.name = '' THEN name ELSE excluded.name END,
                peers = CASE WHEN excluded.peers IS NULL OR peers = excluded.peers THEN peers
                    ELSE merged_sketch(peers, excluded.peers, ?12) END,
                networks = CASE WHEN excluded.networks IS NULL OR networks = excluded.networks THEN networks
                    ELSE merged_sketch(networks, excluded.networks, ?13) END
            """)
    }

    /// The SQL function that the statement calls.
    static var function: DatabaseFunction {
        DatabaseFunction("merged_sketch", argumentCount: 3, pure: true) { values in
            let limit = Int.fromDatabaseValue(values[2]) ?? 0
            var sketch = DistinctSketch()
            for value in values.prefix(2) {
                guard let data = Data.fromDatabaseValue(value) else { continue }
                sketch.merge(data.withUnsafeBytes(DistinctSketch.init(stored:)), limit: limit)
            }
            return sketch.withStored { Data($0) }
        }
    }

    mutating func add(_ key: Key, _ entry: Tally) throws {
        statement.bind(key.kind.rawValue)
        statement.bind(key.day)
        statement.bind(blob: key.value)
        statement.bind(key.reason)
        statement.bind(key.domain)
        statement.bind(entry.count)
        statement.bind(entry.first)
        statement.bind(entry.last)
        statement.bind(entry.name)
        statement.bind(entry.peers)
        statement.bind(entry.networks)
        statement.bind(Int64(key.kind.peerLimit))
        statement.bind(Int64(key.kind.networkLimit))
        try statement.run()
    }
}
