public import Foundation

/// A rejected or deferred recipient, as it was logged. The texts come from the client: hostile until escaped.
public struct LogEntry: Sendable, Equatable {
    /// A number that grows in the order of writing, which is nearly the order of time.
    public var id: Int64
    /// The time, to the millisecond.
    public var time: Date
    /// ``Outcome/rejected`` or ``Outcome/deferred``.
    public var outcome: Outcome
    /// True where observe mode accepted the recipient.
    public var observed: Bool
    /// The reason; "mta" if the MTA itself rejected the recipient.
    public var reason: String
    /// The recipient as the client gave it.
    public var recipient: String
    /// The recipient's domain; empty if it has none, or if too many foreign domains came in the same minute.
    public var domain: String
    /// The reverse-path, empty for `<>`.
    public var sender: String
    /// The client's address in text form, empty if unknown.
    public var client: String
    /// The client's host name, as the MTA has it.
    public var clientName: String
    /// The name in HELO or EHLO.
    public var helo: String
    /// The queue id, or a session id.
    public var session: String
    /// True if the client was authenticated.
    public var authenticated: Bool
    /// The host name of the MTA that asked.
    public var mta: String
    /// The reply, with its codes.
    public var reply: String
}

extension Outcome {
    /// Its name in JSON and metrics.
    public var name: String {
        switch self {
        case .accepted: "accepted"
        case .rejected: "refused"
        case .deferred: "tempfailed"
        }
    }
}
