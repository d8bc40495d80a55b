public import System

/// The verdict on a recipient as the MTA gets it, or would get it in enforce mode; the raw value is the number in the
/// database.
public enum Outcome: UInt8, Sendable, CaseIterable {
    /// The recipient is accepted as far as the filter is concerned.
    case accepted = 0
    /// The recipient is rejected with a 5xx reply.
    case rejected = 1
    /// The recipient is deferred with a 4xx reply.
    case deferred = 2

    /// The name in JSON and metrics.
    public var name: String {
        switch self {
        case .accepted: "accepted"
        case .rejected: "refused"
        case .deferred: "tempfailed"
        }
    }
}

/// The number of a relay domain in the log's counters; from ``RejectionLog/slot(forDomain:)``.
public struct DomainSlot: Sendable, Hashable {
    let index: UInt32

    /// The slot of all domains that aren't registered. Their recipients are counted exactly in the sum; by domain, only
    /// those with a detail row.
    public static let foreign = DomainSlot(index: 0)
}

/// The number of a reason in the log's counters; from ``RejectionLog/slot(forReason:)``.
public struct ReasonSlot: Sendable, Hashable {
    let index: UInt8

    /// The slot of the reasons that found no slot of their own because more than 250 were registered; shown as "other".
    public static let other = ReasonSlot(index: 0)
    /// The slot under which the log counts detail rows that were thinned out; no reason gets it.
    static let thinned = ReasonSlot(index: 255)
}

/// One judged recipient (RCPT TO) with the facts of its session, for ``RejectionLog/record(_:)``.
///
/// The texts are borrowed from the caller for the call. They may be hostile: any bytes, of any length. The log cuts a
/// text that is too long between two characters; ``DetailBuffer/Field/limit`` has the limits.
public struct RecipientEvent {
    /// Bytes of the caller, valid for the call.
    public typealias Bytes = UnsafeBufferPointer<UInt8>

    /// When the recipient was judged, in milliseconds since 1970 (UTC).
    public var time: Int64
    /// The verdict. An accepted recipient is counted and leaves no detail row.
    public var outcome: Outcome
    /// Whether the domain is in observe mode: the filter let the MTA continue, whatever the outcome.
    public var observed: Bool
    /// The reason of the verdict; ``RejectionLog/mtaReason`` marks recipients that the MTA rejected itself.
    public var reason: ReasonSlot
    /// The recipient's relay domain, or ``DomainSlot/foreign``.
    public var domain: DomainSlot
    /// The recipient's domain as an A-label, empty if there is none; recorded for ``DomainSlot/foreign`` only.
    public var domainName: Bytes
    /// The path of RCPT TO as the client sent it, without the angle brackets.
    public var recipient: Bytes
    /// The reverse-path of MAIL FROM without the angle brackets; empty for a bounce.
    public var sender: Bytes
    /// The client's address; ``System/IPAddress/unspecified`` if it has none or the MTA doesn't know it.
    public var client: IPAddress
    /// The client's host name as the MTA found it; may be empty.
    public var clientName: Bytes
    /// The argument of HELO or EHLO.
    public var helo: Bytes
    /// The queue ID; empty until the MTA has given one.
    public var queueID: Bytes
    /// Whether the client has authenticated.
    public var authenticated: Bool
    /// The MTA's own name, its macro `{j}`.
    public var mta: Bytes
    /// The reply with its codes, as the client gets it or would in enforce mode; empty for an accepted recipient.
    public var reply: Bytes

    /// An event of these values.
    @inlinable
    public init(
        time: Int64, outcome: Outcome, observed: Bool, reason: ReasonSlot, domain: DomainSlot, domainName: Bytes,
        recipient: Bytes, sender: Bytes, client: IPAddress, clientName: Bytes, helo: Bytes, queueID: Bytes,
        authenticated: Bool, mta: Bytes, reply: Bytes
    ) {
        self.time = time
        self.outcome = outcome
        self.observed = observed
        self.reason = reason
        self.domain = domain
        self.domainName = domainName
        self.recipient = recipient
        self.sender = sender
        self.client = client
        self.clientName = clientName
        self.helo = helo
        self.queueID = queueID
        self.authenticated = authenticated
        self.mta = mta
        self.reply = reply
    }
}

extension UnsafeBufferPointer<UInt8> {
    /// No bytes.
    @inlinable
    package static var none: Self { Self(start: nil, count: 0) }
}
