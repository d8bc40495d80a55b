import CMilter
import Glibc

/// The address of an SMTP client.
public enum ClientAddress: Sendable, Hashable {
    /// An IPv4 address in host order; an IPv4-mapped IPv6 address is one too.
    case ipv4(UInt32)
    /// An IPv6 address, its first and its last eight octets in host order.
    case ipv6(high: UInt64, low: UInt64)
    /// A process on the MTA's own machine, over a unix socket.
    case unix

    /// The address made of sixteen octets, IPv4-mapped addresses becoming IPv4.
    public init(high: UInt64, low: UInt64) {
        if high == 0 && low >> 32 == 0xffff {
            self = .ipv4(UInt32(truncatingIfNeeded: low))
        } else {
            self = .ipv6(high: high, low: low)
        }
    }

    /// The address in a socket address; nil for nil and for a family that is none of the three.
    init?(_ address: UnsafePointer<sockaddr>?) {
        guard let address else { return nil }
        let bytes = UnsafeRawPointer(address)
        switch Int32(address.pointee.sa_family) {
        case AF_INET:
            let address = bytes.loadUnaligned(as: sockaddr_in.self)
            self = .ipv4(UInt32(bigEndian: address.sin_addr.s_addr))
        case AF_INET6:
            var address = bytes.loadUnaligned(as: sockaddr_in6.self).sin6_addr
            self.init(&address)
        case AF_UNIX: self = .unix
        default: return nil
        }
    }

    init(_ address: inout in6_addr) {
        let (high, low) = withUnsafeBytes(of: &address) { bytes in
            (
                UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
        self.init(high: high, low: low)
    }

    /// The sixteen octets of the address as two numbers, IPv4 as IPv4-mapped (`::ffff:0:0/96`); nil for a unix socket.
    public var octets: (high: UInt64, low: UInt64)? {
        switch self {
        case .ipv4(let address): (0, 0xffff_0000_0000 | UInt64(address))
        case .ipv6(let high, let low): (high, low)
        case .unix: nil
        }
    }

    /// The address with all but its leading bits zero: the network that the client is counted in.
    ///
    /// - Parameters:
    ///   - ipv4Prefix: how many bits an IPv4 address keeps, 0 to 32; beyond these it keeps all or none.
    ///   - ipv6Prefix: how many bits an IPv6 address keeps, 0 to 128, likewise.
    public func masked(ipv4Prefix: Int, ipv6Prefix: Int) -> ClientAddress {
        switch self {
        case .ipv4(let address): .ipv4(address & ~(UInt32.max >> max(0, ipv4Prefix)))
        case .ipv6(let high, let low):
            .ipv6(
                high: high & ~(UInt64.max >> max(0, ipv6Prefix)),
                low: low & ~(UInt64.max >> max(0, ipv6Prefix &- 64)))
        case .unix: .unix
        }
    }
}
