/// What refusals are tallied by, a day (UTC) at a time; the raw value is the database's.
package enum TallyKind: Int64, CaseIterable, Sendable {
    /// The recipient as it was given.
    case recipient = 0
    /// The reverse-path.
    case sender = 1
    /// The client's address: 4 or 16 octets, none if unknown.
    case client = 2
    /// The client's network: the octets of a /24 or /64.
    case network = 3
    /// The HELO name.
    case helo = 4
    /// The MTA that asked.
    case host = 5
    /// The MTA's reply to what it refused itself, without addresses.
    case reply = 6
    /// Sender, a line feed, recipient: of unknown recipients, and of senders that may be people.
    case pair = 7

    /// How many values of a day stay when it is over: the most frequent ones. The others are in the counters only.
    var kept: Int {
        switch self {
        case .recipient: 2_000
        case .sender, .client, .network: 1_000
        case .helo: 500
        case .host, .reply: 200
        case .pair: 10_000
        }
    }

    /// How many values a day may have while it isn't over.
    static let openLimit = 200_000
    /// How many domains a reason is told apart by in one value of a day; the others go to the domain ``variousDomains``.
    static let domainLimit = 32
    static let variousDomains: Int64 = -1

    /// How many different peers are counted exactly: of a recipient its senders, of a network the unknown recipients that it
    /// tried, of a pair its days.
    package var peerLimit: Int {
        switch self {
        case .recipient: 16
        case .network: 128
        case .pair: 400
        case .sender, .client, .helo, .host, .reply: 0
        }
    }

    /// How many different client networks are kept of a value.
    var networkLimit: Int {
        switch self {
        case .recipient, .pair: 8
        case .sender, .client, .network, .helo, .host, .reply: 0
        }
    }

    /// True where the newest name of the client is kept.
    var isNamed: Bool { self == .client || self == .network }
}
