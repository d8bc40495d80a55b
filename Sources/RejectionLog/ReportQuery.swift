public import Foundation

/// What a report is about.
public struct ReportQuery: Sendable, Equatable {
    /// The beginning; rounded down to the minute, the grain of the counters.
    public var since: Date
    /// The end, not included; rounded up to the minute.
    public var until: Date
    /// How long the top lists are at most.
    public var top: Int
    /// Only this domain (an A-label).
    public var domain: String?
    /// Only this reason.
    public var reason: String?
    /// Hides local parts: `*@example.com`.
    public var redact: Bool

    /// A report on everything within the period, with top lists of ten.
    public init(
        since: Date, until: Date, top: Int = 10, domain: String? = nil, reason: String? = nil, redact: Bool = false
    ) {
        self.since = since
        self.until = until
        self.top = top
        self.domain = domain
        self.reason = reason
        self.redact = redact
    }

    /// The period in minutes since 1970, the second not included.
    var minutes: (from: Int64, to: Int64) {
        let from = Timestamp.milliseconds(since1970: since) / 60_000
        let to = (Timestamp.milliseconds(since1970: until) + 59_999) / 60_000
        return (from, max(from, to))
    }
}
