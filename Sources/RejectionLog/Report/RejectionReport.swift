public import Foundation

/// What was refused in a period, and why: the figures, from which every format is rendered.
///
/// Each recipient that was asked for is in exactly one of the totals `refused`, `tempfailed`, `observed` and `accepted`;
/// `mta_refused` says how many of the first two the MTA refused by itself, before Postern was asked: their reason is `mta`.
/// `by_reason` counts what was not in the recipient's favour, enforced or observed, so its sum is `refused` + `tempfailed` +
/// `observed`. Totals, `by_reason`, the trend and the domains come from the exact counters, the other lists from detail rows
/// and from what stayed of them when their day was over: these may be too low, and where only whole days (UTC) are left, hold
/// what is outside the period on its first and last day. `thinned` says by how many rows (of all domains and reasons) at most a
/// flood has made them too low, `coverage` what else is missing.
public struct RejectionReport: Codable, Sendable, Equatable {
    /// From `since` up to, not including, `until`; in JSON ISO 8601, UTC.
    public struct Period: Codable, Sendable, Equatable {
        /// The beginning, a whole minute.
        public var since: Date
        /// The end, a whole minute.
        public var until: Date
    }

    /// Numbers of recipients (RCPT commands).
    public struct Totals: Codable, Sendable, Equatable {
        /// Refused with a 5xx reply.
        public var refused = 0
        /// Accepted, or not objected to.
        public var accepted = 0
        /// Put off with a 4xx reply.
        public var tempfailed = 0
        /// Would have been refused or put off, but observe mode let them pass.
        public var observed = 0
        /// Those of the refused and put off ones that the MTA refused before Postern was asked.
        public var mtaRefused = 0
        /// Detail rows that found no room; their recipients are counted above.
        public var thinned = 0

        enum CodingKeys: String, CodingKey {
            case refused, accepted, tempfailed, observed
            case mtaRefused = "mta_refused"
            case thinned
        }
    }

    /// A refused recipient.
    public struct Recipient: Codable, Sendable, Equatable {
        /// As the client gave it.
        public var recipient: String
        /// How often.
        public var count: Int
    }

    /// A recipient domain.
    public struct Domain: Codable, Sendable, Equatable {
        /// An A-label.
        public var domain: String
        /// How often.
        public var count: Int
    }

    /// A client that was refused recipients.
    public struct Client: Codable, Sendable, Equatable {
        /// Its address, empty if unknown.
        public var client: String
        /// Its newest name, as the MTA says.
        public var name: String
        /// How often.
        public var count: Int
    }

    /// The network of clients that were refused recipients.
    public struct Network: Codable, Sendable, Equatable {
        /// `192.0.2.0/24` or `2001:db8::/64`.
        public var network: String
        /// How often.
        public var count: Int
    }

    /// A reverse-path.
    public struct Sender: Codable, Sendable, Equatable {
        /// Empty for `<>`.
        public var sender: String
        /// How often.
        public var count: Int
    }

    /// A HELO name.
    public struct Helo: Codable, Sendable, Equatable {
        /// As the client gave it.
        public var helo: String
        /// How often.
        public var count: Int
    }

    /// The most frequent ones, most frequent first, equals in alphabetical order.
    public struct Top: Codable, Sendable, Equatable {
        /// Recipients.
        public var recipients: [Recipient] = []
        /// Recipient domains; refusals that have none, or whose name isn't known, are left out.
        public var domains: [Domain] = []
        /// Clients.
        public var clients: [Client] = []
        /// Client networks: /24 of IPv4, /64 of IPv6.
        public var networks: [Network] = []
        /// Reverse-paths.
        public var senders: [Sender] = []
        /// HELO names.
        public var helos: [Helo] = []
    }

    /// The period.
    public var period: Period
    /// The sums.
    public var totals: Totals
    /// Verdicts by reason.
    public var byReason: [String: Int]
    /// The top lists.
    public var top: Top
    /// The version of this document's form: fields may be added within one, none renamed or removed.
    public var schema = 1
    /// What the report was cut down to.
    public var cut = Cut()
    /// The period of the same length just before; nil where the log doesn't reach back that far.
    public var previous: Previous?
    /// How the period went, step by step, without gaps.
    public var trend = Trend()
    /// The refusals by the key that was asked for; nil where none was.
    public var table: Table?
    /// Refused recipients that are one or two slips away from a listed one, most frequent first.
    public var nearMisses: [NearMiss] = []
    /// Recipients that were refused as unknown and are listed now, most frequent first.
    public var listedNow: [ListedNow] = []
    /// Senders of relay domains that the index doesn't list, those first that have sent last.
    public var unlistedSenders: [UnlistedSender] = []
    /// Client networks that guessed recipients, most recipients first.
    public var harvests: [Harvest] = []
    /// Senders that look like people who write to somebody who left, most days first.
    public var correspondents: [Correspondent] = []
    /// What observe mode let pass, by reason.
    public var observed: [String: Int] = [:]
    /// What the MTA refused by itself, by its reply, most frequent first.
    public var mtaReplies: [MTAReply] = []
    /// How the list of recipients did; nil where there is neither an index nor a sync.
    public var sync: SyncHealth?
    /// How far the lists go.
    public var coverage = Coverage()
    /// What a postmaster should look at, most pressing first: made from all the rest.
    public var findings: [Finding] = []

    enum CodingKeys: String, CodingKey {
        case schema, period, cut, totals, previous, findings
        case byReason = "by_reason"
        case trend, top, table
        case nearMisses = "near_misses"
        case listedNow = "listed_now"
        case unlistedSenders = "unlisted_senders"
        case harvests, correspondents, observed
        case mtaReplies = "mta_replies"
        case sync, coverage
    }

    /// Whether there is nothing to read in it: nothing was refused, deferred or observed, and nothing is a problem.
    public var isQuiet: Bool { refusals == 0 && !findings.contains { $0.level == .problem } }

    /// By reason, most frequent first, equals in alphabetical order.
    public var reasons: [(reason: String, count: Int)] {
        byReason.map { (reason: $0.key, count: $0.value) }.sorted { ($1.count, $0.reason) < ($0.count, $1.reason) }
    }

    /// The report as JSON: keys sorted, indented, times in ISO 8601 (UTC), ending with a line feed. Values are exact; what
    /// isn't plainly visible in them is written as `\u202e`.
    public func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return SafeText.jsonEscaped(String(decoding: try encoder.encode(self), as: UTF8.self)) + "\n"
    }
}
