public import MailAddress
public import RejectionLog
public import System

/// The part of the configuration that decides about recipients: immutable, and replaced whole when the configuration changes.
public final class Policy: Sendable {
    /// A relay domain with its settings: the global ones, overridden by those of its `[[domain]]`.
    public struct Domain: Sendable {
        /// The domain as an A-label. A name that begins with a dot stands for the sub-domains only.
        public let name: String
        /// The domain's settings.
        public let settings: DomainSettings
        /// The domain's number in the counters of the rejection log.
        public let slot: DomainSlot
    }

    /// The harvest limit: how many unknown recipients a client network may ask for before it is deferred; and the tarpit.
    public struct Harvest: Sendable, Equatable {
        /// The most unknown recipients in a window; 0 turns the limit off.
        public var limit = 50
        /// The window's length in seconds.
        public var window = 600
        /// The prefix length of an IPv4 client network.
        public var ipv4Prefix = 32
        /// The prefix length of an IPv6 client network.
        public var ipv6Prefix = 64
        /// For how many milliseconds the tarpit holds a reply back that reveals an unknown recipient; 0: no tarpit.
        public var tarpit = 0
        /// The most replies that are held back at once.
        public var tarpitLimit = 50

        /// The defaults of the configuration file.
        public init() {}

        /// The client network that an address is counted under, as its first address.
        func network(of client: IPAddress) -> IPAddress {
            client.masked(ipv4Prefix: ipv4Prefix, ipv6Prefix: ipv6Prefix)
        }
    }

    /// The values that a policy is made of.
    public struct Settings: Sendable {
        /// The relay domains: A-labels, each with its settings and its number in the rejection log.
        public var domains: [(name: String, settings: DomainSettings, slot: DomainSlot)] = []
        /// Whether the sub-domains of relay domains are relay domains with the parent's settings.
        public var subdomains = false
        /// The networks whose clients are trusted.
        public var trustedNetworks: [IPNetwork] = []
        /// Whether a client that has authenticated is trusted.
        public var trustAuthenticated = true
        /// The local parts, in canonical form, that every relay domain accepts.
        public var always: [String] = ["postmaster", "abuse"]
        /// The recipients, in canonical form, that are rejected also if they are listed.
        public var blocked: [String] = []
        /// The patterns that accept and block recipients; the first pattern that matches a recipient counts.
        public var patterns: [RecipientPattern] = []
        /// Whether an index is expected: a source is configured, or the index comes from another machine.
        public var indexExpected = false
        /// Whether the index names relay domains, so that without an index no domain is known to be foreign.
        public var domainsFromIndex = false
        /// The age in seconds above which an index is too old; nil: never.
        public var maximumIndexAge: Int64?
        /// Whether foreign domains are in observe mode.
        public var observe = false
        /// The replies that take the place of the default ones.
        public var replies: [ReplyKind: ReplyTemplate] = [:]
        /// The harvest limit.
        public var harvest = Harvest()
        /// The networks that the harvest limit doesn't apply to.
        public var harvestExempt: [IPNetwork] = []

        /// The defaults of the configuration file, without relay domains.
        public init() {}

        /// Adds a relay domain, given as an A-label.
        public mutating func addDomain(
            _ name: String, _ settings: DomainSettings = DomainSettings(), slot: DomainSlot = .foreign
        ) {
            domains.append((name, settings, slot))
        }
    }

    /// The relay domains in the order of the settings.
    public let domains: [Domain]
    /// The harvest limit in force.
    public let harvest: Harvest
    let harvestExempt: [IPNetwork]
    /// For each domain, whether its sub-domains are relay domains.
    let subdomains: [Bool]
    let trustedNetworks: [IPNetwork]
    let trustAuthenticated: Bool
    /// Whether an index is expected: recipients are deferred while there is none.
    public let indexExpected: Bool
    let domainsFromIndex: Bool
    let maximumIndexAge: Int64?
    /// Whether foreign domains are in observe mode.
    let observe: Bool
    /// The replies by ``ReplyKind/rawValue``.
    let replies: [ReplyTemplate]
    /// For each domain, all replies by ``ReplyKind/rawValue``; nil if the domain has none of its own.
    let ownReplies: [[ReplyTemplate]?]
    /// For each domain, its own blocked local parts; nil if it has none.
    let ownBlocked: [ByteTable?]
    let patterns: PatternSet
    /// The settings of the domains in the form that judging reads.
    let tables: PolicyTables
    /// The names of the domains, at the same positions.
    let domainTable: ByteTable
    let always: ByteTable
    let blocked: ByteTable

    /// Compiles the settings.
    public init(_ settings: Settings) {
        domains = settings.domains.map { Domain(name: $0.name, settings: $0.settings, slot: $0.slot) }
        domainTable = ByteTable(settings.domains.map(\.name))
        subdomains = settings.domains.map { $0.settings.subdomains ?? settings.subdomains }
        trustedNetworks = settings.trustedNetworks
        trustAuthenticated = settings.trustAuthenticated
        always = ByteTable(settings.always)
        blocked = ByteTable(settings.blocked)
        indexExpected = settings.indexExpected
        domainsFromIndex = settings.domainsFromIndex
        maximumIndexAge = settings.maximumIndexAge
        observe = settings.observe
        harvest = settings.harvest
        harvestExempt = settings.harvestExempt
        let replies = ReplyKind.allCases.map { settings.replies[$0] ?? $0.defaultTemplate }
        self.replies = replies
        let ownReplies = settings.domains.map { domain in
            domain.settings.replies.isEmpty
                ? nil : ReplyKind.allCases.map { domain.settings.replies[$0] ?? replies[$0.rawValue] }
        }
        self.ownReplies = ownReplies
        tables = PolicyTables(
            domains, replies: replies, ownReplies: ownReplies,
            aliases: Self.aliases(domains, domainTable, subdomains))
        ownBlocked = settings.domains.map { $0.settings.blocked.isEmpty ? nil : ByteTable($0.settings.blocked) }
        patterns = PatternSet(settings.patterns)
    }

    /// The most aliases of aliases that lead from one domain to another.
    public static let longestAliasChain = 16

    /// For each domain, the domain that it is an alias of; nil if it isn't an alias, or if the alias is ignored.
    private static func aliases(_ domains: [Domain], _ table: ByteTable, _ subdomains: [Bool]) -> [PolicyTables.Alias?]
    {
        var aliases = domains.map { domain -> PolicyTables.Alias? in
            guard var target = domain.settings.aliasOf, !domain.name.hasPrefix("."),
                let relay = target.withUTF8({ relayDomain($0, table, subdomains) }), target != domain.name
            else { return nil }
            return PolicyTables.Alias(name: target, position: relay)
        }
        // Circular aliases are ignored: judging a recipient there would never end.
        let named = aliases
        for start in named.indices {
            var seen: [Int] = []
            var next = start as Int?
            while let position = next, let alias = named[position] {
                seen.append(position)
                // A chain ends at a sub-domain, which isn't an alias itself.
                next = domains[alias.position].name == alias.name ? alias.position : nil
                if let next, seen.contains(next) || seen.count > longestAliasChain {
                    aliases[start] = nil
                    break
                }
            }
        }
        return aliases
    }

    /// The relay domain that a domain name belongs to, as a position in ``domains``; nil for a foreign domain.
    ///
    /// The name itself is looked up first, then its parents, the nearest first. An entry `.example.com` stands for the sub-domains only,
    /// as in Postfix's `relay_domains`; with `subdomains`, an entry `example.com` stands for them, too.
    public func relayDomain(_ name: UnsafeBufferPointer<UInt8>) -> Int? {
        Self.relayDomain(name, domainTable, subdomains)
    }

    private static func relayDomain(
        _ name: UnsafeBufferPointer<UInt8>, _ domainTable: ByteTable, _ subdomains: [Bool]
    ) -> Int? {
        if let exact = domainTable.position(of: name) { return exact }
        // A domain literal has no parents.
        guard name.first != UInt8(ascii: "[") else { return nil }
        var index = 1
        while index < name.count {
            if name[index] == UInt8(ascii: ".") {
                let dotted = UnsafeBufferPointer(rebasing: name[index...])
                if let parent = domainTable.position(of: dotted) { return parent }
                if let parent = domainTable.position(of: UnsafeBufferPointer(rebasing: dotted.dropFirst())),
                    subdomains[parent]
                {
                    return parent
                }
            }
            index += 1
        }
        return nil
    }

    /// The settings of the relay domain that an address is in; nil for a foreign domain.
    public func settings(of address: RecipientAddress) -> DomainSettings? {
        address.withDomain { relayDomain($0) }.map { domains[$0].settings }
    }

    /// Whether a client at this address is trusted; false if the address isn't known.
    public func trusts(_ address: IPAddress?) -> Bool {
        guard let address else { return false }
        return trustedNetworks.contains { $0.contains(address) }
    }

    /// Whether a client at this address is exempt from the harvest limit; false if the address isn't known.
    public func exemptsFromHarvest(_ address: IPAddress?) -> Bool {
        guard !harvestExempt.isEmpty, let address else { return false }
        return harvestExempt.contains { $0.contains(address) }
    }

    /// Whether the filter only logs a verdict and lets the MTA continue: by the mode of the recipient's own domain, also if that is an
    /// alias.
    public func observes(_ verdict: Verdict) -> Bool {
        verdict.countedDomain.map { tables[$0].observe } ?? observe
    }

    /// The reply of a kind: the domain's own, if it has one.
    ///
    /// - Parameter domain: a position in ``domains``; nil for a foreign domain.
    public func template(_ kind: ReplyKind, domain: Int?) -> ReplyTemplate {
        if let domain, let own = ownReplies[domain] { return own[kind.rawValue] }
        return replies[kind.rawValue]
    }
}

extension ByteTable {
    func contains(_ address: RecipientAddress) -> Bool { address.withKey { contains($0) } }
}
