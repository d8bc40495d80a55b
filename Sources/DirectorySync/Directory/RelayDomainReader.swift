import CLDAP
import MailAddress

/// Reads relay domains from a directory.
struct RelayDomainReader {
    private let session: DirectorySession
    private let source: DirectoryConfiguration.DomainSource

    init(_ session: DirectorySession, _ source: DirectoryConfiguration.DomainSource) {
        self.session = session
        self.source = source
    }

    /// The domains, each once, in the order of their names. Names that are none are passed over, and so is `*`, which would make the
    /// gateway relay for everyone.
    func read(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> [RelayDomain] {
        var domains: [String: Bool] = [:]
        func add(_ text: String, takesAll: Bool) {
            // `*.example.com` stands for the domain and all below it.
            let isWild = text.hasPrefix("*.")
            guard let name = try? DomainName(isWild ? String(text.dropFirst(2)) : text).aLabel, !name.hasPrefix("[")
            else {
                return
            }
            for name in isWild ? [name, "." + name] : [name] { domains[name] = (domains[name] ?? false) || takesAll }
        }
        switch source {
        case .acceptedDomains:
            guard let base = session.root.configurationNamingContext else {
                throw LDAPError(
                    .search, LDAP_NO_SUCH_OBJECT, "accepted_domains: the server has no configuration naming context")
            }
            let names = ["msExchAcceptedDomainName", "msExchAcceptedDomainFlags"]
            try session.forEachEntry(
                base: base, filter: "(objectClass=msExchAcceptedDomain)", attributes: names, check: check
            ) { message throws(LDAPError) in
                // The lowest two bits are the domain's kind: 0 authoritative, 1 external relay, 2 internal relay.
                let flags = try message.texts(names[1]).first.flatMap { Int($0) } ?? 0
                for text in try message.texts(names[0]) { add(text, takesAll: flags & 3 != 0) }
            }
        case .attribute(let name, let bases, let filter):
            for base in bases.isEmpty ? session.bases : bases {
                try session.forEachEntry(base: base, filter: filter, attributes: [name], check: check) {
                    message throws(LDAPError) in
                    for text in try message.texts(name) { add(text, takesAll: false) }
                }
            }
        }
        // All of them travel in the index's list of sources.
        guard domains.count <= 10_000 else {
            throw LDAPError(
                .search, LDAP_SIZELIMIT_EXCEEDED,
                "\(domains.count) relay domains are named, more than 10,000: is relay_domains_filter too wide?")
        }
        return domains.map { RelayDomain(name: $0.key, takesAll: $0.value) }.sorted { $0.name < $1.name }
    }
}
