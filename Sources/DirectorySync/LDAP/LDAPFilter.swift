import CLDAP

/// Search filters as text (RFC 4515).
enum LDAPFilter {
    /// A value with every octet escaped that means something in a filter or isn't printable ASCII.
    static func escaped(_ value: some Sequence<UInt8>) -> String {
        var text = ""
        for byte in value {
            switch byte {
            case 0x21..<0x7f where byte != 0x28 && byte != 0x29 && byte != 0x2a && byte != 0x5c, 0x20:
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += hexadecimal(byte)
            }
        }
        return text
    }

    /// `(attribute=value)` for a value of any octets.
    static func equals(_ attribute: String, _ value: [UInt8]) -> String {
        "(\(attribute)=\(value.map(hexadecimal).joined()))"
    }

    static func all(_ filters: [String]) -> String { join("&", filters) }

    static func any(_ filters: [String]) -> String { join("|", filters) }

    static func not(_ filter: String) -> String { "(!\(filter))" }

    private static func join(_ sign: String, _ filters: [String]) -> String {
        filters.count == 1 ? filters[0] : "(\(sign)\(filters.joined()))"
    }

    /// Whether libldap understands a filter; it wants brackets around, as others do. ldap_put_vrFilter(3).
    static func isValid(_ filter: String) -> Bool {
        guard filter.hasPrefix("("), filter.hasSuffix(")"), !filter.utf8.contains(0),
            let ber = ber_alloc_t(LBER_USE_DER)
        else { return false }
        defer { ber_free(ber, 1) }
        return ldap_put_vrFilter(ber, filter) == 0
    }

    /// The attributes that a filter looks at.
    static func attributes(_ filter: String) -> [String] {
        var names: [String] = []
        var name: String?
        for character in filter {
            switch character {
            case "(": name = ""
            case "=", "~", "<", ">", ":", ";", ")":
                if let name, !name.isEmpty { names.append(name) }
                name = nil
            case "&", "|", "!": name = name == "" ? nil : name
            default: name?.append(character)
            }
        }
        return names
    }

    private static func hexadecimal(_ byte: UInt8) -> String {
        "\\" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
}
