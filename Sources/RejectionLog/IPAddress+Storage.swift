package import Foundation
package import System

// How the database holds a client's address: in 4 bytes (IPv4), in 16 (IPv6), or not at all, for a client without an
// address.
extension IPAddress {
    /// The text of a client's address in reports and log entries; empty for a client without an address.
    package var clientText: String { isUnspecified ? "" : description }

    /// The text of a client's network in reports, such as `192.0.2.0/24`; empty for a client without an address.
    package var clientNetworkText: String { isUnspecified ? "" : "\(self)/\(isIPv4 ? 24 : 64)" }

    /// The first address of the network under which reports count a client: the /24 of an IPv4 address, the /64 of an IPv6 address.
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
