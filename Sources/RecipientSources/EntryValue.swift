import MailAddress

/// The meaning of a value in a source: a recipient, a whole domain, or something that lists no recipient.
///
/// Every kind of source parses its values here, so that the same value means the same everywhere.
///
/// Blanks, byte order marks and invisible characters around a value are ignored, and so is a `mailto:` or `SMTP:`
/// before it.
enum EntryValue {
    /// A recipient with its domain.
    case recipient(RecipientAddress)
    /// `@example.com`: every recipient of the domain, by its A-label.
    case catchAll(domain: String)
    /// A local part alone.
    case withoutDomain
    /// An address of another kind than SMTP, such as `X400:…`; the text is the kind.
    case otherProtocol(String)
    /// An address for which no mail passes the filter.
    case unreachable(reason: String)
    /// Not an address.
    case malformed(reason: String)

    /// Parses a value, which needn't be text.
    init(_ value: UnsafeBufferPointer<UInt8>) {
        // Most values of an Active Directory begin with it.
        let value = value.hasPrefixIgnoringCase("smtp:") ? value.slice(5..<value.count) : value
        // Most values are plain addresses: one pass, nothing allocated.
        if let first = value.first, !first.isSpace, first != UInt8(ascii: "@"),
            let address = try? RecipientAddress(path: value), address.hasDomain, Self.isPlain(value)
        {
            self.init(address)
        } else {
            self = Self.parse(value)
        }
    }

    /// Whether a value is printable ASCII without characters that have a meaning of their own.
    private static func isPlain(_ value: UnsafeBufferPointer<UInt8>) -> Bool {
        value.allSatisfy { byte in
            byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: ":") && byte != UInt8(ascii: "*")
                && byte != UInt8(ascii: "\"")
        }
    }

    private init(_ address: RecipientAddress) {
        guard address.isRouted else {
            self = .recipient(address)
            return
        }
        let part = address.localPart
        let sign = part.contains("@") ? "a second \"@\"" : part.contains("%") ? "a \"%\"" : "a \"!\""
        self = .unreachable(
            reason:
                "its local part has \(sign), which routes mail to another server; mail to such addresses is rejected")
    }

    /// Parses a value that isn't a plain address.
    private static func parse(_ value: UnsafeBufferPointer<UInt8>) -> EntryValue {
        guard let whole = String(validating: value, as: UTF8.self) else {
            return .malformed(reason: "it is not UTF-8")
        }
        var text = trimmed(whole)
        if let colon = text.utf8.firstIndex(of: UInt8(ascii: ":")) {
            let scheme = String(text[..<colon])
            let rest = text[text.utf8.index(after: colon)...]
            if rest.hasPrefix("//"), isAddressType(scheme) {
                return .unreachable(reason: "it is a URL; accepted: an address such as user@example.com")
            }
            if isAddressType(scheme) {
                guard ["smtp", "mailto"].contains(scheme.lowercased()) else { return .otherProtocol(scheme) }
                text = trimmed(String(rest))
            }
        }
        guard !text.isEmpty else { return .malformed(reason: "it is empty") }
        if let reason = severalAddresses(text) { return .malformed(reason: reason) }
        if text.hasPrefix("@") { return parseDomain(String(text.dropFirst())) }
        if let scalar = invisible(inLocalPartOf: text) {
            return .unreachable(
                reason: "it has the invisible character \(name(scalar)), which no sender types; retype the address")
        }
        do throws(AddressError) {
            let address = try RecipientAddress(path: text)
            guard address.hasDomain else { return .withoutDomain }
            let part = address.localPart
            if part.isEmpty { return .malformed(reason: "nothing is before the \"@\"") }
            if part.hasPrefix("*") || part.hasSuffix("*") {
                return .unreachable(
                    reason:
                        "\"*\" is no wildcard here; accepted: one recipient, or \"@\(address.domain)\" "
                        + "for every recipient of the domain")
            }
            return EntryValue(address)
        } catch {
            return .malformed(reason: "\(error)")
        }
    }

    private static func parseDomain(_ text: String) -> EntryValue {
        do throws(AddressError) {
            return .catchAll(domain: try DomainName(text).aLabel)
        } catch {
            return .malformed(reason: "\"\(escapedASCII(text.utf8))\" is not a domain: \(error)")
        }
    }

    /// A text without blank and invisible characters at both ends.
    static func trimmed(_ text: String) -> String {
        func isBlank(_ scalar: Unicode.Scalar) -> Bool { isInvisible(scalar) || scalar.properties.isWhitespace }
        let scalars = text.unicodeScalars
        guard let first = scalars.firstIndex(where: { !isBlank($0) }),
            let last = scalars.lastIndex(where: { !isBlank($0) })
        else { return "" }
        return String(text[first...last])
    }

    /// The fault of a text that seems to be several addresses, such as `a@x, b@x`; nil for any other.
    private static func severalAddresses(_ text: String) -> String? {
        guard !text.contains("\"") else { return nil }
        for separator in [",", ";", " ", "\t", "|"] {
            let parts = text.split(separator: Character(separator)).filter { $0.contains("@") }
            if parts.count > 1 {
                return "it holds \(parts.count) addresses; accepted: one address a value"
            }
        }
        return nil
    }

    private static func invisible(inLocalPartOf text: String) -> Unicode.Scalar? {
        guard let at = text.lastIndex(of: "@") else { return nil }
        let scalars = Array(text[..<at].unicodeScalars)
        for (place, scalar) in scalars.enumerated()
        where isInvisible(scalar) || !scalar.isASCII && scalar.properties.isWhitespace {
            // Some scripts need joiners between letters.
            let isJoiner = scalar.value == 0x200c || scalar.value == 0x200d
            if isJoiner, place > 0, !scalars[place - 1].isASCII, scalars.indices.contains(place + 1),
                !scalars[place + 1].isASCII
            {
                continue
            }
            return scalar
        }
        return nil
    }

    /// Whether a character has no shape of its own: Unicode's format characters, fillers and variation selectors,
    /// control characters beyond ASCII, and the replacement character.
    private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
        guard !scalar.isASCII else { return false }
        switch scalar.properties.generalCategory {
        case .format, .control, .lineSeparator, .paragraphSeparator: return true
        default: return scalar.properties.isDefaultIgnorableCodePoint || scalar.value == 0xfffd
        }
    }

    private static func name(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16, uppercase: true)
        let code = "U+" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
        return scalar.properties.name.map { "\(code) (\($0.lowercased()))" } ?? code
    }

    /// Whether the text before a colon can name a kind of address, such as `SMTP`, `X400` or `sip`.
    private static func isAddressType(_ text: String) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= 32 else { return false }
        func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte | 0x20) }
        return isLetter(first)
            && text.utf8.allSatisfy { isLetter($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x5f }
    }
}
