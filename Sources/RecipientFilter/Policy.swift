public import MailAddress
public import System

/// The configuration as the verdict needs it: immutable, looked up by bytes, replaced whole.
public final class Policy: Sendable {
    /// What is decided for one relay domain, every per-domain override resolved.
    public struct Domain: Sendable {
        /// The domain as an A-label; one that begins with a dot stands for its sub-domains only.
        public let name: String
        /// What the configuration says for the domain.
        public let rules: Rules
        /// The caller's own number for the domain, as ``VerdictEvent`` hands it on.
        public let tag: UInt32
    }

    /// The settings that a `[[domain]]` may override.
    public struct Rules: Sendable, Equatable {
        /// Whether the verdict is only logged and the MTA told to continue.
        public var observe = false
        /// Whether every recipient of the domain is accepted.
        public var catchAll = false
        /// The characters that set off a detail; empty for none.
        public var delimiter = "+"
        /// Whether the sub-domains are relay domains too, under the same rules; nil: as ``Settings/subdomains`` says.
        public var subdomains: Bool?
        /// Whether `prvs=tag=user` is judged as `user` (BATV).
        public var batv = false
        /// Whether bounces to addresses that a forwarder has rewritten (SRS) are accepted.
        public var srs = false
        /// The local parts, in canonical form, that are refused in this domain whatever the index says.
        public var blocked: [String] = []
        /// The replies of this domain that differ from ``Settings/replies``.
        public var replies: [ReplyKind: ReplyTemplate] = [:]
        /// The domain whose recipients those of this one are, as an A-label; nil where it is no alias. It counts where both are relay
        /// domains and no alias leads back to this one.
        public var aliasOf: String?
        /// Whether an alias has a mode of its own; without, that of the domain whose recipients it has.
        public var hasOwnMode = false
        /// What becomes of a recipient while there is no index: tempfail or accept.
        public var indexMissing = Verdict.Action.tempfail
        /// What becomes of an unlisted recipient while the index is too old; nil: reject it as ever.
        public var indexStale: Verdict.Action?
        /// Whether an internal-only recipient is refused as unknown, hiding that it exists.
        public var hideInternalOnly = false
        /// Whether a disabled mailbox is refused as unknown, hiding that it exists.
        public var hideDisabled = true
        /// Whether a recipient that would be rejected as unknown, and has sent through the gateway lately, is deferred instead.
        public var defersUnlistedSenders = false

        /// The defaults of the configuration file.
        public init() {}
    }

    /// The client's unknown recipients that are let through before it is turned away.
    public struct Harvest: Sendable, Equatable {
        /// Unknown recipients a window; 0 turns the limit off.
        public var limit = 50
        /// The window's length in seconds.
        public var window = 600
        /// The leading bits of an IPv4 address that make up a client network.
        public var ipv4Prefix = 32
        /// The leading bits of an IPv6 address that make up a client network.
        public var ipv6Prefix = 64
        /// Milliseconds that a refusal which tells of an unknown recipient is held back; 0 for none.
        public var tarpit = 0
        /// How many refusals may be held back at once.
        public var tarpitLimit = 50

        /// The defaults of the configuration file.
        public init() {}
    }

    /// Everything a policy is made of, in plain values.
    public struct Settings: Sendable {
        /// The relay domains: A-labels, each with its rules and the caller's number for it.
        public var domains: [(name: String, rules: Rules, tag: UInt32)] = []
        /// Whether the sub-domains of every relay domain are relay domains too, under the parent's rules.
        public var subdomains = false
        /// The networks whose clients are trusted.
        public var trustedNetworks: [IPNetwork] = []
        /// Whether a client that has authenticated is trusted.
        public var trustAuthenticated = true
        /// The local parts, in canonical form, that every relay domain accepts.
        public var always: [String] = ["postmaster", "abuse"]
        /// The recipients, in canonical form, that are refused whatever the index says.
        public var blocked: [String] = []
        /// What is accepted and refused by its form; the first pattern that matches counts.
        public var patterns: [RecipientPattern] = []
        /// Whether an index is expected: with a source configured, or an index that comes from elsewhere.
        public var indexExpected = false
        /// Whether the index names relay domains too, so that without one no domain is known to be foreign.
        public var domainsFromIndex = false
        /// The age in seconds from which an index is too old; nil: never.
        public var maximumIndexAge: Int64?
        /// Whether a recipient in a foreign domain is refused in observe mode only.
        public var observe = false
        /// The replies that differ from the default ones.
        public var replies: [ReplyKind: ReplyTemplate] = [:]
        /// The harvest limit.
        public var harvest = Harvest()
        /// The networks that the harvest limit doesn't hold for.
        public var harvestExempt: [IPNetwork] = []

        /// No relay domain, and the defaults of the configuration file.
        public init() {}
    }

    /// The relay domains in the order of the settings.
    public let domains: [Domain]
    /// The harvest limit in force.
    public let harvest: Harvest
    let harvestExempt: [IPNetwork]
    /// By domain: whether its sub-domains are relay domains too.
    let subdomains: [Bool]
    let trustedNetworks: [IPNetwork]
    let trustAuthenticated: Bool
    /// Whether an index is expected, without which recipients are put off.
    public let indexExpected: Bool
    let domainsFromIndex: Bool
    let maximumIndexAge: Int64?
    /// Observe mode for recipients that belong to no relay domain.
    let observe: Bool
    let replies: [ReplyTemplate]
    /// By domain: all replies where it has some of its own.
    let ownReplies: [[ReplyTemplate]?]
    /// By domain: its own blocked local parts, where it has some.
    let ownBlocked: [ByteTable?]
    let patterns: PatternSet
    /// What the judgement reads of all this.
    let tables: PolicyTables
    let domainTable: ByteTable
    let always: ByteTable
    let blocked: ByteTable

    /// Compiles the settings.
    public init(_ settings: Settings) {
        domains = settings.domains.map { Domain(name: $0.name, rules: $0.rules, tag: $0.tag) }
        domainTable = ByteTable(settings.domains.map(\.name))
        subdomains = settings.domains.map { $0.rules.subdomains ?? settings.subdomains }
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
            domain.rules.replies.isEmpty
                ? nil : ReplyKind.allCases.map { domain.rules.replies[$0] ?? replies[$0.rawValue] }
        }
        self.ownReplies = ownReplies
        tables = PolicyTables(
            domains, replies: replies, ownReplies: ownReplies,
            aliases: Self.aliases(domains, domainTable, subdomains))
        ownBlocked = settings.domains.map { $0.rules.blocked.isEmpty ? nil : ByteTable($0.rules.blocked) }
        patterns = PatternSet(settings.patterns)
    }

    /// How many aliases may lead from a domain to the one whose recipients it has.
    public static let longestAliasChain = 16

    /// By domain: the domain that it is an alias of, if its alias counts.
    private static func aliases(_ domains: [Domain], _ table: ByteTable, _ subdomains: [Bool]) -> [PolicyTables.Alias?]
    {
        var aliases = domains.map { domain -> PolicyTables.Alias? in
            guard var target = domain.rules.aliasOf, !domain.name.hasPrefix("."),
                let relay = target.withUTF8({ relayDomain($0, table, subdomains) }), target != domain.name
            else { return nil }
            return PolicyTables.Alias(name: target, position: relay)
        }
        // A circle has no recipients to judge by, and a judgement must end.
        let named = aliases
        for start in named.indices {
            var seen: [Int] = []
            var next = start as Int?
            while let position = next, let alias = named[position] {
                seen.append(position)
                // One that leads to a sub-domain of its own entry goes no further.
                next = domains[alias.position].name == alias.name ? alias.position : nil
                if let next, seen.contains(next) || seen.count > longestAliasChain {
                    aliases[start] = nil
                    break
                }
            }
        }
        return aliases
    }

    /// The relay domain that a domain name falls under, as a position in ``domains``; nil for a foreign one.
    ///
    /// The name itself comes first, then its parents from the nearest on: an entry `.example.com` stands for sub-domains
    /// only, as in Postfix's `relay_domains`, and with `subdomains` so does `example.com`.
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

    /// The rules of the relay domain that an address is in.
    public func rules(of address: RecipientAddress) -> Rules? {
        address.withDomain { relayDomain($0) }.map { domains[$0].rules }
    }

    /// Whether a client at this address may relay.
    public func trusts(_ address: IPAddress?) -> Bool {
        guard let address else { return false }
        return trustedNetworks.contains { $0.contains(address) }
    }

    /// Whether the harvest limit doesn't hold for a client at this address.
    public func exemptsFromHarvest(_ address: IPAddress?) -> Bool {
        guard !harvestExempt.isEmpty, let address else { return false }
        return harvestExempt.contains { $0.contains(address) }
    }

    /// Whether a verdict is only logged, and the MTA told to continue: as the recipient's own domain has it, also if that is an alias.
    public func observes(_ verdict: Verdict) -> Bool {
        verdict.countedDomain.map { tables[$0].observe } ?? observe
    }

    /// The reply text of a kind, in the words of the domain where it has its own.
    public func template(_ kind: ReplyKind, domain: Int?) -> ReplyTemplate {
        if let domain, let own = ownReplies[domain] { return own[kind.rawValue] }
        return replies[kind.rawValue]
    }
}

extension ByteTable {
    func contains(_ address: RecipientAddress) -> Bool { address.withKey { contains($0) } }
}
