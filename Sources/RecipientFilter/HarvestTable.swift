import Synchronization
public import System

/// How many unknown recipients each client network has asked for over a sliding window, in bounded memory.
///
/// The window is kept as seven equal parts and the one that has begun. So no window of the configured length ever holds more
/// than the limit before a network is over it, and a network is never over it as long as no more than half of its recipients in the window
/// were unknown. And a network is clear again at the latest a seventh of a window after it would be
/// by exact count. When the table is full, the network that was asked about least recently goes.
///
/// Any thread. Each network belongs to one of 64 stripes with a lock of its own, held for some tens of nanoseconds.
public final class HarvestTable: Sendable {
    /// Where a client network stands.
    public enum Standing: Sendable {
        /// It has asked for no unknown recipient that is remembered.
        case unseen
        /// It has asked for some, and is below the limit.
        case below
        /// It has asked for too many.
        case over
    }

    /// A client network that has reached the limit.
    public struct Offender: Sendable, Equatable {
        /// The network; nil for processes on the MTA's own machine.
        public let network: IPNetwork?
        /// The limit that it has reached.
        public let limit: Policy.Harvest
    }

    /// Offenders that nobody has taken note of yet.
    private struct Report {
        var offenders: [Offender] = []
        var untold = 0
    }

    private final class StripeBox: Sendable {
        let stripe: Mutex<HarvestStripe>
        init(capacity: Int) { stripe = Mutex(HarvestStripe(capacity: capacity)) }
    }

    /// More offenders than a person would read.
    private static let reportCapacity = 100

    private let stripes: [StripeBox]
    private let report = Mutex(Report())

    /// A table for so many client networks, 130 bytes each once they come.
    public convenience init(networks: Int = 262_144) { self.init(networks: networks, stripes: 64) }

    /// - Parameter stripes: a power of two.
    init(networks: Int, stripes: Int) {
        self.stripes = (0..<stripes).map { _ in StripeBox(capacity: max(1, networks / stripes)) }
    }

    /// Whether the client's network has reached the limit.
    ///
    /// - Parameter now: milliseconds since any fixed moment, by a clock that isn't set.
    public func isOver(_ address: IPAddress, limit harvest: Policy.Harvest, now: Int64) -> Bool {
        standing(of: address, limit: harvest, now: now) == .over
    }

    /// Where the client's network stands.
    ///
    /// - Parameter now: milliseconds since any fixed moment, by a clock that isn't set.
    public func standing(of address: IPAddress, limit harvest: Policy.Harvest, now: Int64) -> Standing {
        guard harvest.limit > 0, harvest.window > 0 else { return .unseen }
        let network = harvest.network(of: address)
        return box(network).stripe.withLock { $0.standing(of: network, harvest, now) }
    }

    /// Counts one known recipient in favour of the client's network; for networks that aren't ``Standing/unseen``.
    public func countKnown(_ address: IPAddress, limit harvest: Policy.Harvest, now: Int64) {
        guard harvest.limit > 0, harvest.window > 0 else { return }
        let network = harvest.network(of: address)
        box(network).stripe.withLock { $0.addKnown(network, harvest, now) }
    }

    /// Takes back what was counted for recipients that exist after all, and counts them as known ones: for when another index or another
    /// policy is in force. Only the last recipients are remembered, some hundreds for each 64th of the networks.
    ///
    /// - Parameter isUnknown: whether a recipient, by its canonical address, is still unknown. Called without a lock.
    public func forgive(_ isUnknown: (UnsafeBufferPointer<UInt8>) -> Bool) {
        for box in stripes {
            // Under the lock nothing is copied: a recipient in judgement may wait for it.
            let recent = box.stripe.withLock { $0.recent }
            let found = recent.all.filter { recipient in recipient.key.withUnsafeBufferPointer { !isUnknown($0) } }
            guard !found.isEmpty else { continue }
            box.stripe.withLock { stripe in for recipient in found { stripe.forget(recipient) } }
        }
    }

    /// Counts one unknown recipient against the client's network.
    ///
    /// - Parameter key: the recipient's canonical address, for ``forgive(_:)``.
    public func count(
        _ address: IPAddress, _ key: UnsafeBufferPointer<UInt8>, limit harvest: Policy.Harvest, now: Int64
    ) {
        guard harvest.limit > 0, harvest.window > 0 else { return }
        let network = harvest.network(of: address)
        guard box(network).stripe.withLock({ $0.add(network, key, harvest, now) }) else { return }
        let offender = Offender(
            network: address.isUnspecified
                ? nil : IPNetwork(of: address, ipv4Prefix: harvest.ipv4Prefix, ipv6Prefix: harvest.ipv6Prefix),
            limit: harvest)
        report.withLock { report in
            if report.offenders.count < Self.reportCapacity {
                report.offenders.append(offender)
            } else if report.untold < .max {
                report.untold += 1
            }
        }
    }

    /// Counts one unknown recipient that nobody will forgive.
    func count(_ address: IPAddress, limit harvest: Policy.Harvest, now: Int64) {
        count(address, .none, limit: harvest, now: now)
    }

    /// The networks that have reached the limit since the last call, each at most once in a window, and how many more than
    /// there is room for.
    public func takeOffenders() -> (offenders: [Offender], untold: Int) {
        report.withLock { report in
            let taken = (report.offenders, report.untold)
            report = Report()
            return taken
        }
    }

    /// The client networks in memory.
    public var networks: Int { stripes.reduce(0) { $0 + $1.stripe.withLock { $0.networks } } }

    /// The memory that the table takes, in octets, as far as its own storage goes.
    var size: Int { stripes.reduce(0) { $0 + $1.stripe.withLock { $0.size } } }

    private func box(_ network: IPAddress) -> StripeBox {
        stripes[Int(truncatingIfNeeded: UInt(bitPattern: network.hashValue)) & (stripes.count - 1)]
    }
}

extension Policy.Harvest {
    /// The network that a client is counted under, as its first address.
    func network(of client: IPAddress) -> IPAddress {
        client.masked(ipv4Prefix: ipv4Prefix, ipv6Prefix: ipv6Prefix)
    }
}
