import GRDBSQLite

/// A row of a tally, read in place.
struct TallyRow {
    /// The columns in the order in which they are read.
    static let columns = "value, reason, count, first, last, name, peers, networks, day"

    let handle: OpaquePointer

    var value: UnsafeRawBufferPointer { RawRows.octets(handle, 0) }
    var reason: Int64 { sqlite3_column_int64(handle, 1) }
    var count: Int64 { sqlite3_column_int64(handle, 2) }
    var first: Int64 { sqlite3_column_int64(handle, 3) }
    var last: Int64 { sqlite3_column_int64(handle, 4) }
    var name: UnsafeRawBufferPointer { RawRows.octets(handle, 5) }
    var peers: DistinctSketch { DistinctSketch(stored: RawRows.octets(handle, 6)) }
    var networks: DistinctSketch { DistinctSketch(stored: RawRows.octets(handle, 7)) }
}
