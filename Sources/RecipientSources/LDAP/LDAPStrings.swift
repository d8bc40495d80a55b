import CLDAP
import Foundation
import Glibc

/// A distinguished name (RFC 4514) that can be compared: attribute types and values in lower case, without blanks
/// between the parts.
struct DistinguishedName: Hashable {
    /// The parts from the root on: `dc=com`, `dc=example`, `ou=people`.
    private let parts: [String]

    /// The name that a text writes; nil for any other text. `ldap_str2dn(3)`.
    init?(_ text: String) {
        var parsed: LDAPDN?
        guard ldap_str2dn(text, &parsed, UInt32(LDAP_DN_FORMAT_LDAPV3)) == LDAP_SUCCESS else { return nil }
        defer { ldap_dnfree(parsed) }
        var parts: [String] = []
        var next = parsed
        while let place = next, let rdn = place.pointee {
            var values: [String] = []
            var part: LDAPRDN? = rdn
            while let ava = part?.pointee {
                let name = String(decoding: ava.pointee.la_attr.bytes, as: UTF8.self)
                let value = String(decoding: ava.pointee.la_value.bytes, as: UTF8.self)
                values.append("\(name)=\(value)".lowercased())
                part = part?.advanced(by: 1)
            }
            parts.append(values.sorted().joined(separator: "+"))
            next = place.advanced(by: 1)
        }
        self.parts = parts.reversed()
    }

    /// Whether the name is the base or below it.
    func isWithin(_ base: DistinguishedName) -> Bool { parts.starts(with: base.parts) }

    /// The number of its parts.
    var depth: Int { parts.count }
}

/// Search filters as text (RFC 4515).
enum LDAPFilter {
    /// A value in which the bytes with a meaning in filters, and those that aren't printable ASCII, are escaped.
    static func escaped(_ value: some Sequence<UInt8>) -> String {
        var text = ""
        for byte in value {
            switch byte {
            case 0x21..<0x7f where byte != 0x28 && byte != 0x29 && byte != 0x2a && byte != 0x5c, 0x20:
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "\\" + hexadecimal(byte)
            }
        }
        return text
    }

    /// `(attribute=value)` for any bytes.
    static func equals(_ attribute: String, _ value: [UInt8]) -> String {
        "(\(attribute)=\(value.map { "\\" + hexadecimal($0) }.joined()))"
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
}

/// The URI of a directory server, as in `uris`: `ldaps://dc1.example.com`, `ldap://dc1:3268`, `ldapi://%2Frun%2Fldapi`.
public struct LDAPURI: Sendable, Hashable, Codable, CustomStringConvertible {
    /// How the server is reached.
    public enum Scheme: String, Sendable, Codable, CaseIterable {
        /// Unencrypted, unless StartTLS is used.
        case ldap
        /// With TLS from the first byte.
        case ldaps
        /// Through a unix socket.
        case ldapi
    }

    /// How the server is reached.
    public let scheme: Scheme
    /// The host's name or address, an IPv6 address without brackets; for ldapi, the socket's path.
    public let host: String
    /// The port, by default 389 for ldap and 636 for ldaps; 0 for ldapi.
    public let port: UInt16
    /// The URI as it was written.
    public let description: String

    /// The server of a URI; nil for any other text, and for a URI with more than a host and a port.
    public init?(_ text: String) {
        guard let colon = text.range(of: "://"), let scheme = Scheme(rawValue: text[..<colon.lowerBound].lowercased())
        else { return nil }
        self.scheme = scheme
        description = text
        var rest = text[colon.upperBound...]
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        guard !rest.isEmpty, !rest.contains(where: { $0 == "/" || $0 == "?" || $0 == "@" || $0.isWhitespace }) else {
            return nil
        }
        if scheme == .ldapi {
            guard let path = rest.removingPercentEncoding, path.hasPrefix("/"), !path.utf8.contains(0) else {
                return nil
            }
            host = path
            port = 0
            return
        }
        var portText: Substring?
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            host = String(rest[rest.index(after: rest.startIndex)..<end])
            let tail = rest[rest.index(after: end)...]
            guard tail.isEmpty || tail.first == ":" else { return nil }
            portText = tail.isEmpty ? nil : tail.dropFirst()
        } else {
            let parts = rest.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count <= 2 else { return nil }
            host = String(parts[0])
            portText = parts.count == 2 ? parts[1] : nil
        }
        guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "%") }) else {
            return nil
        }
        if let portText {
            guard let number = UInt16(portText), number > 0, portText.allSatisfy(\.isNumber) else { return nil }
            port = number
        } else {
            port = scheme == .ldaps ? 636 : 389
        }
    }

    /// The URI in libldap's form.
    var normalized: String {
        switch scheme {
        case .ldapi:
            "ldapi://"
                + host.utf8.map { byte in
                    let isPlain = byte != UInt8(ascii: "/") && byte != UInt8(ascii: "%") && byte > 0x20 && byte < 0x7f
                    return isPlain ? String(Unicode.Scalar(byte)) : "%" + hexadecimal(byte)
                }.joined()
        case .ldap, .ldaps: "\(scheme.rawValue)://\(host.contains(":") ? "[\(host)]" : host):\(port)"
        }
    }

    /// Reads a server from its URI.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let uri = LDAPURI(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not an LDAP URI")
        }
        self = uri
    }

    /// Writes a server as its URI.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
