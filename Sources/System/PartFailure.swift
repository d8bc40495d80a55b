public import Foundation

/// Why a part of the running filter doesn't work at the moment, while the rest goes on.
///
/// A part reports it when it stops working and reports nil when it works again; it tries again by itself.
public struct PartFailure: Error, Sendable, Equatable, Codable, CustomStringConvertible {
    /// One sentence for an administrator: the subject, then what happened, with the values.
    public var reason: String
    /// What the administrator can do.
    public var advice: String
    /// Since when the part hasn't worked.
    public var since: Date
    /// When the part is tried next; nil if only a restart or a person can mend it.
    public var nextTry: Date?

    /// A failure that began now, unless `since` says otherwise.
    public init(reason: String, advice: String, since: Date = Date(), nextTry: Date? = nil) {
        self.reason = reason
        self.advice = advice
        self.since = since
        self.nextTry = nextTry
    }

    /// The reason.
    public var description: String { reason }
}
