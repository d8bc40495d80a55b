import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog
import System

/// The configuration file, read and checked, with its defaults filled in. All paths are absolute.
struct Configuration: Sendable {
    /// Where commands look for the file without `--config`.
    static let defaultPath = "/etc/postern/postern.toml"

    /// The file that was read.
    let file: String
    /// The lines of its keys.
    let lines: ConfigurationLines
    /// The configuration file and the tables of `relay.domains_from`, in the state in which they were read.
    var stamps: [ConfigurationStamp] = []

    var socket: MilterSocket
    var socketMode: UInt32
    /// The number of connections that the MTA may have open at once.
    var maximumConnections: Int
    /// Whether the running filter reads the configuration again by itself when it has changed.
    var reloadsByItself: Bool

    /// The relay domains with the key that each comes from.
    var domains: [Domain] = []
    /// The relay domains of each table of `relay.domains_from`, by its path.
    var relayTables: [String: [String]] = [:]
    /// Whether the relay domains that the index names, which sources read from a directory, are relay domains too.
    var relaysIndexDomains = false
    /// The rules of the `[[domain]]` tables whose domains only the index may name.
    var rulesOfIndexDomains: [String: DomainSettings] = [:]
    /// The rules of a domain without a `[[domain]]` table.
    var rules = DomainSettings()
    /// The policy without the relay domains.
    var policy = Policy.Settings()

    var index: Index
    var sync: Sync
    var log: Log
    /// Where metrics and the live page are served; nil for nowhere.
    var httpAddress: HostAndPort?
    /// Files of sources that can't be read now. `config check` reports them as faults; for the sync thread the source
    /// failed.
    var sourceFaults: [ConfigurationFault] = []
    /// Warnings, one line each: what is accepted and perhaps not intended.
    var notices: [String] = []

    /// The folders of the files that the filter and the sync write.
    var writtenFolders: [String] {
        let files = [log.database] + (sync.sources.isEmpty ? [] : [sync.state, index.path])
        return files.map { folder(of: $0) }
    }

    /// A relay domain, with its rules.
    struct Domain: Sendable {
        /// The A-label; with a leading dot for the sub-domains of a domain alone.
        let name: String
        /// The key that names it: `relay.domains`, or `relay.domains_from` with the table.
        let key: String
        var rules: DomainSettings
        /// The source whose table makes the domain an alias; nil where the configuration does.
        var aliasSource: String?
    }

    /// The settings of `[index]`.
    struct Index: Sendable {
        var path: String
        /// In seconds; 0 for no limit.
        var maximumAge: Int
    }

    /// The settings of `[sync]`, and the sources. Times are in seconds.
    struct Sync: Sendable {
        var state: String
        var interval: Int
        /// A fraction of 1.
        var maximumShrink: Double
        var shrinkWindow: Int
        var grace: Int
        var minimum: Int
        /// Canonical addresses.
        var canaries: [String]
        /// The time that reading one source may take.
        var deadline: Int
        var sources: [SourceConfiguration] = []
    }

    /// The settings of `[log]`. Times are in seconds.
    struct Log: Sendable {
        var database: String
        var retention: Int
        /// Whether the filter writes a line for each rejection.
        var lines: Bool
        /// Whether these lines and the live page hide local parts.
        var redact: Bool
        /// At most `retention` counts.
        var detailRetention: Int
        /// In bytes; 0 for no limit.
        var maximumSize: Int
    }

    /// The settings of the sections whose keys are independent of each other; the rest is at its defaults.
    init(
        file: String, lines: ConfigurationLines, milter: ConfigurationTable<MilterKeys>,
        index: ConfigurationTable<IndexKeys>, sync: ConfigurationTable<SyncKeys>, log: ConfigurationTable<LogKeys>,
        http: ConfigurationTable<HTTPKeys>
    ) {
        self.file = file
        self.lines = lines
        socket = milter.value(\.socket)
        socketMode = milter.value(\.socketMode)
        maximumConnections = milter.value(\.maximumConnections)
        reloadsByItself = milter.value(\.reload)
        self.index = Index(path: index.value(\.path), maximumAge: index.value(\.maximumAge))
        self.sync = Sync(
            state: sync.value(\.state), interval: sync.value(\.interval), maximumShrink: sync.value(\.maximumShrink),
            shrinkWindow: sync.value(\.shrinkWindow), grace: sync.value(\.grace), minimum: sync.value(\.minimum),
            canaries: sync.value(\.canaries), deadline: sync.value(\.deadline))
        self.log = Log(
            database: log.value(\.database), retention: log.value(\.retention), lines: log.value(\.lines),
            redact: log.value(\.redact), detailRetention: log.value(\.detailRetention),
            maximumSize: log.value(\.maximumSize))
        httpAddress = http.value(\.listen)
    }
}

extension Configuration {
    /// The configuration with those settings of another that only a restart can change, and the keys of those that
    /// differ.
    func keepingRestartSettings(of other: Configuration) -> (Configuration, differing: [String]) {
        var kept = self
        var differing: [String] = []
        func keep<Value: Equatable>(_ path: WritableKeyPath<Configuration, Value>, _ key: String) {
            if self[keyPath: path] != other[keyPath: path] { differing.append(key) }
            kept[keyPath: path] = other[keyPath: path]
        }
        keep(\.socket, "milter.socket")
        keep(\.socketMode, "milter.socket_mode")
        keep(\.maximumConnections, "milter.max_connections")
        keep(\.index.path, "index.path")
        keep(\.log.database, "log.database")
        keep(\.log.retention, "log.retention")
        keep(\.log.lines, "log.lines")
        keep(\.log.redact, "log.redact")
        keep(\.httpAddress, "http.listen")
        keep(\.log.detailRetention, "log.detail_retention")
        keep(\.log.maximumSize, "log.max_size")
        return (kept, differing)
    }
}

// MARK: - The relay domains

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
    func coversSubdomains(_ domain: Domain) -> Bool {
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
                named.domains.append(Domain(name: domain.name, key: key, rules: rules))
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
