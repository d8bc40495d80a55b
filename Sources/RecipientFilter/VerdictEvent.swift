public import System

/// One judged recipient with what is known of its session. The buffers are valid for the call only.
public struct VerdictEvent {
    /// What became of the recipient.
    public enum Subject {
        /// Postern's verdict; `observed`: logged only, the MTA was told to continue.
        case verdict(Verdict, observed: Bool)
        /// The MTA had refused the recipient itself, and only says so (`SMFIP_RCPT_REJ`).
        case refusedByMTA
    }

    /// What became of the recipient.
    public let subject: Subject
    /// Milliseconds since 1970.
    public let time: Int64
    /// The relay domain's tag from ``Policy/Settings``; nil for a foreign domain.
    public let domainTag: UInt32?
    /// The recipient's domain as an A-label; empty where the path has none or is none.
    public let domain: UnsafeBufferPointer<UInt8>
    /// The path of RCPT TO as it came, without the angle brackets.
    public let recipient: UnsafeBufferPointer<UInt8>
    /// The reverse-path of MAIL FROM without the angle brackets; empty for a bounce.
    public let sender: UnsafeBufferPointer<UInt8>
    /// The client's address; nil where the MTA gave none.
    public let client: IPAddress?
    /// The client's name as the MTA found it.
    public let clientName: UnsafeBufferPointer<UInt8>
    /// The argument of HELO or EHLO.
    public let helo: UnsafeBufferPointer<UInt8>
    /// The MTA's own name, `{j}`.
    public let mta: UnsafeBufferPointer<UInt8>
    /// The queue ID, `{i}`; empty before the MTA has given one.
    public let queueID: UnsafeBufferPointer<UInt8>
    /// The login name, `{auth_authen}`; empty for a client that hasn't authenticated.
    public let authenticated: UnsafeBufferPointer<UInt8>
    /// The reply with its codes, as the client is told or would be in enforce mode; empty for an accepted recipient.
    public let reply: UnsafeBufferPointer<UInt8>
}

/// Where verdicts go: the rejection log, counters.
public protocol VerdictSink: AnyObject, Sendable {
    /// Takes note of one verdict. Called on libmilter's threads before the MTA has its answer: it must not wait.
    func record(_ event: borrowing VerdictEvent)

    /// Takes note of a message of a sender that the index doesn't list, from a trusted client. Called on libmilter's threads: it must not wait.
    ///
    /// - Parameters:
    ///   - mailbox: the canonical address, without tags; valid for the call only.
    ///   - time: milliseconds since 1970.
    func recordUnlistedSender(_ mailbox: UnsafeBufferPointer<UInt8>, time: Int64)
}

extension VerdictSink {
    /// Takes no note.
    public func recordUnlistedSender(_ mailbox: UnsafeBufferPointer<UInt8>, time: Int64) {}
}
