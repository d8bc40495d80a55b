import GRDB
import GRDBSQLite

/// Where thousands of rows go in at once, SQLite is spoken to directly: values are bound to GRDB's prepared statement in place.
extension Statement {
    /// `SQLITE_TRANSIENT`: SQLite takes a copy of what is bound.
    static var copies: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

    /// Runs the statement once and makes it ready for the next values (`sqlite3_step`, `sqlite3_reset`).
    ///
    /// - Parameter bound: what all calls that bound its values have returned, taken together with `|`.
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
