import CLDAP
import MailAddress
import RecipientIndex

/// Reads relay domains from a directory.
final class RelayDomainReader {
    private let session: DirectorySession
    private let source: DirectoryConfiguration.DomainSource
    /// The domains that the source named the last time.
    private let before: [RelayDomain]
    /// Values that name no domain, and domains whose kind is unknown.
    private(set) var faults = EntryFaults()

    init(_ session: DirectorySession, _ source: DirectoryConfiguration.DomainSource, before: [RelayDomain]) {
        self.session = session
        self.source = source
        self.before = before
    }

    /// The domains, each once, in the order of their names. Values that aren't domains are noted as faults. So is `*`,
    /// which would make the gateway relay for everyone.
    func read(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> [RelayDomain] {
        var domains: [String: Bool] = [:]
        faults = EntryFaults()
        func add(_ text: String, _ message: LDAPMessage, takesAll: (String) -> Bool) {
            for name in names(text, message) { domains[name] = (domains[name] ?? false) || takesAll(name) }
        }
        switch source {
        case .acceptedDomains:
            guard let base = session.root.configurationNamingContext else {
                throw .search(LDAP_NO_SUCH_OBJECT, "accepted_domains: the server has no configuration naming context")
            }
            let names = ["msExchAcceptedDomainName", "msExchAcceptedDomainFlags"]
            try session.forEachEntry(
                base: base, filter: "(objectClass=msExchAcceptedDomain)", attributes: names, check: check
            ) { message throws(LDAPError) in
                // The lowest two bits are the domain's kind: 0 authoritative, 1 external relay, 2 internal relay.
                let text = try message.texts(names[1]).first
                let flags = text.flatMap { Int($0) }
                for name in try message.texts(names[0]) {
                    add(name, message) { domain in
                        if let flags { return flags & 3 != 0 }
                        let tookAll = before.contains { $0.name == domain && $0.takesAll }
                        note(
                            domain, in: message,
                            text.map { "msExchAcceptedDomainFlags is \"\(escapedText($0))\", which is not a number" }
                                ?? "the server doesn't show msExchAcceptedDomainFlags to Postern's account",
                            consequence: tookAll
                                ? "every recipient of the domain is accepted, as before"
                                : "only listed recipients of the domain are accepted")
                        return tookAll
                    }
                }
            }
        case .attribute(let name, let bases, let filter):
            for base in bases.isEmpty ? session.bases : bases {
                try session.forEachEntry(base: base, filter: filter, attributes: [name], check: check) {
                    message throws(LDAPError) in
                    for text in try message.texts(name) { add(text, message) { _ in false } }
                }
            }
        }
        // The index names all of them in its list of sources.
        guard domains.count <= 10_000 else {
            throw .search(
                LDAP_SIZELIMIT_EXCEEDED,
                "the directory names \(domains.count) relay domains, more than the limit of 10,000; narrow relay_domains_filter"
            )
        }
        return domains.map { RelayDomain(name: $0.key, takesAll: $0.value) }.sorted { $0.name < $1.name }
    }

    /// The domain that a value names; `*.example.com` stands for the domain and its subdomains.
    private func names(_ value: String, _ message: LDAPMessage) -> [String] {
        let text = EntryValue.trimmed(value)
        let isWild = text.hasPrefix("*.")
        let fault: String
        if text == "*" {
            fault = "it would make the gateway relay for everyone"
        } else if text.contains("://") {
            fault = "it is a URL"
        } else if text.contains(where: { ",; ".contains($0) }) {
            fault = "it has more than one word"
        } else {
            do throws(AddressError) {
                let name = try DomainName(isWild ? String(text.dropFirst(2)) : text).aLabel
                if !name.hasPrefix("[") { return isWild ? [name, "." + name] : [name] }
                fault = "it is an IP address"
            } catch {
                fault = "it is not a domain: \(error)"
            }
        }
        note(
            value, in: message, fault, consequence: "accepted: one domain a value, such as example.com or *.example.com"
        )
        return []
    }

    private func note(_ value: String, in message: LDAPMessage, _ reason: String, consequence: String) {
        faults.note(
            EntryFault(
                place: escapedText(message.dn), value: escapedText(value), reason: "\(reason); \(consequence)"))
    }
}
