public import Foundation
public import System

/// What a report is about.
public struct ReportQuery: Sendable, Equatable {
    /// The beginning; rounded down to the minute, the grain of the counters.
    public var since: Date
    /// The end, not included; rounded up to the minute.
    public var until: Date
    /// How long the lists are at most.
    public var top: Int
    /// Only this domain (an A-label).
    public var domain: String?
    /// Only this reason.
    public var reason: String?
    /// Only this client, or those of this network. Detail rows alone know which client was refused what: such a report
    /// goes back as far as they do, and holds no accepted recipients.
    public var client: IPNetwork?
    /// The key of the table; nil for none.
    public var key: RejectionReport.Table.Key?
    /// Folds VERP, SRS and BATV senders into one each.
    public var foldVERP: Bool
    /// Hides local parts: `*@example.com`.
    public var redact: Bool
    /// Where days begin in the trend and in tables.
    public var timeZone: TimeZone

    /// A report on everything within the period, with lists of ten.
    public init(
        since: Date, until: Date, top: Int = 10, domain: String? = nil, reason: String? = nil,
        client: IPNetwork? = nil, key: RejectionReport.Table.Key? = nil, foldVERP: Bool = false,
        redact: Bool = false, timeZone: TimeZone = .current
    ) {
        self.since = since
        self.until = until
        self.top = top
        self.domain = domain
        self.reason = reason
        self.client = client
        self.key = key
        self.foldVERP = foldVERP
        self.redact = redact
        self.timeZone = timeZone
    }

    /// The period in minutes since 1970, the second not included.
    var minutes: (from: Int64, to: Int64) {
        let from = Timestamp.milliseconds(since1970: since) / 60_000
        let to = (Timestamp.milliseconds(since1970: until) + 59_999) / 60_000
        return (from, max(from, to))
    }
}

/// What a report needs beside the log: what is listed now, and how the sync did.
public struct ReportContext: Sendable {
    /// True for the octets of an address that the index lists, and that a stranger may write to, by itself: not for what only a
    /// catch-all domain takes. Nil where there is no index: then there are no near misses.
    public var isListed: (@Sendable (UnsafeBufferPointer<UInt8>) -> Bool)?
    /// True for the bytes of an address to which a stranger's mail is refused as unknown; nil where that isn't known.
    public var isUnknown: (@Sendable (UnsafeBufferPointer<UInt8>) -> Bool)?
    /// The relay domains (A-labels).
    public var relayDomains: [String] = []
    /// How the list of recipients did; its `changes` are filled in from the log.
    public var sync: RejectionReport.SyncHealth?
    /// How often the index may be asked.
    public var lookups = 1_000_000
    /// The time of the report.
    public var now = Date()

    /// From how many refusals on a part of a day is told from the day less the rest of it, where that is quicker.
    var largeEdge = 100_000

    /// Nothing is known.
    public init() {}
}
