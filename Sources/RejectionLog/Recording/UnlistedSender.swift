import GRDB

/// A sender whose mail came from a trusted client, and whose address in a relay domain isn't in the recipient index.
public struct UnlistedSender: Sendable, Equatable {
    /// The canonical address.
    public var address: String
    /// The last day on which the sender sent, in days since 1970 (UTC).
    public var lastDay: Int64
    /// How many messages the sender has sent.
    public var count: Int

    /// A sender with these values.
    public init(address: String, lastDay: Int64, count: Int) {
        self.address = address
        self.lastDay = lastDay
        self.count = count
    }
}

/// Messages of unlisted senders that aren't in the database yet, by address.
struct PendingSenders: Sendable {
    /// The most addresses; further ones are dropped.
    static let limit = 10_000

    private(set) var senders: [String: UnlistedSender] = [:]

    var isEmpty: Bool { senders.isEmpty }

    mutating func add(_ sender: UnlistedSender) {
        guard let known = senders[sender.address] else {
            if senders.count < Self.limit { senders[sender.address] = sender }
            return
        }
        senders[sender.address] = UnlistedSender(
            address: sender.address, lastDay: max(known.lastDay, sender.lastDay), count: known.count &+ sender.count)
    }

    mutating func add(_ others: PendingSenders) {
        if isEmpty { senders = others.senders } else { for sender in others.senders.values { add(sender) } }
    }

    mutating func removeAll() { senders = [:] }
}

/// Reads and writes the database's table of unlisted senders.
enum UnlistedSenderStore {
    /// The most addresses in the table; those that have sent last are kept.
    static let limit = 10_000
    /// The days for which an address is kept after its last message.
    static let retention: Int64 = 90

    /// Adds messages of senders, and deletes the senders over the limit.
    static func add(_ db: Database, _ pending: PendingSenders) throws {
        guard !pending.isEmpty else { return }
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO unlisted_sender (address, last_day, count) VALUES (?, ?, ?)
                ON CONFLICT (address) DO UPDATE
                SET last_day = max(last_day, excluded.last_day),
                    count = min(count + excluded.count, \(StoredCount.limit))
                """)
        for sender in pending.senders.values {
            try statement.execute(arguments: [sender.address, sender.lastDay, sender.count])
        }
        let surplus = try db.count("SELECT count(*) FROM unlisted_sender") - limit
        guard surplus > 0 else { return }
        try db.execute(
            sql: """
                DELETE FROM unlisted_sender WHERE address IN (
                    SELECT address FROM unlisted_sender ORDER BY last_day, count, address LIMIT ?)
                """, arguments: [surplus])
    }

    /// Deletes the senders that haven't sent for ``retention`` days.
    ///
    /// - Parameter today: in days since 1970 (UTC).
    static func prune(_ db: Database, today: Int64) throws {
        try db.execute(sql: "DELETE FROM unlisted_sender WHERE last_day < ?", arguments: [today &- retention])
    }

    /// The senders whose last message came on a day (since 1970, UTC) or later: by that day, the latest first, then by
    /// the number of messages.
    static func all(_ db: Database, since day: Int64 = .min) throws -> [UnlistedSender] {
        try Row.fetchAll(
            db,
            sql: """
                SELECT address, last_day, count FROM unlisted_sender WHERE last_day >= ?
                ORDER BY last_day DESC, count DESC, address LIMIT \(limit)
                """, arguments: [day]
        ).map { row in
            let day: Int64 = try row.value(1)
            return UnlistedSender(
                address: try row.value(0), lastDay: min(max(day, 0), CounterKey.maximumMinute / 1440),
                count: Int(try StoredCount.positive(row.value(2))))
        }
    }
}

extension RejectionReader {
    /// The unlisted senders that have sent a message since a day (in days since 1970, UTC), the latest first.
    public func unlistedSenders(since day: Int64) throws(LogError) -> [UnlistedSender] {
        try read { try UnlistedSenderStore.all($0, since: day) }
    }
}
