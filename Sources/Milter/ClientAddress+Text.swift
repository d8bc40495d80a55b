import Glibc

/// Why a text is no address or network, with what is accepted.
public struct AddressTextError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong, and what is accepted.
    public let description: String

    init(_ description: String) { self.description = description }
}

extension ClientAddress {
    /// Reads an IPv4 or IPv6 address in its usual text form; `[…]` around it or `IPv6:` before it, as MTAs write them,
    /// do no harm. An IPv4-mapped address becomes IPv4.
    public init(_ text: String) throws(AddressTextError) {
        guard let address = Self.parse(text) else {
            throw AddressTextError("\"\(text)\" is no address; accepted: 192.0.2.1 or 2001:db8::1")
        }
        self = address
    }

    static func parse(_ text: String) -> ClientAddress? {
        var text = text[...]
        if text.hasPrefix("[") && text.hasSuffix("]") && text.utf8.count > 2 { text = text.dropFirst().dropLast() }
        if text.utf8.count > 5, text.prefix(5).lowercased() == "ipv6:" {
            text = text.dropFirst(5)
            guard text.contains(":") else { return nil }
        }
        // inet_pton() would stop at a NUL and take what is before it.
        guard !text.utf8.contains(0) else { return nil }
        let string = String(text)
        if string.contains(":") {
            var address = in6_addr()
            guard inet_pton(AF_INET6, string, &address) == 1 else { return nil }
            return ClientAddress(&address)
        }
        var address = in_addr()
        guard inet_pton(AF_INET, string, &address) == 1 else { return nil }
        return .ipv4(UInt32(bigEndian: address.s_addr))
    }
}

extension ClientAddress: CustomStringConvertible {
    /// The canonical text form: dotted decimal, or RFC 5952; `unix` for a unix socket.
    public var description: String {
        switch self {
        case .ipv4(let address):
            return [24, 16, 8, 0].map { String(address >> $0 & 0xff) }.joined(separator: ".")
        case .ipv6(let high, let low):
            let groups = [high, low].flatMap { half in [48, 32, 16, 0].map { half >> $0 & 0xffff } }
            guard let zeros = Self.longestZeros(groups) else { return Self.text(groups[...]) }
            return "\(Self.text(groups[..<zeros.lowerBound]))::\(Self.text(groups[zeros.upperBound...]))"
        case .unix: return "unix"
        }
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
