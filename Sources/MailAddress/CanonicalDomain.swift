internal import CIDN2
internal import Glibc

/// A domain in canonical form, in storage of its own.
struct CanonicalDomain {
    private(set) var bytes: InlineArray<256, UInt8> = InlineArray(repeating: 0)
    private(set) var count = 0

    /// The canonical form of a domain of ASCII or UTF-8, or of an address literal; one dot at its end is dropped.
    init(_ text: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        var text = text
        if text.count > 1, text[text.count - 1] == .dot {
            text = UnsafeBufferPointer(rebasing: text.dropLast())
        }
        guard let first = text.first else { throw .emptyDomain }
        if first == UInt8(ascii: "[") {
            try takeLiteral(text)
        } else if text.allSatisfy({ $0 < 0x80 }) {
            try takeName(text)
        } else {
            try takeInternationalized(text)
        }
    }

    private mutating func takeName(_ name: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        var syntax = DomainSyntax()
        for byte in name {
            guard count < DomainSyntax.maximumCount else { throw .domainTooLong }
            let byte = byte.lowercasedASCII
            guard syntax.accepts(byte) else { throw syntax.error ?? .emptyDomain }
            append(byte)
        }
        guard syntax.isComplete else { throw syntax.error ?? .emptyDomain }
    }

    /// UTS #46, nontransitional, as browsers and Postfix have it (`idn2_lookup_u8`).
    private mutating func takeInternationalized(_ name: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        guard name.count <= 4 * DomainSyntax.maximumCount else { throw .domainTooLong }
        // libidn2 would misname these.
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
        try takeName(UnsafeBufferPointer(start: output, count: strlen(output)))
    }

    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3), the address in its shortest form.
    private mutating func takeLiteral(_ literal: UnsafeBufferPointer<UInt8>) throws(AddressError) {
        guard literal.count > 2, literal[literal.count - 1] == UInt8(ascii: "]") else { throw .addressLiteral }
        let inner = literal[1..<literal.count - 1]
        let tag = StaticString("ipv6:")
        let isIPv6 = tag.withUTF8Buffer { tag in
            inner.count > tag.count && zip(inner, tag).allSatisfy { $0.lowercasedASCII == $1 }
        }
        let digits = isIPv6 ? inner.dropFirst(tag.utf8CodeUnitCount) : inner
        // The longest text is one of INET6_ADDRSTRLEN, 46 with its NUL.
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
