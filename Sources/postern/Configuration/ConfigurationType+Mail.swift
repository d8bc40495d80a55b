import Foundation
import Glibc
import MailAddress
import Milter
import RecipientFilter
import RecipientSources
import System

// The types of values that only a mail filter has.

/// A domain of the configuration file.
struct ConfiguredDomain: Sendable {
    /// As the file writes it.
    let text: String
    /// The A-label, with a leading dot where the file has one.
    let name: String

    /// Reads a domain.
    ///
    /// - Parameter allowsDot: whether a leading dot, which stands for the sub-domains, is permitted.
    init(_ given: String, allowsDot: Bool) throws {
        text = given.trimmingCharacters(in: .whitespaces)
        let isDotted = allowsDot && text.hasPrefix(".")
        do {
            name = (isDotted ? "." : "") + (try DomainName(isDotted ? text.trimmingDot : text)).aLabel
        } catch {
            throw ConfigurationProblem("is not a domain name (\(error))")
        }
    }
}

extension String {
    /// The domain without the leading dot that stands for its sub-domains.
    var trimmingDot: String { hasPrefix(".") ? String(dropFirst()) : self }
}

extension ConfigurationType<ConfiguredDomain> {
    /// A domain name.
    static func domain(_ accepted: String, allowsDot: Bool = false) -> Self {
        string(accepted: accepted) { text, _ in try ConfiguredDomain(text, allowsDot: allowsDot) }
    }
}

/// A table of `relay.domains_from`.
struct RelayDomainTable: Sendable {
    /// As the file writes it, such as `transport:/etc/postfix/transport`.
    let text: String
    let format: DomainTableFormat
    /// The absolute path.
    let path: String
}

extension ConfigurationType<RelayDomainTable> {
    /// The path of a table, with the kind of table before it.
    static let domainTable = string(
        accepted:
            "the path of a table's source text, with \"transport:\", \"access:\" or \"mailertable:\" before it for a "
            + "table of that kind, such as \"/etc/postfix/relay_domains\" or \"transport:/etc/postfix/transport\""
    ) { text, context in
        var format = DomainTableFormat.domains
        var path = text[...]
        if let colon = text.firstIndex(of: ":"), !text[..<colon].contains("/") {
            let kind = String(text[..<colon])
            guard let known = DomainTableFormat(rawValue: kind), known != .domains else {
                throw ConfigurationProblem("begins with \"\(kind.escapedForMessage):\"")
            }
            format = known
            path = text[text.index(after: colon)...]
        }
        guard !path.isEmpty, !path.hasSuffix("/") else { throw ConfigurationProblem("is not a file's path") }
        return RelayDomainTable(text: text, format: format, path: context.absolute(String(path)))
    }
}

extension ConfigurationType<IPNetwork> {
    /// A network or a single address.
    static let network = string(accepted: "a network, such as \"192.0.2.0/24\" or \"2001:db8::/32\"") { text, _ in
        try IPNetwork(text)
    }
}

extension ConfigurationType<String> {
    /// A recipient's address, as the canonical form.
    static func address(example: String) -> Self {
        string(accepted: "an address, such as \"\(example)\"", problem: "is not an address") { text in
            guard let address = try? RecipientAddress(path: text), address.hasDomain else { return nil }
            return address.key
        }
    }

    /// A local part, as the canonical form.
    static let localPart = string(accepted: "a local part, such as \"postmaster\"") { text, _ in
        do {
            return try RecipientAddress(path: "\(text)@example.invalid").localPart
        } catch {
            throw ConfigurationProblem("is not a local part (\(error))")
        }
    }

    /// The characters that separate a recipient from its detail.
    static let delimiter = string(
        accepted: "printable ASCII characters other than @ and \", such as \"+\" or \"+-\"; \"\" for none",
        problem: "can't separate a detail from the recipient"
    ) { text in
        text.unicodeScalars.allSatisfy { ("!"..."~").contains($0) && $0 != "@" && $0 != "\"" } ? text : nil
    }

    /// The name of a source.
    static let sourceName = string(accepted: "one line of text, such as \"headquarters\"", problem: "is not a name") {
        $0.isEmpty || $0.contains(where: \.isNewline) ? nil : $0
    }
}

extension ConfigurationType<MilterSocket> {
    /// Where the MTA connects.
    static let milterSocket = string(accepted: "inet:PORT@HOST, inet6:PORT@HOST or unix:/PATH") { text, _ in
        try MilterSocket(text)
    }
}

extension ConfigurationType<UInt32> {
    /// The permissions of a file that its owner uses.
    static let fileMode = string(
        accepted: "octal digits that let the owner read and write, such as \"0660\"", problem: "is not a mode"
    ) { text in
        UInt32(text, radix: 8).flatMap { (3...4).contains(text.count) && $0 <= 0o777 && $0 & 0o600 == 0o600 ? $0 : nil }
    }
}

extension ConfigurationType<HostAndPort?> {
    /// Where a server listens; nil for nowhere.
    static let listenAddress = string(
        accepted: "host:port, such as \"127.0.0.1:8892\" or \"[::1]:8892\"; \"\" for no server",
        problem: "is not an address"
    ) { text in
        text.isEmpty ? .some(nil) : HostAndPort(text).map { .some($0) }
    }
}

extension ConfigurationType<ReplyTemplate> {
    /// A reply to the client.
    static func reply(_ kind: ReplyKind) -> Self {
        string(accepted: "a reply code, an enhanced status code and a text, in printable ASCII") { text, _ in
            do {
                return try ReplyTemplate(text, for: kind)
            } catch {
                // The error says by itself what is accepted.
                throw ReplyProblem(description: "\"\(text.escapedForMessage)\" \(error)")
            }
        }
    }

    private struct ReplyProblem: Error, CustomStringConvertible {
        let description: String
    }
}

// MARK: - Directories

extension ConfigurationType<LDAPURI> {
    /// A directory server.
    static let ldapURI = string(
        accepted:
            "ldaps://, ldap:// or ldapi:// with a host and, where needed, a port, such as \"ldaps://dc1.example.com\"",
        problem: "is not the URI of a directory server"
    ) { LDAPURI($0) }
}

extension ConfigurationType<String> {
    /// The name of an entry in a directory (RFC 4514).
    static func distinguishedName(example: String) -> Self {
        let accepted = "the distinguished name of an entry, such as \"\(example)\""
        return string(accepted: accepted, problem: "is not the name of an entry") {
            !$0.isEmpty && DirectoryConfiguration.isName($0) ? $0 : nil
        }
    }

    /// A search filter (RFC 4515).
    static let searchFilter = string(
        accepted: "a search filter (RFC 4515), such as \"(&(objectClass=person)(mail=*))\"",
        problem: "is not a search filter (RFC 4515)"
    ) { DirectoryConfiguration.isFilter($0) ? $0 : nil }

    /// The name of an attribute.
    static let attribute = string(
        accepted: "the name of an attribute, such as \"mail\"", problem: "is not the name of an attribute"
    ) { DirectoryConfiguration.isAttribute($0) ? $0 : nil }
}

extension ConfigurationType<DirectoryConfiguration.Condition> {
    /// A condition on an attribute of an entry.
    static let condition = string(
        accepted:
            "an attribute that is true or false (\"nsAccountLock\"), that has a value (\"employeeStatus=left\"), any "
            + "value (\"employeeType=*\") or a bit (\"userAccountControl&2\"), or a date that has passed "
            + "(\"accountExpires<now\")",
        problem: "is not a condition on an attribute"
    ) { DirectoryConfiguration.Condition($0) }
}

extension ConfigurationType<DirectoryConfiguration.Disabled> {
    /// What becomes of disabled entries.
    static let disabledTreatment = Self(accepted: "true, false or \"mark\"") { given in
        switch given.value {
        case .boolean(let includes): return includes ? .include : .exclude
        case .string("mark"): return .mark
        default: return given.refuse("is not known", accepted: "true, false or \"mark\"")
        }
    }
}

// MARK: - Listening

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
