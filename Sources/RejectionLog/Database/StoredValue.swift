package import Foundation
import GRDB
package import System

/// The error for a value in the database that no filter has written.
struct DamagedValue: Error {
    /// The end of the sentence "the rejection log is damaged: …".
    let words: String
}

/// Counts of the database, accepted only within bounds in which sums can't overflow.
enum StoredCount {
    /// More recipients than ten years of a hundred thousand a second.
    static let limit: Int64 = 1 << 45

    /// The count, or an error for a count out of bounds. A count is below zero where the count of a foreign domain was
    /// moved to another row.
    static func checked(_ count: Int64) throws -> Int64 {
        guard count.magnitude <= UInt64(limit) else {
            throw DamagedValue(words: "a count of \(count) recipients is out of range")
        }
        return count
    }

    /// The count, or an error for a count out of bounds or below zero.
    static func positive(_ count: Int64) throws -> Int64 {
        guard count >= 0 else { throw DamagedValue(words: "a count of \(count) recipients is below zero") }
        return try checked(count)
    }
}

extension Row {
    /// The value of a column, or an error for a value of another type, which would trap in GRDB's subscript.
    func value<Value: DatabaseValueConvertible>(_ index: Int) throws -> Value {
        try decode(Value.self, atIndex: index)
    }

    /// The value of a column that may be NULL.
    func optional<Value: DatabaseValueConvertible>(_ index: Int) throws -> Value? {
        try decode(Value?.self, atIndex: index)
    }

    func count(_ index: Int) throws -> Int { Int(try StoredCount.checked(value(index))) }
}

extension Database {
    /// The only count of a query, not below zero; 0 without a row.
    func count(_ sql: String, _ arguments: StatementArguments = []) throws -> Int {
        guard let row = try Row.fetchOne(self, sql: sql, arguments: arguments) else { return 0 }
        return Int(try StoredCount.positive(row.optional(0) ?? 0))
    }

    /// The only integer of a query; nil without a row, and for NULL.
    func integer(_ sql: String, _ arguments: StatementArguments = []) throws -> Int64? {
        try Int64.fetchOne(self, sql: sql, arguments: arguments)
    }

    func state(_ name: String) throws -> Int64? { try integer("SELECT value FROM state WHERE name = ?", [name]) }

    func setState(_ name: String, to value: Int64) throws {
        try cachedStatement(sql: "INSERT OR REPLACE INTO state VALUES (?, ?)").execute(arguments: [name, value])
    }

    /// The ids of all reasons by name.
    func reasonIDs() throws -> [String: Int64] {
        try Row.fetchAll(self, sql: "SELECT name, id FROM reason").reduce(into: [:]) { ids, row in
            ids[try row.value(0)] = try row.value(1) as Int64
        }
    }
}

extension Outcome {
    /// Reads the number in the database; a number that isn't an outcome is a rejection.
    init(stored number: Int64) { self = UInt8(exactly: number).flatMap(Self.init(rawValue:)) ?? .rejected }
}

/// Text as the database holds it: the client's bytes if they are UTF-8 without NUL, else with NUL and all bytes from
/// 0x80 on written as `\xNN`.
enum StoredText {
    static func string(_ bytes: UnsafeRawBufferPointer) -> String {
        isPlain(bytes) ? String(decoding: bytes, as: UTF8.self) : escaped(bytes)
    }

    /// Whether the bytes can be stored unchanged.
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
            case 0: text += "\\x00"
            case 0x80...: text += "\\x" + String(byte, radix: 16)
            default: text.unicodeScalars.append(Unicode.Scalar(byte))
            }
        }
        return text
    }
}

/// Times as the database holds them, in milliseconds since 1970.
package enum Timestamp {
    /// Milliseconds of a day.
    static let day: Int64 = 86_400_000

    /// Milliseconds since 1970, clamped to the times that the log can hold.
    package static func milliseconds(since1970 date: Date) -> Int64 {
        let value = (date.timeIntervalSince1970 * 1000).rounded(.down)
        return Int64(min(max(value, 0), Double(CounterKey.maximumMinute) * 60_000))
    }

    /// The date of a stored time, clamped to the times that the log can hold.
    package static func date(milliseconds: Int64) -> Date {
        Date(timeIntervalSince1970: Double(min(max(milliseconds, 0), CounterKey.maximumMinute * 60_000)) / 1000)
    }
}

// A client's address as the database holds it: in 4 bytes (IPv4), in 16 (IPv6), or in none for a client without an
// address.
extension IPAddress {
    /// The text of a client's address in reports and log entries; empty for a client without an address.
    package var clientText: String { isUnspecified ? "" : description }

    /// The text of a client's network in reports, such as `192.0.2.0/24`; empty for a client without an address.
    package var clientNetworkText: String { isUnspecified ? "" : "\(self)/\(isIPv4 ? 24 : 64)" }

    /// The first address of the network under which reports count a client: the /24 of an IPv4 address, the /64 of an
    /// IPv6 address.
    package var clientNetwork: IPAddress { masked(ipv4Prefix: 24, ipv6Prefix: 64) }

    /// Calls `body` with the bytes that the database holds.
    package func withStored<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        if isUnspecified { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        if isIPv4 { return try withUnsafeBytes(of: UInt32(truncatingIfNeeded: low).bigEndian, body) }
        return try withUnsafeBytes(of: (high.bigEndian, low.bigEndian), body)
    }

    /// The bytes that the database holds.
    package var stored: Data { withStored { Data($0) } }

    /// Reads the bytes that the database holds; any other number of bytes than 4 and 16 is a client without an address.
    package init(stored bytes: UnsafeRawBufferPointer) {
        switch bytes.count {
        case 4:
            self.init(ipv4: UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
        case 16:
            self.init(
                high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        default:
            self = .unspecified
        }
    }
}
