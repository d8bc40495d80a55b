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
    /// The alias domain that the recipient is in, as a position in ``Policy/domains``; nil if it isn't in one. The rest of the verdict is
    /// that on the same local part in ``domain``.
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
/// A new reason is a case here, its word in ``name``, and a ``VerdictRule`` whose verdicts have it.
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
        case .syntax: "syntax"
        case .postmaster: "postmaster"
        case .relay: "relay"
        case .trusted: "trusted"
        case .always: "always"
        case .blocked: "blocked"
        case .harvest: "harvest"
        case .noIndex: "no-index"
        case .listed: "listed"
        case .internalOnly: "internal"
        case .disabled: "disabled"
        case .catchAll: "catch-all"
        case .staleIndex: "stale-index"
        case .unknown: "unknown"
        case .pattern: "pattern"
        case .srs: "srs"
        case .leaving: "leaving"
        case .unlistedSender: "unlisted-sender"
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

/// What is known of the client when a recipient is judged.
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
