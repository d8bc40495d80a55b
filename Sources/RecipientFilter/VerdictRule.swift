import RejectionLog

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
