import Foundation
import Glibc

extension LogAddress: CustomStringConvertible {
    /// In the text form of RFC 5952, an IPv4 address as a dotted quad; empty if unknown.
    public var description: String {
        withStored { bytes in
            guard !bytes.isEmpty else { return "" }
            var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            let family = bytes.count == 4 ? AF_INET : AF_INET6
            guard inet_ntop(family, bytes.baseAddress, &text, socklen_t(text.count)) != nil else { return "" }
            return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// The octets as the database holds them: 4, 16, or none if unknown.
    func withStored<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        if self == .unknown { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        if high == 0, low >> 32 == 0xFFFF {
            return try withUnsafeBytes(of: UInt32(truncatingIfNeeded: low).bigEndian, body)
        }
        return try withUnsafeBytes(of: (high.bigEndian, low.bigEndian), body)
    }

    /// The same as a value of the database.
    var stored: Data { withStored { Data($0) } }

    /// From the octets of the database.
    package init(stored bytes: UnsafeRawBufferPointer) {
        switch bytes.count {
        case 4:
            self.init(ipv4: UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
        case 16:
            self.init(
                high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        default:
            self = .unknown
        }
    }
}

extension LogAddress: Comparable {
    /// By the numbers that the addresses are.
    public static func < (first: LogAddress, second: LogAddress) -> Bool {
        (first.high, first.low) < (second.high, second.low)
    }
}
