public import Milter
import Synchronization

/// How many unknown recipients each client network has asked for over a sliding window, in bounded memory.
///
/// The count is the current window's plus the share of the previous one that the sliding window still covers. Memory is
/// bounded by two generations a stripe: when the young one is full it becomes the old one, and the networks that were last
/// seen before that are forgotten, which are the least recent.
public final class HarvestTable: Sendable {
    private struct Entry {
        var window: Int64
        var count: UInt32
        var previous: UInt32
    }

    private struct Stripe {
        var young: [ClientAddress: Entry] = [:]
        var old: [ClientAddress: Entry] = [:]

        mutating func entry(_ network: ClientAddress) -> Entry? { young[network] ?? old[network] }
    }

    private let stripes: [StripeBox]
    private let capacity: Int

    private final class StripeBox: Sendable {
        let stripe = Mutex(Stripe())
    }

    /// A table for at most about `networks` client networks.
    public init(networks: Int = 131_072) {
        stripes = (0..<64).map { _ in StripeBox() }
        capacity = max(1, networks / 128)
    }

    /// Whether the client's network has reached the limit.
    ///
    /// - Parameter now: seconds since any fixed moment.
    public func isOver(_ address: ClientAddress, limit harvest: Policy.Harvest, now: Int64) -> Bool {
        guard harvest.limit > 0, harvest.window > 0 else { return false }
        let network = harvest.network(of: address)
        let entry = box(network).stripe.withLock { $0.entry(network) }
        guard let entry else { return false }
        return Self.estimate(entry, harvest, now) >= Double(harvest.limit)
    }

    /// Counts one unknown recipient against the client's network.
    public func count(_ address: ClientAddress, limit harvest: Policy.Harvest, now: Int64) {
        guard harvest.limit > 0, harvest.window > 0 else { return }
        let network = harvest.network(of: address)
        let window = now / Int64(harvest.window)
        box(network).stripe.withLock { stripe in
            var entry = stripe.entry(network) ?? Entry(window: window, count: 0, previous: 0)
            if entry.window != window {
                entry = Entry(window: window, count: 0, previous: entry.window == window - 1 ? entry.count : 0)
            }
            entry.count = entry.count == .max ? .max : entry.count + 1
            if stripe.young[network] == nil && stripe.young.count >= capacity {
                stripe.old = stripe.young
                stripe.young = [:]
            }
            stripe.young[network] = entry
        }
    }

    /// The client networks in memory.
    public var networks: Int {
        stripes.reduce(0) { $0 + $1.stripe.withLock { $0.young.count + $0.old.count } }
    }

    private static func estimate(_ entry: Entry, _ harvest: Policy.Harvest, _ now: Int64) -> Double {
        let length = Int64(harvest.window)
        let window = now / length
        let remaining = Double(length - now % length) / Double(length)
        switch window - entry.window {
        case 0: return Double(entry.count) + Double(entry.previous) * remaining
        case 1: return Double(entry.count) * remaining
        default: return 0
        }
    }

    private func box(_ network: ClientAddress) -> StripeBox {
        stripes[Int(truncatingIfNeeded: UInt(bitPattern: network.hashValue)) & (stripes.count - 1)]
    }
}

extension Policy.Harvest {
    /// The network that a client is counted under, as its first address.
    func network(of client: ClientAddress) -> ClientAddress {
        client.masked(ipv4Prefix: ipv4Prefix, ipv6Prefix: ipv6Prefix)
    }
}
