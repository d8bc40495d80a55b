/// What is decided of one recipient, and why: the result of ``Policy/verdict(for:client:index:now:)``.
public struct Verdict: Sendable, Equatable {
    /// What the MTA is told, were the domain in enforce mode.
    public enum Action: String, Sendable, CaseIterable {
        case accept, reject, tempfail
    }

    /// What the MTA is told.
    public let action: Action
    /// Why.
    public let reason: Reason
    /// The row of the verdict table that decided, 1 to 20.
    public let rule: Int
    /// The reply to give; nil for an accepted recipient.
    public let reply: ReplyKind?
    /// The relay domain's settings as a position in ``Policy/domains``; nil for a foreign domain and a path without one.
    public let domain: Int?
    /// The alias domain that the recipient is in, as a position in ``Policy/domains``; nil where it isn't in one. The rest of the
    /// verdict is then that on the same local part of ``domain``.
    public internal(set) var alias: Int?
    /// Whether the recipient was found only without its `+detail`.
    public let withoutDetail: Bool
    /// The pattern that decided, by its position in ``Policy/Settings/patterns``.
    public let pattern: Int?

    /// The domain that the recipient is counted for: its own, though an alias is judged by the rules of another one.
    public var countedDomain: Int? { alias ?? domain }

    /// Whether the refusal tells the client that the recipient doesn't exist, which is what a harvester counts on.
    public var revealsUnknown: Bool { reply == .unknown || reply == .blocked }

    /// Whether the refusal is one that a harvester is to wait for.
    var isHeldBack: Bool { revealsUnknown || reply == .harvest }

    /// The verdict on what is no recipient path.
    public static var invalidPath: Verdict { .reject(1, .syntax, .syntax) }

    static func accept(
        _ rule: Int, _ reason: Reason, _ domain: Int? = nil, withoutDetail: Bool = false, pattern: Int? = nil
    ) -> Verdict {
        Verdict(
            action: .accept, reason: reason, rule: rule, reply: nil, domain: domain, withoutDetail: withoutDetail,
            pattern: pattern)
    }

    static func reject(
        _ rule: Int, _ reason: Reason, _ reply: ReplyKind, _ domain: Int? = nil, withoutDetail: Bool = false,
        pattern: Int? = nil
    ) -> Verdict {
        Verdict(
            action: .reject, reason: reason, rule: rule, reply: reply, domain: domain, withoutDetail: withoutDetail,
            pattern: pattern)
    }

    static func tempfail(
        _ rule: Int, _ reason: Reason, _ reply: ReplyKind, _ domain: Int?, withoutDetail: Bool = false
    ) -> Verdict {
        Verdict(
            action: .tempfail, reason: reason, rule: rule, reply: reply, domain: domain, withoutDetail: withoutDetail,
            pattern: nil)
    }
}

/// Why a verdict is what it is: the last column of the verdict table.
public enum Reason: UInt8, Sendable, CaseIterable {
    /// Not a valid RFC 5321 path.
    case syntax
    /// `<postmaster>` without a domain, which RFC 5321 section 4.5.1 obliges to accept.
    case postmaster
    /// A foreign domain or a routed local part from a client that may not relay.
    case relay
    /// A foreign domain from a client that may relay.
    case trusted
    /// A local part that `recipients.always` accepts.
    case always
    /// An address in `recipients.blocked` or in its domain's own list.
    case blocked
    /// The client's network asked for too many unknown recipients.
    case harvest
    /// There should be an index, and there is none.
    case noIndex
    /// In the index, and usable by this client.
    case listed
    /// In the index for trusted clients only.
    case internalOnly
    /// In the index as a disabled mailbox.
    case disabled
    /// Not in the index, in a domain that takes all.
    case catchAll
    /// Not in the index, and the index is older than `index.max_age`.
    case staleIndex
    /// Not in the index.
    case unknown
    /// Accepted or blocked by one of `recipients.patterns`.
    case pattern
    /// A bounce to an address that a forwarder has rewritten.
    case srs
    /// In the index, but in no source any more, for less than the time of grace.
    case leaving
    /// Not in the index, but it has sent through this gateway lately.
    case unlistedSender

    /// The word for it, at most 15 octets, as it stands in the log, the report and `postern check --batch`.
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
