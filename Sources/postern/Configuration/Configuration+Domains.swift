import Foundation
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog

extension Configuration {
    /// The settings of the sync thread.
    var syncConfiguration: SyncConfiguration {
        var configuration = SyncConfiguration(
            statePath: sync.state, indexPath: index.path, interval: .seconds(sync.interval),
            maxShrink: sync.maximumShrink,
            minimum: sync.minimum, canaries: sync.canaries, maxAge: .seconds(index.maximumAge),
            relayDomains: withSubdomains(Set(domains.map(\.name))), subdomains: !hasOwnSubdomains && policy.subdomains,
            deadline: .seconds(sync.deadline),
            sources: sync.sources.map { source in
                var source = source
                source.domains = source.domains.map(withSubdomains)
                return source
            })
        configuration.shrinkWindow = .seconds(sync.shrinkWindow)
        configuration.grace = .seconds(sync.grace)
        configuration.relayTables = relayTables
        configuration.domainsWithoutList = Set(
            domains.filter { $0.rules.catchAll || $0.rules.aliasOf != nil }.map(\.name))
        configuration.alwaysAccepted = Set(policy.always)
        return configuration
    }

    /// Whether a domain treats its sub-domains otherwise than `relay.subdomains` says.
    private var hasOwnSubdomains: Bool { domains.contains { coversSubdomains($0) != policy.subdomains } }

    /// The names of domains. Where domains differ in `subdomains`, a name such as `.example.com` is added for each
    /// domain whose sub-domains are relay domains too.
    private func withSubdomains(_ names: Set<String>) -> Set<String> {
        guard hasOwnSubdomains else { return names }
        return names.union(
            names.filter { name in
                let relay = domains.first { $0.name == name } ?? domains.first { name.hasSuffix(".\($0.name)") }
                return relay.map(coversSubdomains) ?? false
            }.map { ".\($0)" })
    }

    /// Whether the sub-domains of a relay domain are relay domains too.
    func coversSubdomains(_ domain: RelayDomain) -> Bool {
        domain.name.hasPrefix(".") ? policy.subdomains : domain.rules.subdomains ?? policy.subdomains
    }

    /// Whether a domain is a relay domain, by its name or as a sub-domain.
    func isRelayDomain(_ name: String) -> Bool { domains.contains { $0.name == name } || isBelowRelayDomain(name) }

    /// Whether a domain is a relay domain as a sub-domain of one: by `relay.subdomains`, or by an entry with a leading
    /// dot.
    func isBelowRelayDomain(_ name: String) -> Bool {
        domains.contains { relay in
            relay.name.hasPrefix(".")
                ? name.hasSuffix(relay.name) : coversSubdomains(relay) && name.hasSuffix(".\(relay.name)")
        }
    }

    /// The domain, its alias target, the target's own target and so on. The last is not an alias, or is in the chain
    /// already.
    func aliasChain(of domain: String) -> [String] {
        var chain = [domain]
        while let last = chain.last, let next = domains.first(where: { $0.name == last })?.rules.aliasOf {
            let isCircle = chain.contains(next)
            chain.append(next)
            if isCircle { break }
        }
        return chain
    }

    /// The aliases that lead back to themselves, each loop once, such as `one.example → two.example → one.example`.
    var aliasCircles: [String] {
        var seen: Set<String> = []
        return domains.compactMap { domain in
            guard !seen.contains(domain.name) else { return nil }
            let chain = aliasChain(of: domain.name)
            guard chain.count > 1, chain.last == domain.name else { return nil }
            seen.formUnion(chain)
            return chain.joined(separator: " → ")
        }
    }

    /// The configuration with the alias domains that an index names, and with its relay domains where these count.
    func addingDomains(of sources: [IndexSource]) -> Configuration {
        var named = addingRelayDomains(of: sources)
        let aliases = Dictionary(
            sources.flatMap { source in source.aliasDomains.map { ($0.name, ($0.target, source.name)) } },
            uniquingKeysWith: { first, _ in first })
        for position in named.domains.indices {
            let domain = named.domains[position]
            guard domain.rules.aliasOf == nil, let (target, source) = aliases[domain.name],
                named.isRelayDomain(target)
            else { continue }
            named.domains[position].rules.aliasOf = target
            named.domains[position].aliasSource = source
            named.domains[position].rules.hasOwnMode = lines.domainTables(named: domain.name).contains {
                lines.exactLine(of: "\($0).mode") != nil
            }
        }
        return named
    }

    /// Adds the relay domains that an index names, where these count. Those of a table of this configuration always
    /// count: they are relay domains until a sync accepts that the table doesn't list them any more.
    private func addingRelayDomains(of sources: [IndexSource]) -> Configuration {
        var known = Set(domains.map(\.name))
        var named = self
        // Without sources, no sync of this configuration could accept that a table lists fewer domains.
        func counts(_ source: IndexSource) -> Bool {
            source.isRelayTable ? !sync.sources.isEmpty && relayTables[source.name] != nil : relaysIndexDomains
        }
        for source in sources where counts(source) {
            for domain in source.relayDomains where known.insert(domain.name).inserted {
                var rules = rulesOfIndexDomains[domain.name] ?? self.rules
                if domain.takesAll { rules.catchAll = true }
                let key =
                    source.isRelayTable
                    ? "relay.domains_from (\(source.name), before it was changed)" : "source \(source.name)"
                named.domains.append(RelayDomain(name: domain.name, key: key, rules: rules))
            }
        }
        return named
    }

    /// Whether any domain defers unknown recipients that have sent mail through the gateway.
    var defersUnlistedSenders: Bool {
        rules.defersUnlistedSenders || domains.contains(where: \.rules.defersUnlistedSenders)
            || rulesOfIndexDomains.values.contains(where: \.defersUnlistedSenders)
    }

    /// The policy, in which each domain has the slot of the rejection log that `slot` gives it.
    func compiledPolicy(slot: (String) -> DomainSlot = { _ in .foreign }) -> Policy {
        var settings = policy
        settings.domains = domains.map { domain in
            var rules = domain.rules
            if rules.aliasOf != nil, !rules.hasOwnMode, let target = aliasChain(of: domain.name).last,
                let relay = domains.first(where: { $0.name == target })
            {
                rules.observe = relay.rules.observe
            }
            return (domain.name, rules, slot(domain.name))
        }
        return Policy(settings)
    }
}
