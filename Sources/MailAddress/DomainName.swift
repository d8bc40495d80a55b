internal import CIDN2
internal import Glibc

/// A domain name in canonical form: the form of a ``RecipientAddress``'s domain.
public struct DomainName: Sendable, Hashable, CustomStringConvertible {
    /// The A-labels in lower case, without a trailing dot; or an address literal with its brackets.
    public let aLabel: String

    /// The canonical form of a name in ASCII (also A-labels) or UTF-8 (U-labels), or of an address literal.
    ///
    /// UTF-8 is converted by UTS #46, nontransitional. The A-labels may have 63 bytes each, 255 together.
    public init(_ text: String) throws(AddressError) {
        let domain = try text.utf8.span.withUnsafeBufferPointer { (bytes) throws(AddressError) in
            try CanonicalDomain(bytes)
        }
        aLabel = domain.bytes.span.withUnsafeBufferPointer {
            String(decoding: $0.prefix(domain.count), as: UTF8.self)
        }
    }

    /// The A-label.
    public var description: String { aLabel }
}

/// The canonical form of a domain, without heap memory.
struct CanonicalDomain {
    private(set) var bytes: InlineArray<256, UInt8> = InlineArray(repeating: 0)
    private(set) var count = 0

    /// The canonical form of a domain in ASCII or UTF-8, or of an address literal; one dot at the end is dropped.
    init(_ text: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        var text = text
        if text.count > 1, text[text.count - 1] == .dot {
            text = UnsafeBufferPointer(rebasing: text.dropLast())
        }
        guard let first = text.first else { throw .emptyDomain }
        if first == UInt8(ascii: "[") {
            try appendLiteral(text)
        } else if text.allSatisfy({ $0 < 0x80 }) {
            try appendName(text)
        } else {
            try appendInternationalized(text)
        }
    }

    private mutating func appendName(_ name: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        var syntax = DomainSyntax()
        for byte in name {
            guard count < DomainSyntax.maximumCount else { throw .domainTooLong }
            let byte = byte.lowercasedASCII
            guard syntax.accepts(byte) else { throw syntax.error ?? .emptyDomain }
            append(byte)
        }
        guard syntax.isComplete else { throw syntax.error ?? .emptyDomain }
    }

    /// Appends the A-labels by UTS #46, nontransitional, as browsers and Postfix do; `idn2_lookup_u8`.
    private mutating func appendInternationalized(_ name: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        guard name.count <= 4 * DomainSyntax.maximumCount else { throw .domainTooLong }
        // libidn2 would report another error for these.
        for byte in name where byte < 0x80 && byte != .dot && byte != .hyphen {
            guard byte.isLetter || byte.isDigit || byte == UInt8(ascii: "_") else { throw .domainCharacter(byte) }
        }
        guard String(validating: name, as: UTF8.self) != nil else { throw .invalidUTF8 }
        var terminated = Array(name)
        terminated.append(0)
        var output: UnsafeMutablePointer<UInt8>?
        let flags = Int32(bitPattern: IDN2_NFC_INPUT.rawValue | IDN2_NONTRANSITIONAL.rawValue)
        let code = idn2_lookup_u8(terminated, &output, flags)
        defer { idn2_free(output) }
        guard code == IDN2_OK.rawValue, let output else {
            switch code {
            case IDN2_TOO_BIG_LABEL.rawValue, IDN2_PUNYCODE_BIG_OUTPUT.rawValue: throw .labelTooLong
            case IDN2_TOO_BIG_DOMAIN.rawValue: throw .domainTooLong
            default: throw .internationalizedDomain(code)
            }
        }
        try appendName(UnsafeBufferPointer(start: output, count: strlen(output)))
    }

    /// Appends `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3), with the address in its shortest form.
    private mutating func appendLiteral(_ literal: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        guard literal.count > 2, literal[literal.count - 1] == UInt8(ascii: "]") else { throw .addressLiteral }
        let inner = literal[1..<literal.count - 1]
        let tag = StaticString("ipv6:")
        let isIPv6 = tag.withUTF8Buffer { tag in
            inner.count > tag.count && zip(inner, tag).allSatisfy { $0.lowercasedASCII == $1 }
        }
        let digits = isIPv6 ? inner.dropFirst(tag.utf8CodeUnitCount) : inner
        // INET6_ADDRSTRLEN: 46 bytes with the NUL.
        guard digits.count < 46, !digits.contains(0) else { throw .addressLiteral }
        var text: InlineArray<46, CChar> = InlineArray(repeating: 0)
        for (position, byte) in digits.enumerated() { text[position] = CChar(bitPattern: byte) }
        var address = in6_addr()
        let family = isIPv6 ? AF_INET6 : AF_INET
        var span = text.mutableSpan
        let isAddress = span.withUnsafeMutableBufferPointer { text in
            guard let start = text.baseAddress, inet_pton(family, start, &address) == 1 else { return false }
            return inet_ntop(family, &address, start, socklen_t(text.count)) != nil
        }
        guard isAddress else { throw .addressLiteral }
        append(UInt8(ascii: "["))
        if isIPv6 { tag.withUTF8Buffer { for byte in $0 { append(byte) } } }
        for position in text.indices {
            if text[position] == 0 { break }
            append(UInt8(bitPattern: text[position]))
        }
        append(UInt8(ascii: "]"))
    }

    private mutating func append(_ byte: UInt8) {
        guard count < bytes.count else { return }
        bytes[count] = byte
        count &+= 1
    }
}

/// Checks the syntax of an ASCII domain byte by byte: letters, digits, hyphens within labels, underscores, single dots.
///
/// As Postfix does at RCPT TO, it accepts underscores, which RFC 5321 section 4.1.2 doesn't have, and rejects domains
/// of digits only.
struct DomainSyntax {
    static let maximumCount = 255
    static let maximumLabelCount = 63

    /// The number of bytes of the label so far.
    private(set) var labelCount = 0
    private var endsInHyphen = false
    private var hasNonDigit = false
    /// Why a byte, or the end of the domain, was not accepted.
    private(set) var error: AddressError?

    /// Whether the next byte is accepted; letters must be in lower case.
    @inline(__always)
    mutating func accepts(_ byte: UInt8) -> Bool {
        if byte.isLetter || byte == UInt8(ascii: "_") {
            hasNonDigit = true
            endsInHyphen = false
        } else if byte.isDigit {
            endsInHyphen = false
        } else if byte == .dot {
            guard labelCount > 0 else { return fail(.emptyLabel) }
            guard !endsInHyphen else { return fail(.misplacedHyphen) }
            labelCount = 0
            return true
        } else if byte == .hyphen {
            guard labelCount > 0 else { return fail(.misplacedHyphen) }
            hasNonDigit = true
            endsInHyphen = true
        } else {
            return fail(.domainCharacter(byte))
        }
        labelCount &+= 1
        return labelCount <= Self.maximumLabelCount ? true : fail(.labelTooLong)
    }

    /// Whether the domain may end here.
    @inline(__always)
    var isComplete: Bool {
        mutating get {
            if labelCount == 0 { return fail(.emptyLabel) }
            if endsInHyphen { return fail(.misplacedHyphen) }
            return hasNonDigit ? true : fail(.numericDomain)
        }
    }

    private mutating func fail(_ error: AddressError) -> Bool {
        self.error = error
        return false
    }
}
