import Foundation

/// Where a directory server is found, as `uris` has it: `ldaps://dc1.example.com`, `ldap://dc1:3268`, `ldapi://%2Frun%2Fldapi`.
public struct LDAPURI: Sendable, Hashable, Codable, CustomStringConvertible {
    /// How the server is reached.
    public enum Scheme: String, Sendable, Codable, CaseIterable {
        /// In clear, unless StartTLS is asked for.
        case ldap
        /// With TLS from the first octet.
        case ldaps
        /// Through a unix socket.
        case ldapi
    }

    /// How the server is reached.
    public let scheme: Scheme
    /// The name or address, an IPv6 one without brackets; the socket's path for ldapi.
    public let host: String
    /// 389 or 636 where nothing else is said; 0 for ldapi.
    public let port: UInt16
    /// As it was written.
    public let description: String

    /// The server of a URI; nil for what is none, or has more than a host and a port.
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

    /// As libldap takes it.
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

    /// The server is read from one string.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let uri = LDAPURI(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "no LDAP URI")
        }
        self = uri
    }

    /// The server is written as one string.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
