import GRDB
import GRDBSQLite

/// Adds to counts. A flood of made-up domains makes thousands of these a transaction, so SQLite is spoken to directly, as
/// for detail rows.
struct CounterWriter {
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
        unit: TimeUnit, start: Int64, reason: Int64, domain: Int64, outcome: UInt8, observed: Bool, count: Int64
    ) throws {
        var code = sqlite3_bind_int64(handle, 1, unit.rawValue)
        code |= sqlite3_bind_int64(handle, 2, start)
        code |= sqlite3_bind_int64(handle, 3, reason)
        code |= sqlite3_bind_int64(handle, 4, domain)
        code |= sqlite3_bind_int64(handle, 5, Int64(outcome))
        code |= sqlite3_bind_int64(handle, 6, observed ? 1 : 0)
        code |= sqlite3_bind_int64(handle, 7, count)
        try statement.runOnce(bound: code)
    }
}
