import Glibc

/// A TCP endpoint as the configuration writes it: `127.0.0.1:8892`, `[::1]:8892`, `localhost:8892`.
struct HostAndPort: Sendable, Equatable, CustomStringConvertible {
    let host: String
    let port: UInt16

    /// Reads `host:port`; nil for any other text.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
            return nil
        }
        let host = text[..<colon]
        if host.hasPrefix("[") && host.hasSuffix("]") {
            self.host = String(host.dropFirst().dropLast())
        } else {
            guard !host.contains(":") else { return nil }
            self.host = String(host)
        }
        guard !self.host.isEmpty, !self.host.contains(where: \.isWhitespace) else { return nil }
        // A text of digits and dots, or one with a colon, can't be a host name: it is an address or a fault.
        if self.host.contains(":") {
            var address = in6_addr()
            guard inet_pton(AF_INET6, String(self.host.prefix { $0 != "%" }), &address) == 1 else { return nil }
        } else if self.host.utf8.allSatisfy({ $0 == UInt8(ascii: ".") || (0x30...0x39).contains($0) }) {
            var address = in_addr()
            guard inet_pton(AF_INET, self.host, &address) == 1 else { return nil }
        }
        self.port = port
    }

    /// As the configuration file has it.
    var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Whether only this machine can reach it.
    var isLoopback: Bool {
        if host.lowercased() == "localhost" || host == "::1" { return true }
        // A name such as 127.example.com may have any address.
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}
