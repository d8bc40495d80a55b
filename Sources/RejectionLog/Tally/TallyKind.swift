/// The kinds of values by which rejections are tallied for each day (UTC); the raw value is that of the database.
package enum TallyKind: Int64, CaseIterable, Sendable {
    /// The recipient as the client gave it.
    case recipient = 0
    /// The reverse-path.
    case sender = 1
    /// The client's address: 4 or 16 bytes, none if unknown.
    case client = 2
    /// The client's network: the bytes of a /24 or /64.
    case network = 3
    /// The HELO name.
    case helo = 4
    /// The MTA that asked.
    case host = 5
    /// The reply of the MTA where it rejected the recipient itself, without addresses.
    case reply = 6
    /// Sender, line feed, recipient: where the recipient is unknown, and the sender may be a person.
    case pair = 7

    /// How many values of a day are kept when it is over, the most frequent ones. The others are in the counters only.
    var kept: Int {
        switch self {
        case .recipient: 2_000
        case .sender, .client, .network: 1_000
        case .helo: 500
        case .host, .reply: 200
        case .pair: 10_000
        }
    }

    /// How many values a day may have before it is over.
    static let openLimit = 200_000
    /// How many domains a value of a day has for one reason; further domains are counted as ``variousDomains``.
    static let domainLimit = 32
    static let variousDomains: Int64 = -1

    /// Up to which number different peers are counted exactly. Peers are the senders of a recipient, the unknown
    /// recipients that a network tried, the days of a pair.
    package var peerLimit: Int {
        switch self {
        case .recipient: 16
        case .network: 128
        case .pair: 400
        case .sender, .client, .helo, .host, .reply: 0
        }
    }

    /// How many different client networks a value has at most.
    var networkLimit: Int {
        switch self {
        case .recipient, .pair: 8
        case .sender, .client, .network, .helo, .host, .reply: 0
        }
    }

    /// True where the newest host name of the client is kept.
    var isNamed: Bool { self == .client || self == .network }
}
