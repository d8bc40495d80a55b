/// A network of clients: all the addresses that share their leading bits.
public struct Network: Sendable, Hashable, CustomStringConvertible {
    /// The network's own address, the bits after the prefix all zero.
    public let address: ClientAddress
    /// How many leading bits count: 0 to 32 for IPv4, 0 to 128 for IPv6.
    public let prefixLength: Int

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, `[2001:db8::]/32`, or an address alone, which stands for itself.
    ///
    /// An IPv4-mapped IPv6 network becomes one of IPv4. An address with bits set after the prefix is refused, with the
    /// network that may be meant.
    public init(_ text: String) throws(AddressTextError) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        let accepted = "accepted: an address, or a network such as 192.0.2.0/24 or 2001:db8::/32"
        guard let address = ClientAddress.parse(String(parts[0])), let octets = address.octets else {
            throw AddressTextError("\"\(text)\" is no network; \(accepted)")
        }
        let width = if case .ipv4 = address { 32 } else { 128 }
        // What was written as ::ffff:a.b.c.d has its prefix counted from the beginning of the sixteen octets.
        let offset = width == 32 && parts[0].contains(":") ? 96 : 0
        var length = width
        if parts.count == 2 {
            let digits = parts[1]
            guard !digits.isEmpty, digits.utf8.count <= 3, digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
                let number = Int(digits), number >= offset, number - offset <= width
            else {
                throw AddressTextError(
                    "\"\(text)\": the prefix must be a number from \(offset) to \(offset + width); \(accepted)")
            }
            length = number - offset
        }
        let network = address.masked(ipv4Prefix: length, ipv6Prefix: length)
        guard let expected = network.octets, expected == octets else {
            throw AddressTextError(
                "\"\(text)\" has bits set after its prefix; the network is \(network)/\(length)")
        }
        self.address = network
        prefixLength = length
    }

    /// The network of a client: its address with as many leading bits as its family keeps; nil for a unix socket.
    public init?(of client: ClientAddress, ipv4Prefix: Int, ipv6Prefix: Int) {
        address = client.masked(ipv4Prefix: ipv4Prefix, ipv6Prefix: ipv6Prefix)
        switch client {
        case .ipv4: prefixLength = min(max(0, ipv4Prefix), 32)
        case .ipv6: prefixLength = min(max(0, ipv6Prefix), 128)
        case .unix: return nil
        }
    }

    /// Whether the network is of one address alone.
    public var isSingleAddress: Bool {
        if case .ipv4 = address { prefixLength == 32 } else { prefixLength == 128 }
    }

    /// Whether the address is in the network; a unix socket is in none.
    public func contains(_ client: ClientAddress) -> Bool {
        switch (address, client) {
        case (.ipv4(let network), .ipv4(let client)): (network ^ client) & ~(UInt32.max >> prefixLength) == 0
        case (.ipv6(let high, let low), .ipv6(let clientHigh, let clientLow)):
            (high ^ clientHigh) & ~(UInt64.max >> prefixLength) == 0
                && (low ^ clientLow) & ~(UInt64.max >> max(0, prefixLength - 64)) == 0
        default: false
        }
    }

    /// The network in canonical form, such as `192.0.2.0/24`.
    public var description: String { "\(address)/\(prefixLength)" }
}
