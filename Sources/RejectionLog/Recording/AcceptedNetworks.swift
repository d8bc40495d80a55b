import GRDB
import Synchronization
import System

/// Collects the client networks from which a recipient was accepted, each once a day. Any thread.
///
/// Most recipients are accepted: a table of 256 KiB without a lock remembers the collected networks. A network whose
/// place another network has taken is collected again.
final class AcceptedNetworks {
    /// The most networks that wait for the writer; further ones are collected at their next recipient.
    private static let limit = 10_000
    private static let setCount = 8_192
    private static let wayCount = 4

    /// The sets of places. A place has the hash of a network and a day; 0 is a free place.
    private let places: UnsafeMutablePointer<Atomic<UInt64>>
    /// The networks that wait for the writer, each with the day.
    private let waiting = Mutex<[IPAddress: Int64]>([:])

    init() {
        places = .allocate(capacity: Self.setCount * Self.wayCount)
        for place in 0..<Self.setCount * Self.wayCount { (places + place).initialize(to: Atomic(0)) }
    }

    deinit {
        places.deinitialize(count: Self.setCount * Self.wayCount)
        places.deallocate()
    }

    /// Collects the network of a client from which a recipient was accepted.
    ///
    /// - Parameter day: in days since 1970 (UTC).
    func insert(_ client: IPAddress, day: Int64) {
        guard !client.isUnspecified else { return }
        let network = client.clientNetwork
        let hash = withUnsafeBytes(of: (network.high, network.low, day)) { ByteHash.hash($0) } | 1
        let set = Int(truncatingIfNeeded: hash &>> 32) & (Self.setCount - 1) &* Self.wayCount
        var choice = places + set
        for way in 0..<Self.wayCount {
            let found = places[set &+ way].load(ordering: .relaxed)
            if found == hash { return }
            if found == 0 { choice = places + (set &+ way) }
        }
        if choice.pointee.load(ordering: .relaxed) != 0 {
            choice = places + (set &+ Int(truncatingIfNeeded: hash &>> 60) & (Self.wayCount - 1))
        }
        let isTaken = waiting.withLock { waiting in
            guard waiting.count < Self.limit || waiting[network] != nil else { return false }
            waiting[network] = max(day, waiting[network] ?? day)
            return true
        }
        if isTaken { choice.pointee.store(hash, ordering: .relaxed) }
    }

    /// Removes and returns the networks, each with the day.
    func drain() -> [IPAddress: Int64] {
        waiting.withLock { waiting in
            defer { waiting = [:] }
            return waiting
        }
    }
}

// All changes are atomic or under a lock.
extension AcceptedNetworks: @unchecked Sendable {}

/// Reads and writes the database's table of networks from which a recipient was accepted, each with the last day.
enum AcceptedNetworkStore {
    /// Adds networks, each with the day.
    static func add(_ db: Database, _ networks: [IPAddress: Int64]) throws {
        guard !networks.isEmpty else { return }
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO accepted_network (network, last_day) VALUES (?, ?)
                ON CONFLICT (network) DO UPDATE SET last_day = max(last_day, excluded.last_day)
                """)
        for (network, day) in networks { try statement.execute(arguments: [network.stored, day]) }
    }

    /// Deletes networks from which no recipient was accepted since a day, `limit` at most.
    static func prune(_ db: Database, before day: Int64, limit: Int) throws -> Int {
        try db.execute(
            sql: """
                DELETE FROM accepted_network WHERE network IN (
                    SELECT network FROM accepted_network WHERE last_day < ? LIMIT ?)
                """, arguments: [day, limit])
        return db.changesCount
    }

    /// Whether a recipient was accepted from the network since a day; nil if the log doesn't go back to that day.
    static func hasAccepted(_ db: Database, from network: IPAddress, since day: Int64) throws -> Bool? {
        let found = try db.integer("SELECT last_day FROM accepted_network WHERE network = ?", [network.stored])
        if let found, found >= day { return true }
        guard let begin = try db.state("accepted_since"), begin <= day else { return nil }
        return false
    }
}
