public import Foundation

/// Why a part of the running filter, such as the log, doesn't work at present, while the rest goes on.
///
/// A part reports a failure when it stops working, tries again by itself, and reports nil when it works again.
public struct PartFailure: Error, Sendable, Equatable, Codable, CustomStringConvertible {
    /// One sentence for an administrator: the subject, then what happened, with the values.
    public var reason: String
    /// The remedy, as a clause.
    public var advice: String
    /// The time at which the part stopped working.
    public var since: Date
    /// The time of the next try; nil if only an administrator can mend the part.
    public var nextTry: Date?

    /// A failure; by default one that begins now.
    public init(reason: String, advice: String, since: Date = Date(), nextTry: Date? = nil) {
        self.reason = reason
        self.advice = advice
        self.since = since
        self.nextTry = nextTry
    }

    /// The reason.
    public var description: String { reason }
}
