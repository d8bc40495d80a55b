import GRDB

/// A value that no filter has written.
struct DamagedValue: Error {
    /// What is wrong with the value.
    let words: String
}

/// Counts of the database, accepted only within bounds in which sums can't overflow.
enum StoredCount {
    /// More recipients than ten years of a hundred thousand a second.
    static let limit: Int64 = 1 << 45

    /// The count, or an error for a count out of bounds. A count may be below zero where a foreign domain's count was
    /// moved to another row.
    static func checked(_ count: Int64) throws -> Int64 {
        guard count.magnitude <= UInt64(limit) else { throw DamagedValue(words: "it counts \(count) recipients") }
        return count
    }

    /// The count, or an error for a count out of bounds or below zero.
    static func positive(_ count: Int64) throws -> Int64 {
        guard count >= 0 else { throw DamagedValue(words: "it counts \(count) recipients") }
        return try checked(count)
    }
}

extension Row {
    /// The value of a column, or an error for a value of another type, which would trap in GRDB's subscript.
    func value<Value: DatabaseValueConvertible>(_ index: Int) throws -> Value {
        try decode(Value.self, atIndex: index)
    }

    /// The same for a column that may be NULL.
    func optional<Value: DatabaseValueConvertible>(_ index: Int) throws -> Value? {
        try decode(Value?.self, atIndex: index)
    }

    /// A count within bounds.
    func count(_ index: Int) throws -> Int { Int(try StoredCount.checked(value(index))) }
}

extension Database {
    /// The only count of a query, not below zero; 0 without a row.
    func count(_ sql: String, _ arguments: StatementArguments = []) throws -> Int {
        guard let row = try Row.fetchOne(self, sql: sql, arguments: arguments) else { return 0 }
        return Int(try StoredCount.positive(row.optional(0) ?? 0))
    }
}

/// Text as the database holds it: the client's bytes if they are UTF-8 without NUL, else with NUL and all bytes from
/// 0x80 on written as `\xNN`.
enum StoredText {
    static func string(_ bytes: UnsafeRawBufferPointer) -> String {
        if !isPlain(bytes) { return escaped(bytes) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// True if the bytes can be stored unchanged.
    static func isPlain(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var all: UInt8 = 0
        for byte in bytes {
            if byte == 0 { return false }
            all |= byte
        }
        return all < 0x80 || String(validating: bytes, as: UTF8.self) != nil
    }

    static func escaped(_ bytes: UnsafeRawBufferPointer) -> String {
        var text = ""
        for byte in bytes {
            switch byte {
            case 0, 0x80...: text += "\\x" + Self.hex(byte)
            default: text.unicodeScalars.append(Unicode.Scalar(byte))
            }
        }
        return text
    }

    static func hex(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16)
        return digits.count < 2 ? "0" + digits : digits
    }
}
