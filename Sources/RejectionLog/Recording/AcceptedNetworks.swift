import GRDB
import Synchronization
import System

/// The client networks from which a recipient was accepted, each told once a day.
///
/// Most of what comes is accepted, so what has been reported is remembered without a lock, in 256 KiB; a network that finds no room there is reported
/// again. Any thread.
final class AcceptedNetworks {
    /// More networks than this at once wait for their next recipient.
    private static let limit = 10_000
    private static let setCount = 8_192
    private static let wayCount = 4

    /// Sets of hashes of a network with a day; 0 is an empty place.
    private let places: UnsafeMutablePointer<Atomic<UInt64>>
    /// Those that the writer hasn't taken yet, with the day.
    private let fresh = Mutex<[IPAddress: Int64]>([:])

    init() {
        places = .allocate(capacity: Self.setCount * Self.wayCount)
        for place in 0..<Self.setCount * Self.wayCount { (places + place).initialize(to: Atomic(0)) }
    }

    deinit {
        places.deinitialize(count: Self.setCount * Self.wayCount)
        places.deallocate()
    }

    /// Takes down the network of a client of which a recipient is accepted.
    ///
    /// - Parameter day: in days since 1970.
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
        let isTaken = fresh.withLock { fresh in
            guard fresh.count < Self.limit || fresh[network] != nil else { return false }
            fresh[network] = max(day, fresh[network] ?? day)
            return true
        }
        if isTaken { choice.pointee.store(hash, ordering: .relaxed) }
    }

    /// The networks that have come since the last call, with the day.
    func take() -> [IPAddress: Int64] {
        fresh.withLock { fresh in
            defer { fresh = [:] }
            return fresh
        }
    }
}

// What changes is atomic or has a lock.
extension AcceptedNetworks: @unchecked Sendable {}

/// The table of networks from which a recipient was accepted, with the last day.
enum AcceptedNetworkStore {
    static func enter(_ db: Database, _ networks: [IPAddress: Int64]) throws {
        guard !networks.isEmpty else { return }
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO accepted_network (network, last_day) VALUES (?, ?)
                ON CONFLICT (network) DO UPDATE SET last_day = max(last_day, excluded.last_day)
                """)
        for (network, day) in networks { try statement.execute(arguments: [network.stored, day]) }
    }

    /// Removes networks from which nothing was accepted since a day; at most so many.
    static func prune(_ db: Database, before day: Int64, limit: Int) throws -> Int {
        try db.execute(
            sql: """
                DELETE FROM accepted_network WHERE network IN (
                    SELECT network FROM accepted_network WHERE last_day < ? LIMIT ?)
                """, arguments: [day, limit])
        return db.changesCount
    }

    /// Whether a recipient was accepted from the network since a day; nil where the log doesn't go back so far.
    static func accepted(_ db: Database, _ network: IPAddress, since day: Int64) throws -> Bool? {
        let found = try Int64.fetchOne(
            db, sql: "SELECT last_day FROM accepted_network WHERE network = ?", arguments: [network.stored])
        if let found, found >= day { return true }
        let begin = try Int64.fetchOne(db, sql: "SELECT value FROM state WHERE name = 'accepted_since'")
        return begin.map { $0 <= day } == true ? false : nil
    }
}
