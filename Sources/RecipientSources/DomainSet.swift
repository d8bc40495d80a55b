import System

/// A set of domains that answers for A-labels without allocating.
package struct DomainSet: Sendable {
    private var names = ByteTable()
    private let subdomains: Bool
    private var hasDotted = false

    /// - Parameters:
    ///   - domains: A-labels in lower case; `.example.com` stands for the subdomains of example.com.
    ///   - subdomains: whether `example.com` stands for its subdomains, too.
    package init(_ domains: Set<String>, subdomains: Bool) {
        self.subdomains = subdomains
        for domain in domains {
            _ = names.insert(domain.lowercased())
            if domain.hasPrefix(".") { hasDotted = true }
        }
    }

    /// Whether the set has the domain, by its own name or as a subdomain.
    package func contains(_ domain: UnsafeBufferPointer<UInt8>) -> Bool {
        guard !domain.isEmpty else { return false }
        if names.position(of: domain) != nil { return true }
        guard subdomains || hasDotted else { return false }
        for index in domain.indices.dropLast() where domain[index] == UInt8(ascii: ".") {
            if hasDotted, names.position(of: domain.slice(index..<domain.count)) != nil { return true }
            if subdomains, names.position(of: domain.slice(index + 1..<domain.count)) != nil { return true }
        }
        return false
    }
}

/// The domains that one source may list.
package struct DomainFilter: Sendable {
    private let relay: DomainSet
    private let own: DomainSet?

    /// The relay domains, less those that the source's `domains` leaves out.
    package init(relay: DomainSet, _ source: SourceConfiguration, subdomains: Bool) {
        self.relay = relay
        own = source.domains.map { DomainSet($0, subdomains: subdomains) }
    }

    /// Whether a domain is a relay domain, whichever source may list its recipients.
    func relays(_ domain: UnsafeBufferPointer<UInt8>) -> Bool { relay.contains(domain) }

    /// Whether the source may list recipients of a domain.
    func admits(_ domain: UnsafeBufferPointer<UInt8>) -> Bool {
        relay.contains(domain) && (own?.contains(domain) ?? true)
    }
}
