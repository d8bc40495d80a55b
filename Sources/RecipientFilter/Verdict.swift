public import RejectionLog

/// The decision on one recipient, and why: the result of ``Policy/verdict(for:client:index:senders:now:)``.
public struct Verdict: Sendable, Equatable {
    /// The outcome for the MTA if the domain is in enforce mode.
    public let outcome: Outcome
    /// Why, as the log and the report count it.
    public let reason: Reason
    /// The rule that decided.
    public let rule: VerdictRule
    /// The reply to give; nil for an accepted recipient.
    public let reply: ReplyKind?
    /// The relay domain whose settings decided, as a position in ``Policy/domains``; nil for a foreign domain and a path without one.
    public let domain: Int?
    /// The alias domain that the recipient is in, as a position in ``Policy/domains``; nil if it isn't in one. The other
    /// properties are those of the verdict on the same local part in ``domain``.
    public internal(set) var alias: Int?
    /// Whether the recipient was found in the index only without its `+detail`.
    public let withoutDetail: Bool
    /// The pattern that decided, by its position in ``Policy/Settings/patterns``.
    public let pattern: Int?

    /// The domain that the recipient is counted for: its own, also if that is an alias of another.
    public var countedDomain: Int? { alias ?? domain }

    /// Whether the reply tells the client that the recipient doesn't exist: the harvest limit counts these.
    public var revealsUnknown: Bool { reply == .unknown || reply == .blocked }

    /// Whether the tarpit holds the reply back.
    var isHeldBack: Bool { revealsUnknown || reply == .harvest }

    /// The verdict on a path that isn't valid.
    public static var invalidPath: Verdict { .reject(.syntax) }

    static func accept(
        _ rule: VerdictRule, in domain: Int? = nil, withoutDetail: Bool = false, pattern: Int? = nil
    ) -> Verdict {
        Verdict(
            outcome: .accepted, reason: rule.reason, rule: rule, reply: nil, domain: domain,
            withoutDetail: withoutDetail, pattern: pattern)
    }

    /// - Parameters:
    ///   - reason: nil for the rule's own.
    ///   - reply: nil for the rule's own.
    static func reject(
        _ rule: VerdictRule, reason: Reason? = nil, reply: ReplyKind? = nil, in domain: Int? = nil,
        withoutDetail: Bool = false, pattern: Int? = nil
    ) -> Verdict {
        Verdict(
            outcome: .rejected, reason: reason ?? rule.reason, rule: rule, reply: reply ?? rule.reply, domain: domain,
            withoutDetail: withoutDetail, pattern: pattern)
    }

    /// - Parameter reply: nil for the rule's own.
    static func deferred(
        _ rule: VerdictRule, reply: ReplyKind? = nil, in domain: Int?, withoutDetail: Bool = false
    ) -> Verdict {
        Verdict(
            outcome: .deferred, reason: rule.reason, rule: rule, reply: reply ?? rule.reply, domain: domain,
            withoutDetail: withoutDetail, pattern: nil)
    }
}

/// Why a recipient was accepted, rejected or deferred, as the log and the report count it.
///
/// A new reason is a case here, its word in ``name``, a ``VerdictRule`` whose verdicts have it, and its meaning for the
/// report in `ReportWords.meaning(of:)`.
public enum Reason: UInt8, Sendable, CaseIterable {
    /// The path isn't valid by RFC 5321.
    case syntax
    /// `<postmaster>` without a domain, which RFC 5321 section 4.5.1 requires to accept.
    case postmaster
    /// A foreign domain or a routed local part, from a client that isn't trusted.
    case relay
    /// A foreign domain, from a trusted client.
    case trusted
    /// A local part in `recipients.always`.
    case always
    /// An address in `recipients.blocked`, or in the list of its domain.
    case blocked
    /// The client's network is over its harvest limit.
    case harvest
    /// There is no index, though one is expected.
    case noIndex
    /// Listed, and usable by this client.
    case listed
    /// Listed for trusted clients only.
    case internalOnly
    /// Listed as a disabled mailbox.
    case disabled
    /// Not listed, in a catch-all domain.
    case catchAll
    /// Not listed, and the index is older than `index.max_age`.
    case staleIndex
    /// Not listed.
    case unknown
    /// Accepted or blocked by a pattern of `recipients.patterns`.
    case pattern
    /// A bounce to an address that a forwarder has rewritten (SRS).
    case srs
    /// Left the recipient list less than `sync.grace` ago.
    case leaving
    /// Not listed, but has sent through this gateway lately.
    case unlistedSender

    /// The reason's word in the log, the report and `postern check --batch`: at most 15 bytes.
    public var name: String {
        switch self {
        case .noIndex: "no-index"
        case .internalOnly: "internal"
        case .catchAll: "catch-all"
        case .staleIndex: "stale-index"
        case .unlistedSender: "unlisted-sender"
        case .syntax: "syntax"
        case .postmaster: "postmaster"
        case .relay: "relay"
        case .trusted: "trusted"
        case .always: "always"
        case .blocked: "blocked"
        case .harvest: "harvest"
        case .listed: "listed"
        case .disabled: "disabled"
        case .unknown: "unknown"
        case .pattern: "pattern"
        case .srs: "srs"
        case .leaving: "leaving"
        }
    }
}

extension Outcome {
    /// The word for the outcome in `postern check`: accept, reject or tempfail.
    public var verdictWord: String {
        switch self {
        case .accepted: "accept"
        case .rejected: "reject"
        case .deferred: "tempfail"
        }
    }
}

/// The facts about the client and the message that a verdict depends on.
public struct ClientTrust: Sendable, Equatable {
    /// Whether the client is in a trusted network or has authenticated.
    public var isTrusted: Bool
    /// Whether the client's network is over its harvest limit.
    public var isOverHarvestLimit: Bool
    /// Whether the message is a bounce: MAIL FROM:<>.
    public var isBounce: Bool

    /// By default, a client that isn't trusted and is below its harvest limit, with a message that isn't a bounce.
    public init(isTrusted: Bool = false, isOverHarvestLimit: Bool = false, isBounce: Bool = false) {
        self.isTrusted = isTrusted
        self.isOverHarvestLimit = isOverHarvestLimit
        self.isBounce = isBounce
    }
}

/// The rules by which a recipient is judged, in their order: the first whose condition holds decides.
///
/// ``Policy/verdict(for:client:index:senders:now:)`` applies them. A new rule is a case here with its condition, reason, reply and keys,
/// and a function there.
public enum VerdictRule: String, Sendable, CaseIterable {
    case syntax
    case postmaster
    case routed
    case trustedRelay = "trusted-relay"
    case foreign
    case always
    case blocked
    case harvest
    case pattern
    case srs
    case noIndex = "no-index"
    case listed
    case internalOnly = "internal"
    case disabled
    case leaving
    /// Decides nothing itself: the verdict has the rule that decided in the other domain.
    case aliasDomain = "alias-domain"
    case catchAll = "catch-all"
    case staleIndex = "stale-index"
    case unlistedSender = "unlisted-sender"
    case unknown

    /// The condition under which the rule decides, as a clause such as "the recipient is listed".
    public var condition: String {
        switch self {
        case .syntax: "not a valid recipient path (RFC 5321 section 4.1.2)"
        case .postmaster: "<postmaster> without a domain is always accepted (RFC 5321 section 4.5.1)"
        case .routed: "the local part asks for routing to another host, and the client is not trusted"
        case .trustedRelay: "the domain is not a relay domain, and the client is trusted to relay"
        case .foreign: "the domain is not a relay domain, and the client is not trusted"
        case .always: "the local part is accepted in every relay domain"
        case .blocked: "the configuration blocks this recipient"
        case .harvest: "the client's network has asked for too many unknown recipients"
        case .pattern: "a pattern accepts this recipient"
        case .srs: "a bounce to an address that a forwarder has rewritten (SRS)"
        case .noIndex: "there is no recipient index, though a source is configured"
        case .listed: "the recipient is listed"
        case .internalOnly: "the recipient is listed for trusted clients only, and this client is not trusted"
        case .disabled: "the recipient is listed as a disabled mailbox"
        case .leaving: "the recipient left the list less than sync.grace ago; it is rejected after that time"
        case .aliasDomain: "the domain is an alias of another: the recipient is judged in that domain"
        case .catchAll: "the recipient is not listed, but its domain is a catch-all domain"
        case .staleIndex: "the recipient is not listed, and the recipient index is older than index.max_age"
        case .unlistedSender:
            "the recipient is not listed, but has sent through this gateway within \(UnlistedSenders.days) days"
        case .unknown: "the recipient is not listed"
        }
    }

    /// The reason of the rule's verdicts. A pattern that blocks a recipient has the rule ``blocked`` and the reason ``Reason/pattern``.
    public var reason: Reason {
        switch self {
        case .syntax: .syntax
        case .postmaster: .postmaster
        case .routed, .foreign: .relay
        case .trustedRelay: .trusted
        case .always: .always
        case .blocked: .blocked
        case .harvest: .harvest
        case .pattern: .pattern
        case .srs: .srs
        case .noIndex: .noIndex
        case .listed, .aliasDomain: .listed
        case .internalOnly: .internalOnly
        case .disabled: .disabled
        case .leaving: .leaving
        case .catchAll: .catchAll
        case .staleIndex: .staleIndex
        case .unlistedSender: .unlistedSender
        case .unknown: .unknown
        }
    }

    /// The reply of the rule's verdicts that don't accept; nil for a rule that only accepts.
    public var reply: ReplyKind? {
        switch self {
        case .syntax: .syntax
        case .routed, .foreign: .relay
        case .blocked: .blocked
        case .harvest: .harvest
        case .noIndex: .noIndex
        case .internalOnly: .internalOnly
        case .disabled: .disabled
        case .leaving: .leaving
        case .staleIndex: .staleIndex
        case .unlistedSender: .unlistedSender
        case .unknown: .unknown
        case .postmaster, .trustedRelay, .always, .pattern, .srs, .listed, .aliasDomain, .catchAll: nil
        }
    }

    /// The configuration keys that the rule depends on, the most important first.
    public var decidingKeys: [String] {
        switch self {
        case .routed, .trustedRelay: ["relay.trusted_networks", "relay.trust_authenticated"]
        case .foreign: ["relay.domains", "relay.domains_from", "relay.subdomains"]
        case .always: ["recipients.always"]
        case .blocked: ["recipients.blocked"]
        case .harvest: ["harvest.limit", "harvest.window"]
        case .noIndex: ["policy.index_missing", "index.path"]
        case .internalOnly: ["policy.internal_only"]
        case .disabled: ["policy.disabled"]
        case .catchAll: ["domain.catch_all"]
        case .staleIndex: ["policy.index_stale", "index.max_age"]
        case .srs: ["recipients.srs"]
        case .leaving: ["sync.grace"]
        case .unlistedSender: ["policy.unlisted_sender"]
        case .syntax, .postmaster, .pattern, .listed, .aliasDomain, .unknown: []
        }
    }

    /// The table of the rules for the manual: for each rule its name, condition, verdict with the default reply, and reason.
    public static var table: [[String]] {
        allCases.map { rule in
            let accept = Outcome.accepted.verdictWord
            let reply = rule.reply?.defaultText ?? accept
            let verdict =
                switch rule {
                case .noIndex: "\(reply), or \(accept) (policy.index_missing)"
                case .internalOnly: "\(reply), or as unknown (policy.internal_only)"
                case .disabled: "as unknown, or \(reply) (policy.disabled)"
                case .staleIndex: "as unknown, \(reply), or \(accept) (policy.index_stale)"
                case .aliasDomain: "as in that domain"
                default: reply
                }
            let reason =
                switch rule {
                case .blocked: "\(rule.reason.name), \(Reason.pattern.name)"
                case .aliasDomain: "as in that domain"
                default: rule.reason.name
                }
            return [rule.rawValue, rule.condition, verdict, reason]
        }
    }
}

extension Verdict {
    /// The reason in a clause, for an administrator.
    public var explanation: String {
        switch rule {
        case .blocked where reason == .pattern: "a pattern blocks this recipient"
        case .listed where withoutDetail: "the recipient is listed without its detail"
        default: rule.condition
        }
    }

    /// The configuration keys that the verdict depends on, the most important first.
    public var decidingKeys: [String] {
        switch rule {
        case .blocked where reason == .pattern: []
        case .listed where withoutDetail: ["recipients.delimiter"]
        default: rule.decidingKeys
        }
    }
}
