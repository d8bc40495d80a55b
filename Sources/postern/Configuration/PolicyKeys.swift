import RecipientFilter
import RejectionLog
import System

// The keys that decide about recipients: [relay], [recipients], [policy], [[domain]], [harvest] and [replies].

struct RelayKeys: ConfigurationKeys {
    let domains = ConfigurationKey(
        "domains",
        .list(of: .domain("a domain name, such as \"example.com\"", allowsDot: true), example: ["example.com"]),
        default: [],
        example: ["example.com", "example.org"], isSetInSample: true,
        explanation: """
            The domains that this gateway relays mail for. Mail to all other domains is rejected, except from trusted
            clients. An entry such as ".example.com" stands for the sub-domains of example.com.
            """)
    let domainsFrom = ConfigurationKey(
        "domains_from", .elements(of: .domainTable, example: ["/etc/postfix/relay_domains"]), default: [],
        example: ["/etc/postfix/relay_domains"],
        explanation: """
            Tables whose left sides are relay domains too. A table of another kind has its kind before the path:
            "transport:/etc/postfix/transport", "access:/etc/mail/access" or "mailertable:/etc/mail/mailertable".
            """
    )
    let domainsFromIndex = ConfigurationKey(
        "domains_from_index", .boolean, default: false,
        explanation: """
            Whether the domains that the sync found in a directory are relay domains too. Needed only where the sync
            runs on another machine: a source in this file adds its domains by itself.
            """)
    let subdomains = ConfigurationKey(
        "subdomains", .boolean, default: false,
        explanation: "Whether the sub-domains of relay domains are relay domains too.")
    let trustedNetworks = ConfigurationKey(
        "trusted_networks", .list(of: .network, example: ["192.0.2.0/24"]), default: ["127.0.0.0/8", "::1/128"],
        explanation: "The networks whose clients may relay to any domain, as mynetworks in Postfix.")
    let trustAuthenticated = ConfigurationKey(
        "trust_authenticated", .boolean, default: true,
        explanation: "Whether clients that have logged in (SMTP AUTH) may relay to any domain.")
}

struct RecipientKeys: ConfigurationKeys {
    let always = ConfigurationKey(
        "always", .list(of: .localPart, example: ["postmaster"]), default: ["postmaster", "abuse"],
        explanation: "Local parts that every relay domain accepts.")
    let blocked = ConfigurationKey(
        "blocked", .list(of: .address(example: "old-list@example.com"), example: ["old-list@example.com"]), default: [],
        example: ["old-list@example.com"],
        explanation: "Recipients that are rejected whatever the sources list.")
    let form = AddressFormKeys()
    let patterns = ConfigurationKey(
        "patterns", .tables(PatternKeys()), default: [],
        example: [["match": #"^lst-[0-9]+@example\.com$"#, "action": "accept"]],
        explanation: """
            Regular expressions that are searched in the whole address in lower case. The first that matches decides.
            """)
}

/// The keys of an address's form, which `[recipients]` and `[[domain]]` share.
struct AddressFormKeys: ConfigurationKeys {
    var explainedIn: String?

    let delimiter = ConfigurationKey(
        "delimiter", .delimiter, default: "+",
        explanation: """
            The characters that separate a recipient from its detail: user+detail is judged as user. "" for none.
            """)
    let batv = ConfigurationKey(
        "batv", .boolean, default: false,
        explanation: "Whether the sender's tag (BATV) is removed: prvs=1234abcdef=user is judged as user.")
    let srs = ConfigurationKey(
        "srs", .boolean, default: false,
        explanation: """
            Whether Postern accepts bounces to SRS0=...=user, the addresses that a forwarder behind this gateway
            writes.
            """
    )
}

struct PatternKeys: ConfigurationKeys {
    let match = ConfigurationKey(
        "match", .text("a regular expression"), isRequired: true, example: #"^lst-[0-9]+@example\.com$"#,
        explanation: "The regular expression.")
    let action = ConfigurationKey(
        "action", .choice(["accept": RecipientPattern.Action.accept, "block": .block]), isRequired: true,
        example: "accept",
        explanation: #"Whether the recipients that match are accepted ("accept") or rejected ("block")."#)
}

struct DomainKeys: ConfigurationKeys {
    let name = ConfigurationKey(
        "name", .domain("one of the relay domains", allowsDot: true), isRequired: true, example: "example.org",
        explanation: "The domain: a relay domain, or a sub-domain of one.")
    let catchAll = ConfigurationKey(
        "catch_all", .boolean, default: false, explanation: "Whether every recipient of the domain is accepted.")
    let aliasOf = ConfigurationKey(
        "alias_of", .domain("one of the relay domains"), defaultNote: "the domain is not an alias",
        example: "example.com",
        explanation: "Another relay domain of which this one is an alias: user@alias is judged as user@domain.")
    let subdomains = ConfigurationKey(
        "subdomains", .boolean, defaultNote: "as relay.subdomains", example: true,
        explanation: "Whether the sub-domains of this domain are relay domains too, with its settings.")
    let blocked = ConfigurationKey(
        "blocked", .elements(of: .text("an address or a local part"), example: ["old-list"]), default: [],
        example: ["old-list"],
        explanation: "Further recipients that are rejected: local parts, or addresses in this domain.")
    let rules = RuleKeys(explainedIn: "[policy]")
    let form = AddressFormKeys(explainedIn: "[recipients]")
    let replies = ConfigurationKey(
        "replies", .table(ReplyKeys(explainedIn: "[replies]")), default: [:],
        example: ["unknown": "550 5.1.1 Nobody of that name at {domain}"],
        explanation: "The replies for this domain, with the keys of [replies].")
}

struct PolicyKeys: ConfigurationKeys {
    let rules = RuleKeys()
}

/// The keys of the verdict, which `[policy]` and `[[domain]]` share.
struct RuleKeys: ConfigurationKeys {
    var explainedIn: String?

    let mode = ConfigurationKey(
        "mode", .choice(["enforce": false, "observe": true]), default: "enforce", isSetInSample: true,
        explanation: """
            Whether recipients are rejected ("enforce"), or accepted and logged as if they were rejected ("observe").
            Begin with "observe"; postern report shows what would have been rejected.
            """)
    let indexMissing = ConfigurationKey(
        "index_missing", .choice(["tempfail": Outcome.deferred, "accept": .accepted]), default: "tempfail",
        explanation: """
            Whether recipients are deferred ("tempfail") or accepted ("accept") while there is no recipient index.
            """
    )
    let indexStale = ConfigurationKey(
        "index_stale", .choice(["keep": Outcome?.none, "tempfail": .deferred, "accept": .accepted]),
        default: "keep",
        explanation: """
            Whether unknown recipients are still rejected ("keep"), deferred ("tempfail") or accepted ("accept")
            while the recipient index is older than index.max_age.
            """)
    let internalOnly = ConfigurationKey(
        "internal_only", .choice(["reject": false, "unknown": true]), default: "reject",
        explanation: """
            Whether recipients for trusted clients only are rejected with a reply of their own ("reject"), or as
            unknown, which hides that they exist ("unknown").
            """)
    let unlistedSender = ConfigurationKey(
        "unlisted_sender", .choice(["report": false, "defer": true]), default: "report",
        explanation: """
            Whether an unknown recipient that has sent mail through this gateway within 30 days is rejected and named
            in the report ("report"), or deferred ("defer").
            """)
    let disabled = ConfigurationKey(
        "disabled", .choice(["unknown": true, "reject": false]), default: "unknown",
        explanation: """
            Whether disabled mailboxes are rejected as unknown ("unknown"), or with a reply that says that they are
            disabled ("reject").
            """)
}

struct HarvestKeys: ConfigurationKeys {
    let limit = ConfigurationKey(
        "limit", .integer(0...1_000_000), default: 50,
        explanation: """
            The number of unknown recipients that one client network may have within the window. Above it, Postern
            defers every recipient of the network. 0 for no limit.
            """)
    let window = ConfigurationKey(
        "window", .duration(from: 1), default: "10m", explanation: "The time over which unknown recipients are counted."
    )
    let ipv4Prefix = ConfigurationKey(
        "ipv4_prefix", .integer(8...32), default: 32,
        explanation: "The leading bits of an IPv4 address that make up the client network.")
    let ipv6Prefix = ConfigurationKey(
        "ipv6_prefix", .integer(16...128), default: 64,
        explanation: "The leading bits of an IPv6 address that make up the client network.")
    let exempt = ConfigurationKey(
        "exempt", .list(of: .network, example: ["198.51.100.0/24"]), default: [], example: ["198.51.100.0/24"],
        explanation: "Networks that have no limit.")
    // Sendmail waits ten seconds for an answer.
    let tarpit = ConfigurationKey(
        "tarpit", .duration(to: 8), default: "0s",
        explanation: #"The time by which the reply "user unknown" is delayed, which slows guessing down."#)
    let tarpitLimit = ConfigurationKey(
        "tarpit_limit", .integer(1...10_000), default: 50,
        explanation: "The number of replies that may be delayed at once. Each occupies a process of the MTA.")
}

struct ReplyKeys: ConfigurationKeys {
    var explainedIn: String?

    let replies = ReplyKind.allCases.map { kind in
        ConfigurationKey(
            kind.key, .reply(kind), default: .string(kind.defaultText),
            explanation: "The reply \(explanation(of: kind)).")
    }

    private static func explanation(of kind: ReplyKind) -> String {
        switch kind {
        case .syntax: "to an address with a syntax error"
        case .relay: "to a recipient in a domain that isn't relayed"
        case .blocked: "to a recipient that recipients.blocked or a pattern rejects"
        case .harvest: "to a client network above harvest.limit"
        case .noIndex: "while there is no recipient index"
        case .internalOnly: "to a recipient for trusted clients only"
        case .staleIndex: "to an unknown recipient while the recipient index is older than index.max_age"
        case .disabled: "to a disabled mailbox, with policy.disabled = \"reject\""
        case .unknown:
            "to an unknown recipient. While a migration lasts it may begin with 4, which defers these recipients"
        case .leaving: "to a recipient that left the list less than sync.grace ago"
        case .unlistedSender: "to an unknown recipient that has sent mail, with policy.unlisted_sender = \"defer\""
        }
    }
}
