import GRDB
import GRDBSQLite

/// The statement that inserts detail rows. It binds the texts in place, with SQLite's own functions: most of a flood's work is done here.
struct DetailStatement {
    private let statement: Statement
    private let handle: OpaquePointer

    init(_ db: Database) throws {
        statement = try db.cachedStatement(
            sql: """
                INSERT INTO detail (id, time, outcome, observed, reason, domain, authenticated, client,
                    recipient, sender, client_name, helo, session, mta, reply)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """)
        handle = statement.sqliteStatement
    }

    func insert(_ record: DetailRecord, id: Int64, reason: Int64, domain: Int64) throws {
        var code = sqlite3_bind_int64(handle, 1, id)
        code |= sqlite3_bind_int64(handle, 2, record.time)
        code |= sqlite3_bind_int64(handle, 3, Int64(record.outcome.rawValue))
        code |= sqlite3_bind_int64(handle, 4, record.observed ? 1 : 0)
        code |= sqlite3_bind_int64(handle, 5, reason)
        code |= sqlite3_bind_int64(handle, 6, domain)
        code |= sqlite3_bind_int64(handle, 7, record.authenticated ? 1 : 0)
        code |= record.client.withStored { bytes in
            // A nil destructor: the bytes stay in place until the statement has run.
            bytes.isEmpty
                ? sqlite3_bind_null(handle, 8)
                : sqlite3_bind_blob(handle, 8, bytes.baseAddress, CInt(bytes.count), Statement.copies)
        }
        var column: CInt = 9
        record.forEachText { field, bytes in
            if field == .domainName { return }
            code |= bind(bytes, column)
            column += 1
        }
        try statement.runOnce(bound: code)
    }

    /// Removes the bindings, which point into buffers that are about to be reused.
    func finish() {
        sqlite3_clear_bindings(handle)
    }

    private func bind(_ bytes: UnsafeRawBufferPointer, _ column: CInt) -> CInt {
        if StoredText.isPlain(bytes) {
            return sqlite3_bind_text(
                handle, column, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), CInt(bytes.count), nil)
        }
        var text = StoredText.escaped(bytes)
        return text.withUTF8 { utf8 in
            utf8.withMemoryRebound(to: CChar.self) {
                sqlite3_bind_text(handle, column, $0.baseAddress, CInt($0.count), Statement.copies)
            }
        }
    }
}

/// The statement that adds to counters. A flood of made-up domains needs thousands in a transaction, so this uses SQLite's own functions, too.
struct CounterStatement {
    private let statement: Statement
    private let handle: OpaquePointer

    init(_ db: Database) throws {
        statement = try db.cachedStatement(
            sql: """
                INSERT INTO counter (unit, start, reason, domain, outcome, observed, count) VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET count = count + excluded.count
                """)
        handle = statement.sqliteStatement
    }

    func add(
        unit: TimeUnit, start: Int64, reason: Int64, domain: Int64, outcome: Outcome, observed: Bool, count: Int64
    ) throws {
        var code = sqlite3_bind_int64(handle, 1, unit.rawValue)
        code |= sqlite3_bind_int64(handle, 2, start)
        code |= sqlite3_bind_int64(handle, 3, reason)
        code |= sqlite3_bind_int64(handle, 4, domain)
        code |= sqlite3_bind_int64(handle, 5, Int64(outcome.rawValue))
        code |= sqlite3_bind_int64(handle, 6, observed ? 1 : 0)
        code |= sqlite3_bind_int64(handle, 7, count)
        try statement.runOnce(bound: code)
    }
}
