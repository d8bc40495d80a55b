import Glibc

/// The address and port of a TCP socket's own end; sockaddr_in(3), sockaddr_in6(3).
struct SocketName: Sendable, Equatable {
    private let family: Int32
    private let port: UInt16
    /// In network order: 4 bytes of IPv4, 16 of IPv6.
    private let address: [UInt8]

    /// The name in a socket address; nil for another family than IPv4 and IPv6.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 2 else { return nil }
        family = Int32(bytes.loadUnaligned(as: sa_family_t.self))
        let place: Range<Int>
        switch family {
        case AF_INET: place = 4..<8
        case AF_INET6: place = 8..<24
        default: return nil
        }
        guard bytes.count >= place.upperBound else { return nil }
        // The port in network order, of both families alike.
        port = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        address = Array(bytes[place])
    }

    /// Whether a connection with this name of its own end was made to a socket that listens here: at the very address, or at any.
    func takes(_ connection: SocketName) -> Bool {
        guard connection.port == port, connection.family == family else { return false }
        return address == connection.address || address.allSatisfy { $0 == 0 }
    }
}
