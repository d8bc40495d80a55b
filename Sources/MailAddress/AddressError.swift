internal import CIDN2

/// Why a text is not a recipient path or a domain name; `description` says it as a clause for a postmaster.
///
/// Rules: RFC 5321 sections 4.1.2 (syntax) and 4.5.3.1 (sizes), read as leniently as Postfix reads them at RCPT TO.
public enum AddressError: Error, Sendable, Equatable {
    /// Nothing is there: `<>`, blanks only, or a comment only.
    case empty
    /// A quoted string, comment, domain literal or angle bracket lacks its other half; the byte is the lone one.
    case unbalanced(UInt8)
    /// A control character, as its Unicode scalar value.
    case controlCharacter(UInt8)
    /// A character that is only allowed within quotes, or not there.
    case unexpectedCharacter(UInt8)
    /// Two words without a separator, as in `john doe@example.com` or `"john"doe@example.com`.
    case adjacentWords
    /// Text after the closing angle bracket.
    case textAfterPath
    /// The bytes are not UTF-8 (RFC 6531 section 3.3).
    case invalidUTF8
    /// Nothing before the `@`, not even quotes (`""@example.com` is valid).
    case emptyLocalPart
    /// Nothing after the `@`.
    case emptyDomain
    /// Two dots in a row in a domain, or one at its beginning.
    case emptyLabel
    /// A label of a domain begins or ends with a hyphen.
    case misplacedHyphen
    /// A domain of digits and dots alone; as an address it needs brackets.
    case numericDomain
    /// A character that no domain has.
    case domainCharacter(UInt8)
    /// What stands in brackets is not an IPv4 address, or an IPv6 one after `IPv6:`.
    case addressLiteral
    /// The domain has no A-label form; the code is libidn2's (`idn2_rc`).
    case internationalizedDomain(Int32)
    /// A label of the domain is over 63 bytes.
    case labelTooLong
    /// The domain is over 255 bytes.
    case domainTooLong
    /// The canonical address is over 512 bytes.
    case pathTooLong
}

extension AddressError: CustomStringConvertible {
    /// What is wrong and what is accepted, as a clause.
    public var description: String {
        switch self {
        case .empty: "no address is given; accepted: such as <user@example.com>"
        case .unbalanced(let byte): "a \(Self.name(byte)) has no other half; accepted: in pairs"
        case .controlCharacter(let byte): "it has the control character \(Self.hexadecimal(byte)); accepted: none"
        case .unexpectedCharacter(let byte): "\(Self.name(byte)) is not allowed here; accepted: within \"quotes\""
        case .adjacentWords:
            "two words stand beside each other; accepted: with a dot between, or in one pair of \"quotes\""
        case .textAfterPath: "text follows the closing >; accepted: nothing, or a blank and ESMTP parameters"
        case .invalidUTF8: "it is not valid UTF-8; accepted: ASCII and UTF-8"
        case .emptyLocalPart: "nothing stands before the @; accepted: at least one character"
        case .emptyDomain: "nothing stands after the @; accepted: a domain such as example.com"
        case .emptyLabel: "the domain has an empty label; accepted: labels of 1 to 63 bytes, and one dot at the end"
        case .misplacedHyphen: "a label of the domain begins or ends with a hyphen; accepted: hyphens within labels"
        case .numericDomain: "the domain is of digits alone; accepted: a name, or an IP address as [192.0.2.1]"
        case .domainCharacter(let byte):
            "the domain has \(Self.name(byte)); accepted: letters, digits, hyphens, underscores and dots"
        case .addressLiteral: "the brackets hold no IP address; accepted: [192.0.2.1] or [IPv6:2001:db8::1]"
        case .internationalizedDomain(let code):
            "the domain is not a valid internationalized name (\(String(cString: idn2_strerror(code)))); "
                + "accepted: names valid in IDNA 2008"
        case .labelTooLong: "a label of the domain is too long; accepted: at most 63 bytes"
        case .domainTooLong: "the domain is too long; accepted: at most 255 bytes"
        case .pathTooLong: "the address is too long; accepted: at most 512 bytes"
        }
    }

    /// The character in quotes, or its code where it can't be shown.
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
