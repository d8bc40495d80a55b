/// An IP network: all the addresses that have the same leading bits.
public struct IPNetwork: Sendable, Hashable {
    /// The first address of the network.
    public let address: IPAddress
    /// How many leading bits the addresses share: 0 to 32 in an IPv4 network, 0 to 128 in an IPv6 network.
    public let prefixLength: Int

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, `[2001:db8::]/32`, or an address, which is a network of one address.
    ///
    /// A network of IPv4-mapped IPv6 addresses is the IPv4 network. A text with bits set after the prefix is rejected;
    /// the error names the network that may be meant.
    public init(_ text: String) throws(IPAddressError) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        let accepted = "accepted: an address, or a network such as 192.0.2.0/24 or 2001:db8::/32"
        guard let address = IPAddress.parse(String(parts[0])) else {
            throw IPAddressError("\"\(text)\" is not a network; \(accepted)")
        }
        let width = address.isIPv4 ? 32 : 128
        // The prefix of a network written as ::ffff:a.b.c.d counts the 96 bits before the IPv4 address, too.
        let offset = address.isIPv4 && parts[0].contains(":") ? 96 : 0
        var length = width
        if parts.count == 2 {
            let digits = parts[1]
            guard !digits.isEmpty, digits.utf8.count <= 3, digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
                let number = Int(digits), number >= offset, number - offset <= width
            else {
                throw IPAddressError(
                    "\"\(text)\": the prefix must be a number from \(offset) to \(offset + width); \(accepted)")
            }
            length = number - offset
        }
        self.init(of: address, ipv4Prefix: length, ipv6Prefix: length)
        guard self.address == address else {
            throw IPAddressError("\"\(text)\" has bits set after its prefix; the network is \(self)")
        }
    }

    /// The network that an address is in.
    ///
    /// - Parameters:
    ///   - ipv4Prefix: the prefix length for an IPv4 address, 0 to 32.
    ///   - ipv6Prefix: the prefix length for an IPv6 address, 0 to 128.
    public init(of address: IPAddress, ipv4Prefix: Int, ipv6Prefix: Int) {
        self.address = address.masked(ipv4Prefix: ipv4Prefix, ipv6Prefix: ipv6Prefix)
        prefixLength = address.isIPv4 ? min(max(0, ipv4Prefix), 32) : min(max(0, ipv6Prefix), 128)
    }

    /// Whether the address is in the network. An IPv6 network, even `::/0`, contains no IPv4 address.
    public func contains(_ other: IPAddress) -> Bool {
        other.isIPv4 == address.isIPv4
            && other.masked(ipv4Prefix: prefixLength, ipv6Prefix: prefixLength) == address
    }

    /// The first and the last address of the network.
    public var range: ClosedRange<IPAddress> {
        let bits = address.isIPv4 ? 96 + prefixLength : prefixLength
        // A shift by 64 or more gives 0.
        return
            address...IPAddress(
                high: address.high | (UInt64.max >> bits), low: address.low | (UInt64.max >> max(0, bits - 64)))
    }
}

extension IPNetwork: CustomStringConvertible {
    /// The canonical text, such as `192.0.2.0/24`.
    public var description: String { "\(address)/\(prefixLength)" }

    /// The canonical text, which is the address alone in a network of one address.
    public var shortDescription: String {
        prefixLength == (address.isIPv4 ? 32 : 128) ? "\(address)" : description
    }
}
