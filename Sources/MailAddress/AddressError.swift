internal import CIDN2

/// Why a text is not a recipient path or a domain name.
///
/// The rules are those of RFC 5321, sections 4.1.2 (syntax) and 4.5.3.1 (sizes), applied as leniently as Postfix does
/// at RCPT TO.
public enum AddressError: Error, Sendable, Equatable {
    /// There is no address: `<>`, blanks only, or a comment only.
    case empty
    /// A quoted string, comment, domain literal or angle bracket isn't closed or wasn't opened; the byte that stands
    /// alone.
    case unbalanced(UInt8)
    /// A control character; its Unicode scalar value.
    case controlCharacter(UInt8)
    /// A character that must be quoted, or isn't allowed in its place.
    case unexpectedCharacter(UInt8)
    /// Two words without a separator, as in `john doe@example.com` or `"john"doe@example.com`.
    case adjacentWords
    /// Text after the closing angle bracket.
    case textAfterPath
    /// The bytes are not UTF-8 (RFC 6531 section 3.3).
    case invalidUTF8
    /// The local part is empty and not quoted (`""@example.com` is valid).
    case emptyLocalPart
    /// The domain is empty.
    case emptyDomain
    /// A domain has two dots in a row or begins with a dot.
    case emptyLabel
    /// A label of a domain begins or ends with a hyphen.
    case misplacedHyphen
    /// A domain consists of digits and dots only; an IP address needs brackets.
    case numericDomain
    /// A character that isn't allowed in a domain.
    case domainCharacter(UInt8)
    /// The text in brackets is neither an IPv4 address nor `IPv6:` with an IPv6 address.
    case addressLiteral
    /// The domain has no A-label form; libidn2's error code (`idn2_rc`).
    case internationalizedDomain(Int32)
    /// A label of the domain is over 63 bytes.
    case labelTooLong
    /// The domain is over 255 bytes.
    case domainTooLong
    /// The canonical address is over 512 bytes.
    case pathTooLong
}

extension AddressError: CustomStringConvertible {
    /// A clause that says what is wrong and what is accepted.
    public var description: String {
        switch self {
        case .empty: "there is no address; accepted: for example <user@example.com>"
        case .unbalanced(let byte): "\(Self.name(byte)) stands alone; accepted: \(Self.pair(byte))"
        case .controlCharacter(let byte):
            "it contains the control character \(Self.hexadecimal(byte)); accepted: printable characters"
        case .unexpectedCharacter(let byte):
            "\(Self.name(byte)) is not allowed here; accepted: in a \"quoted\" local part"
        case .adjacentWords:
            "two words follow each other; accepted: joined by a dot, or \"quoted together\""
        case .textAfterPath: "text follows the closing \">\"; accepted: a blank and ESMTP parameters"
        case .invalidUTF8: "it is not valid UTF-8; accepted: ASCII and UTF-8"
        case .emptyLocalPart: "the local part before the @ is empty; accepted: at least one character"
        case .emptyDomain: "the domain after the @ is empty; accepted: for example example.com"
        case .emptyLabel: "the domain has an empty label; accepted: labels of 1 to 63 bytes, and one dot at the end"
        case .misplacedHyphen: "a label of the domain begins or ends with a hyphen; accepted: hyphens within labels"
        case .numericDomain:
            "the domain consists of digits only; accepted: a name, or an IP address in brackets, [192.0.2.1]"
        case .domainCharacter(let byte):
            "the domain contains \(Self.name(byte)); accepted: letters, digits, hyphens, underscores and dots"
        case .addressLiteral: "the text in brackets is not an IP address; accepted: [192.0.2.1] or [IPv6:2001:db8::1]"
        case .internationalizedDomain(let code):
            "the domain is not a valid internationalized name (\(String(cString: idn2_strerror(code)))); "
                + "accepted: names valid in IDNA 2008"
        case .labelTooLong: "a label of the domain is too long; accepted: at most 63 bytes"
        case .domainTooLong: "the domain is too long; accepted: at most 255 bytes"
        case .pathTooLong: "the address is too long; accepted: at most 512 bytes"
        }
    }

    /// The form in which a bracket or quote is accepted.
    private static func pair(_ byte: UInt8) -> String {
        switch byte {
        case UInt8(ascii: "("), UInt8(ascii: ")"): "\"(\" and \")\" in pairs"
        case UInt8(ascii: "<"), UInt8(ascii: ">"): "\"<\" and \">\" in pairs"
        case UInt8(ascii: "["), UInt8(ascii: "]"): "\"[\" and \"]\" in pairs"
        case .backslash: "a backslash before another character"
        default: "double quotes in pairs"
        }
    }

    /// The character in quotes, or its name or code if that is clearer.
    private static func name(_ byte: UInt8) -> String {
        switch byte {
        case 0x20: "a blank"
        case UInt8(ascii: "\""): "a double quote"
        case 0x21..<0x7F: "\"\(Character(UnicodeScalar(byte)))\""
        default: "the byte \(hexadecimal(byte))"
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> String {
        "0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
    }
}
