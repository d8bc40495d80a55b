import Foundation
import RecipientIndex

/// The addresses `person00000000@example.com`, `person00000001@example.com`, …: all of one length, in the order of
/// their numbers.
struct Addresses {
    private var bytes = Array("person00000000@example.com".utf8)

    /// Calls `body` with the address of a number below 100 million.
    mutating func with<R>(_ number: Int, _ body: (UnsafeMutableBufferPointer<UInt8>) throws -> R) rethrows -> R {
        try bytes.withUnsafeMutableBufferPointer { bytes in
            var rest = number
            for place in stride(from: 13, through: 6, by: -1) {
                bytes[place] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            }
            return try body(bytes)
        }
    }

    static func address(_ number: Int) -> String {
        var addresses = Addresses()
        return addresses.with(number) { String(decoding: $0, as: UTF8.self) }
    }

    /// Publishes an index of the first `count` addresses.
    static func build(_ path: String, _ count: Int) throws {
        var builder = IndexBuilder()
        builder.reserve(count)
        var addresses = Addresses()
        for number in 0..<count { addresses.with(number) { builder.add(UnsafeBufferPointer($0)) } }
        _ = try builder.publish(to: path, created: Date(), generation: 1, sources: [])
    }
}
