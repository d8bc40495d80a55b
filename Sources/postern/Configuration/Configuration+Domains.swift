import Foundation
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync

extension Configuration {
    /// What the sync thread needs.
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

    /// Whether some domain says of its sub-domains something else than `relay.subdomains` says of all.
    private var hasOwnSubdomains: Bool { domains.contains { coversSubdomains($0) != policy.subdomains } }

    /// Names of domains, with one that begins with a dot for each whose sub-domains are relay domains too; where all are alike
    /// in this, the names alone.
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

    /// Whether a domain is a relay domain as a sub-domain of one: by `relay.subdomains`, or by an entry with a leading dot.
    func isBelowRelayDomain(_ name: String) -> Bool {
        domains.contains { relay in
            relay.name.hasPrefix(".")
                ? name.hasSuffix(relay.name) : coversSubdomains(relay) && name.hasSuffix(".\(relay.name)")
        }
    }

    /// The domains that a domain's recipients are judged as, one after the other, from the domain itself on; its end is the
    /// domain that is no alias, or one that stands there twice.
    func aliasChain(of domain: String) -> [String] {
        var chain = [domain]
        while let last = chain.last, let next = domains.first(where: { $0.name == last })?.rules.aliasOf {
            let isCircle = chain.contains(next)
            chain.append(next)
            if isCircle { break }
        }
        return chain
    }

    /// The aliases that lead back to themselves, each circle once, as `one.example → two.example → one.example`.
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

    /// The configuration with what an index names: its alias domains, and its relay domains where these count.
    func naming(_ sources: [IndexSource]) -> Configuration {
        var named = naming(relayDomainsOf: sources)
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

    /// The relay domains that an index names, where these count. Those that a table of this configuration has listed always do: they
    /// are relay domains until a sync accepts that the table lists them no more.
    private func naming(relayDomainsOf sources: [IndexSource]) -> Configuration {
        var known = Set(domains.map(\.name))
        var named = self
        // Without sources of its own, nobody here could accept that a table lists less.
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

    /// Whether recipients of any domain are deferred because they have sent through the gateway.
    var defersUnlistedSenders: Bool {
        rules.defersUnlistedSenders || domains.contains(where: \.rules.defersUnlistedSenders)
            || rulesOfIndexDomains.values.contains(where: \.defersUnlistedSenders)
    }

    /// The policy, each domain tagged by `tag`.
    func compiledPolicy(tag: (String) -> UInt32) -> Policy {
        var settings = policy
        settings.domains = domains.map { domain in
            var rules = domain.rules
            if rules.aliasOf != nil, !rules.hasOwnMode, let target = aliasChain(of: domain.name).last,
                let relay = domains.first(where: { $0.name == target })
            {
                rules.observe = relay.rules.observe
            }
            return (domain.name, rules, tag(domain.name))
        }
        return Policy(settings)
    }
}
