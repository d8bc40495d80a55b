public import System

/// What the MTA was told about a recipient, or would have been told in observe mode.
public enum Outcome: UInt8, Sendable, CaseIterable {
    /// 2xx, or no objection of ours.
    case accepted = 0
    /// 5xx.
    case refused = 1
    /// 4xx.
    case tempfailed = 2
}

/// A relay domain's place in the counters; from ``RejectionLog/slot(forDomain:)``.
public struct DomainSlot: Sendable, Hashable {
    let index: UInt32

    /// The place as a number, for those who keep it where only a number fits.
    public var number: UInt32 { index }

    init(index: UInt32) { self.index = index }

    /// The place of a number that ``number`` gave, in the same open log.
    public init(number: UInt32) { index = number }

    /// Every domain that is not registered. What is refused for such a domain is counted exactly in the sum; by name
    /// only as far as detail rows tell the name.
    public static let foreign = DomainSlot(index: 0)
}

/// A reason's place in the counters; from ``RejectionLog/slot(forReason:)``.
public struct ReasonSlot: Sendable, Hashable {
    let index: UInt8

    /// Where reasons land that found no place (more than 250 were registered); shown as "other".
    static let other = ReasonSlot(index: 0)
    /// Not a verdict: a detail row that found no room. Never handed out.
    static let thinned = ReasonSlot(index: 255)
}

/// What one RCPT became. The buffers are borrowed for the call of ``RejectionLog/record(_:)`` only.
///
/// Every text may be hostile: any bytes, any length. Over-long ones are cut at a character (see ``DetailBuffer``'s
/// limits in the source: recipient and sender 512 octets, names 255, session and MTA 64, reply 512).
public struct LogEvent {
    /// Bytes of the caller, valid for the call.
    public typealias Bytes = UnsafeBufferPointer<UInt8>

    /// Wall-clock milliseconds since 1970 (UTC).
    public var time: Int64
    /// What the verdict was. An accepted recipient is only counted: it leaves no detail row.
    public var outcome: Outcome
    /// True in observe mode: the MTA was told to continue whatever the verdict.
    public var observed: Bool
    /// Why; from ``RejectionLog/slot(forReason:)``. The reason named "mta" is what the MTA refused itself.
    public var reason: ReasonSlot
    /// The recipient's relay domain, or `.foreign`.
    public var domain: DomainSlot
    /// The recipient as the client gave it.
    public var recipient: Bytes
    /// The recipient's domain as an A-label; needed for `.foreign` only, empty if there is none.
    public var domainName: Bytes
    /// The reverse-path, empty for `<>`.
    public var sender: Bytes
    /// Where the connection came from.
    public var client: IPAddress
    /// The client's host name as the MTA says.
    public var clientName: Bytes
    /// The name given at HELO or EHLO.
    public var helo: Bytes
    /// The queue id where the MTA has one already, else a session id.
    public var session: Bytes
    /// True if the client has authenticated.
    public var authenticated: Bool
    /// The MTA that asked (its `j` or `{daemon_name}`).
    public var mta: Bytes
    /// The reply as sent, or as it would have been sent: code, enhanced code, text.
    public var reply: Bytes

    /// An event with its counted part; the texts are empty until set.
    public init(time: Int64, outcome: Outcome, observed: Bool = false, reason: ReasonSlot, domain: DomainSlot) {
        let none = Bytes(start: nil, count: 0)
        self.time = time
        self.outcome = outcome
        self.observed = observed
        self.reason = reason
        self.domain = domain
        recipient = none
        domainName = none
        sender = none
        client = .unspecified
        clientName = none
        helo = none
        session = none
        authenticated = false
        mta = none
        reply = none
    }
}
