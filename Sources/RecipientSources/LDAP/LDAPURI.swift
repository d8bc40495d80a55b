import Foundation

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
                    return isPlain
                        ? String(Unicode.Scalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
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
