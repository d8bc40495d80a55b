package import Glibc

/// Why a text is not an IP address or network, and which texts are accepted.
public struct IPAddressError: Error, Sendable, Equatable, CustomStringConvertible {
    /// A sentence that quotes the text, says what is wrong, and names the accepted forms.
    public let description: String
}

/// An IP address in 128 bits. An IPv4 address is held as the IPv4-mapped IPv6 address, `::ffff:192.0.2.1`.
public struct IPAddress: Sendable, Hashable {
    /// The first eight bytes of the address, as a number.
    public let high: UInt64
    /// The last eight bytes of the address, as a number.
    public let low: UInt64

    /// The address of two halves; an IPv4-mapped IPv6 address is the IPv4 address.
    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// An IPv4 address, given as a number.
    @inlinable
    public init(ipv4: UInt32) { self.init(high: 0, low: 0xffff_0000_0000 | UInt64(ipv4)) }

    /// The address `::`, which no client has: it stands for a client without an address.
    @inlinable
    public static var unspecified: IPAddress { IPAddress(high: 0, low: 0) }

    /// Whether the address is `::`.
    @inlinable
    public var isUnspecified: Bool { high | low == 0 }

    /// Whether the address is an IPv4 address.
    @inlinable
    public var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

    /// The first address of the network that the address is in.
    ///
    /// - Parameters:
    ///   - ipv4Prefix: the number of leading bits that an IPv4 address keeps, clamped to 0 to 32.
    ///   - ipv6Prefix: the number of leading bits that an IPv6 address keeps, clamped to 0 to 128.
    @inlinable
    public func masked(ipv4Prefix: Int, ipv6Prefix: Int) -> IPAddress {
        let prefix = isIPv4 ? 96 + min(max(0, ipv4Prefix), 32) : max(0, ipv6Prefix)
        // A shift by 64 or more gives 0.
        return IPAddress(
            high: high & ~(UInt64.max >> prefix), low: low & ~(UInt64.max >> max(0, prefix &- 64)))
    }

    /// The address in a socket address; nil for nil and for another family, such as that of a unix socket.
    package init?(_ address: UnsafePointer<sockaddr>?) {
        guard let address else { return nil }
        let bytes = UnsafeRawPointer(address)
        switch Int32(address.pointee.sa_family) {
        case AF_INET: self.init(ipv4: UInt32(bigEndian: bytes.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr))
        case AF_INET6: self.init(bytes.loadUnaligned(as: sockaddr_in6.self).sin6_addr)
        default: return nil
        }
    }

    private init(_ address: in6_addr) {
        self = withUnsafeBytes(of: address) { bytes in
            IPAddress(
                high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
    }

    /// Reads an IPv4 or IPv6 address. `[…]` around the address and `IPv6:` before it, as MTAs write them, are allowed.
    public init(_ text: String) throws(IPAddressError) {
        guard let address = Self.parse(text) else {
            throw IPAddressError(description: "\"\(text)\" is not an IP address; accepted: 192.0.2.1 or 2001:db8::1")
        }
        self = address
    }

    static func parse(_ text: String) -> IPAddress? {
        var text = text[...]
        if text.hasPrefix("[") && text.hasSuffix("]") && text.utf8.count > 2 { text = text.dropFirst().dropLast() }
        if text.utf8.count > 5, text.prefix(5).lowercased() == "ipv6:" {
            text = text.dropFirst(5)
            guard text.contains(":") else { return nil }
        }
        // inet_pton() ignores what follows a NUL.
        guard !text.utf8.contains(0) else { return nil }
        let string = String(text)
        if string.contains(":") {
            var address = in6_addr()
            return inet_pton(AF_INET6, string, &address) == 1 ? IPAddress(address) : nil
        }
        var address = in_addr()
        return inet_pton(AF_INET, string, &address) == 1 ? IPAddress(ipv4: UInt32(bigEndian: address.s_addr)) : nil
    }
}

extension IPAddress: Comparable {
    /// Orders the addresses as 128-bit numbers.
    public static func < (first: IPAddress, second: IPAddress) -> Bool {
        (first.high, first.low) < (second.high, second.low)
    }
}

extension IPAddress: CustomStringConvertible {
    /// The canonical text: four decimal numbers, or the form of RFC 5952.
    public var description: String {
        if isIPv4 { return [24, 16, 8, 0].map { String(low >> $0 & 0xff) }.joined(separator: ".") }
        let groups = [high, low].flatMap { half in [48, 32, 16, 0].map { half >> $0 & 0xffff } }
        guard let zeros = Self.longestZeros(groups) else { return Self.text(groups[...]) }
        return "\(Self.text(groups[..<zeros.lowerBound]))::\(Self.text(groups[zeros.upperBound...]))"
    }

    /// The first of the longest runs of two or more zero groups, which `::` stands for (RFC 5952 section 4.2).
    private static func longestZeros(_ groups: [UInt64]) -> Range<Int>? {
        var longest: Range<Int>?
        var start = 0
        while start < groups.count {
            var end = start
            while end < groups.count && groups[end] == 0 { end += 1 }
            if end - start >= 2 && end - start > longest?.count ?? 0 { longest = start..<end }
            start = end + 1
        }
        return longest
    }

    private static func text(_ groups: ArraySlice<UInt64>) -> String {
        groups.map { String($0, radix: 16) }.joined(separator: ":")
    }
}

// MARK: Networks

/// An IP network: all the addresses that have the same leading bits.
public struct IPNetwork: Sendable, Hashable {
    /// The first address of the network.
    public let address: IPAddress
    /// The number of leading bits that the addresses share: 0 to 32 in an IPv4 network, 0 to 128 in an IPv6 network.
    public let prefixLength: Int

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, `[2001:db8::]/32`, or an address, which is a network of one address.
    ///
    /// A network of IPv4-mapped IPv6 addresses is the IPv4 network. A text with bits set after the prefix is rejected;
    /// the error names the network that may be meant.
    public init(_ text: String) throws(IPAddressError) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        let accepted = "accepted: an address, or a network such as 192.0.2.0/24 or 2001:db8::/32"
        guard let address = IPAddress.parse(String(parts[0])) else {
            throw IPAddressError(description: "\"\(text)\" is not a network; \(accepted)")
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
                    description:
                        "\"\(text)\": the prefix must be a number from \(offset) to \(offset + width); \(accepted)")
            }
            length = number - offset
        }
        self.init(of: address, ipv4Prefix: length, ipv6Prefix: length)
        guard self.address == address else {
            throw IPAddressError(description: "\"\(text)\" has bits set after its prefix; the network is \(self)")
        }
    }

    /// The network that an address is in, with a prefix length for each family.
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
