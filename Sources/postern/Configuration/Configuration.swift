import DirectorySync
import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RejectionLog
import System

/// The configuration file, read, checked and with its defaults filled in. All paths are absolute.
struct Configuration: Sendable {
    /// Where commands look for the file when `--config` doesn't say.
    static let defaultPath = "/etc/postern/postern.toml"

    /// The file that was read.
    let file: String
    /// The lines of its keys.
    let lines: ConfigurationLines

    var socket = Self.defaultSocket
    var socketMode: UInt32 = 0o660
    /// The most connections of MTAs at once.
    var maximumConnections = 10_000
    /// Whether the running filter reads the configuration again by itself when it has changed.
    var reloadsByItself = false
    /// The files that it was read from, in the state that they were read in: this one and the tables of `relay.domains_from`.
    var stamps: [ConfigurationStamp] = []

    /// The relay domains with the key that each comes from.
    var domains: [RelayDomain] = []
    /// The policy without the relay domains.
    var policy = Policy.Settings()
    /// The relay domains of each table of `relay.domains_from`, by its path.
    var relayTables: [String: [String]] = [:]
    /// Whether the relay domains that the index names count too: those that sources read from a directory.
    var takesDomainsFromIndex = false
    /// The `[[domain]]` tables of domains that the index may name.
    var rulesToCome: [String: Policy.Rules] = [:]
    /// What holds for a domain with no `[[domain]]` of its own.
    var rules = Policy.Rules()

    var index = Index()
    var sync = Sync()
    var log = Log()
    var http = HTTP()
    /// Sources whose files can't be read now: faults to `config check`, a failed pull to the sync thread.
    var sourceFaults: [ConfigurationFault] = []
    /// What is accepted and not yet acted on, a line each.
    var notices: [String] = []

    /// The folders of the files that the filter and the sync write.
    var writtenFolders: [String] {
        let files = [log.database] + (sync.sources.isEmpty ? [] : [sync.state, index.path])
        return files.map { folder(of: $0) }
    }

    /// One relay domain.
    struct RelayDomain: Sendable {
        /// The A-label.
        let name: String
        /// The key that names it: `relay.domains`, or `relay.domains_from` with the table.
        let key: String
        var rules: Policy.Rules
        /// The source whose table makes it an alias; nil where the configuration does.
        var aliasSource: String?
    }

    struct Index: Sendable {
        var path = "/var/lib/postern/recipients.index"
        var maximumAge = 7 * 86_400
    }

    struct Sync: Sendable {
        var state = "/var/lib/postern/sync.sqlite"
        var interval = 300
        var maximumShrink = 0.1
        var shrinkWindow = 86_400
        var grace = 600
        var minimum = 1
        var canaries: [String] = []
        /// How many seconds one source may be read.
        var deadline = 1_800
        var sources: [SourceConfiguration] = []
    }

    struct Log: Sendable {
        var database = "/var/lib/postern/rejections.sqlite"
        var retention = 90 * 86_400
        /// Whether each refusal has a line in the messages.
        var lines = true
        /// Whether these lines and the live page hide local parts.
        var redact = false
        /// Not longer than the retention counts.
        var detailRetention = 30 * 86_400
        /// Octets; 0: no limit.
        var maximumSize = 4 << 30
    }

    struct HTTP: Sendable {
        /// Where metrics and the live page are served; nil: nowhere.
        var listen: HostAndPort?
    }

    private static let defaultSocket: MilterSocket = {
        do { return try MilterSocket("inet:8891@127.0.0.1") } catch { preconditionFailure("\(error)") }
    }()

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

    /// Whether a domain is one by its name, or as a sub-domain of one.
    func isRelayDomain(_ name: String) -> Bool {
        domains.contains { relay in
            if relay.name == name { return true }
            return relay.name.hasPrefix(".")
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
            source.isRelayTable ? !sync.sources.isEmpty && relayTables[source.name] != nil : takesDomainsFromIndex
        }
        for source in sources where counts(source) {
            for domain in source.relayDomains where known.insert(domain.name).inserted {
                var rules = rulesToCome[domain.name] ?? self.rules
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
            || rulesToCome.values.contains(where: \.defersUnlistedSenders)
    }

    /// The policy.
    ///
    /// - Parameter slot: the number of a domain, given by its name, in the rejection log.
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
