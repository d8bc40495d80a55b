import CLDAP
import Glibc

/// Search filters as text (RFC 4515).
enum LDAPFilter {
    /// A value in which the bytes with a meaning in filters, and those that aren't printable ASCII, are escaped.
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

    /// `(attribute=value)` for any bytes.
    static func equals(_ attribute: String, _ value: [UInt8]) -> String {
        "(\(attribute)=\(value.map(hexadecimal).joined()))"
    }

    static func all(_ filters: [String]) -> String { join("&", filters) }

    static func any(_ filters: [String]) -> String { join("|", filters) }

    static func not(_ filter: String) -> String { "(!\(filter))" }

    private static func join(_ sign: String, _ filters: [String]) -> String {
        filters.count == 1 ? filters[0] : "(\(sign)\(filters.joined()))"
    }

    /// Whether libldap accepts a filter, which must be in parentheses. libldap has no function for this, so it sends a
    /// search into a socket that nobody reads.
    static func isValid(_ filter: String) -> Bool {
        DirectoryEnvironment.prepareLibrary()
        guard filter.hasPrefix("("), filter.hasSuffix(")"), !filter.utf8.contains(0) else { return false }
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            return true
        }
        defer { close(ends[1]) }
        var handle: OpaquePointer?
        guard ldap_init_fd(ends[0], LDAP_PROTO_IPC, nil, &handle) == LDAP_SUCCESS, let handle else {
            close(ends[0])
            return true
        }
        defer { ldap_unbind_ext(handle, nil, nil) }
        var id: Int32 = 0
        let code = ldap_search_ext(handle, "", postern_ldap_scope_base, filter, nil, 0, nil, nil, nil, 0, &id)
        return code == LDAP_SUCCESS
    }

    /// The attributes that a filter names.
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
