import Foundation
import GRDB
import GRDBSQLite

/// Adds tallies to the rows of a table, by calling SQLite directly.
struct TallyWriter {
    /// A row's key.
    struct Row {
        var kind: TallyKind
        var day: Int64
        var value: UnsafeRawBufferPointer
        var reason: Int64
        var domain: Int64
    }

    private let statement: Statement
    private let handle: OpaquePointer

    init(_ db: Database, table: String) throws {
        statement = try db.cachedStatement(
            sql: """
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
        handle = statement.sqliteStatement
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

    func add(_ row: Row, _ entry: Tally) throws {
        var code = sqlite3_bind_int64(handle, 1, row.kind.rawValue)
        code |= sqlite3_bind_int64(handle, 2, row.day)
        code |= bind(row.value, 3)
        code |= sqlite3_bind_int64(handle, 4, row.reason)
        code |= sqlite3_bind_int64(handle, 5, row.domain)
        code |= sqlite3_bind_int64(handle, 6, entry.count)
        code |= sqlite3_bind_int64(handle, 7, entry.first)
        code |= sqlite3_bind_int64(handle, 8, entry.last)
        var name = entry.name
        code |= name.withUTF8 { utf8 in
            utf8.withMemoryRebound(to: CChar.self) {
                sqlite3_bind_text(handle, 9, $0.baseAddress ?? Self.empty, CInt($0.count), Statement.copies)
            }
        }
        code |= bind(entry.peers, 10)
        code |= bind(entry.networks, 11)
        code |= sqlite3_bind_int64(handle, 12, Int64(row.kind.peerLimit))
        code |= sqlite3_bind_int64(handle, 13, Int64(row.kind.networkLimit))
        try statement.runOnce(bound: code)
    }

    /// Not NULL where there is nothing.
    nonisolated(unsafe) private static let empty: UnsafePointer<CChar> = {
        let place = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
        place.initialize(to: 0)
        return UnsafePointer(place)
    }()

    private func bind(_ bytes: UnsafeRawBufferPointer, _ column: CInt) -> CInt {
        sqlite3_bind_blob(
            handle, column, bytes.baseAddress ?? UnsafeRawPointer(Self.empty), CInt(bytes.count), Statement.copies)
    }

    private func bind(_ sketch: DistinctSketch, _ column: CInt) -> CInt {
        sketch.withStored { $0.isEmpty ? sqlite3_bind_null(handle, column) : bind($0, column) }
    }
}
