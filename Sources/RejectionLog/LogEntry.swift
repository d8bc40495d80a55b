public import Foundation

/// One refused or tempfailed recipient, as it was logged. The texts are the client's: hostile until escaped.
public struct LogEntry: Sendable, Equatable {
    /// Grows in the order of writing, which is nearly that of time.
    public var id: Int64
    /// To the millisecond.
    public var time: Date
    /// ``Outcome/rejected`` or ``Outcome/deferred``.
    public var outcome: Outcome
    /// True in observe mode: the verdict wasn't enforced.
    public var observed: Bool
    /// Why; "mta" if the MTA itself refused.
    public var reason: String
    /// As the client gave it.
    public var recipient: String
    /// The recipient's domain, empty if it has none or too many foreign ones came in the minute.
    public var domain: String
    /// The reverse-path, empty for `<>`.
    public var sender: String
    /// The client's address in text form, empty if unknown.
    public var client: String
    /// The client's host name as the MTA says.
    public var clientName: String
    /// HELO or EHLO.
    public var helo: String
    /// Queue or session id.
    public var session: String
    /// True if the client had authenticated.
    public var authenticated: Bool
    /// The MTA that asked.
    public var mta: String
    /// The reply with its codes.
    public var reply: String
}
