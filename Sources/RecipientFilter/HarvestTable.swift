import Synchronization
public import System

/// Counts the unknown recipients that each client network has asked for in a sliding window, in bounded memory.
///
/// The window consists of eight parts, seven of which make up its length; the newest has only begun. So a network is over the limit once it
/// has asked for more than the limit in any window of that length, and for more unknown than known recipients. It is below the limit again at
/// most a seventh of a window later than by an exact count. When the table is full, the network that was looked up least recently is dropped.
///
/// Any thread. Each network belongs to one of 64 stripes, whose lock is held for some tens of nanoseconds.
public final class HarvestTable: Sendable {
    /// Whether a client network is below or over its harvest limit.
    public enum LimitState: Sendable {
        /// The table has no unknown recipients of the network.
        case notSeen
        /// The network is below the limit.
        case belowLimit
        /// The network has asked for too many unknown recipients.
        case overLimit
    }

    /// A client network that has reached the limit.
    public struct Offender: Sendable, Equatable {
        /// The network; nil for processes on the MTA's own machine.
        public let network: IPNetwork?
        /// The settings of the limit.
        public let limit: Policy.Harvest
    }

    /// The offenders that ``drainOffenders()`` hasn't returned yet.
    private struct Report {
        var offenders: [Offender] = []
        /// How many offenders more there were than the list has room for.
        var omitted = 0
    }

    private final class StripeBox: Sendable {
        let stripe: Mutex<HarvestStripe>
        init(capacity: Int) { stripe = Mutex(HarvestStripe(capacity: capacity)) }
    }

    /// The most offenders in the report: more than a person would read.
    private static let reportCapacity = 100

    private let stripes: [StripeBox]
    private let report = Mutex(Report())

    /// A table for this number of client networks. Each takes 130 bytes once it is counted.
    public convenience init(networks: Int = 262_144) { self.init(networks: networks, stripes: 64) }

    /// - Parameter stripes: a power of two.
    init(networks: Int, stripes: Int) {
        self.stripes = (0..<stripes).map { _ in StripeBox(capacity: max(1, networks / stripes)) }
    }

    /// Whether the client's network is below or over its harvest limit.
    ///
    /// - Parameter now: milliseconds of a monotonic clock.
    public func state(of client: IPAddress, limit harvest: Policy.Harvest, now: Int64) -> LimitState {
        guard harvest.limit > 0, harvest.window > 0 else { return .notSeen }
        let network = harvest.network(of: client)
        return box(network).stripe.withLock { $0.state(of: network, harvest, now: now) }
    }

    /// Counts a known recipient in favour of the client's network. Not needed while the network is ``LimitState/notSeen``.
    ///
    /// - Parameter now: milliseconds of a monotonic clock.
    public func countKnown(of client: IPAddress, limit harvest: Policy.Harvest, now: Int64) {
        guard harvest.limit > 0, harvest.window > 0 else { return }
        let network = harvest.network(of: client)
        box(network).stripe.withLock { $0.countKnown(of: network, harvest, now: now) }
    }

    /// Counts an unknown recipient against the client's network.
    ///
    /// - Parameters:
    ///   - key: the recipient's canonical address, for ``forgive(_:)``; empty to leave it out there.
    ///   - now: milliseconds of a monotonic clock.
    public func countUnknown(
        _ key: UnsafeBufferPointer<UInt8>, of client: IPAddress, limit harvest: Policy.Harvest, now: Int64
    ) {
        guard harvest.limit > 0, harvest.window > 0 else { return }
        let network = harvest.network(of: client)
        guard box(network).stripe.withLock({ $0.countUnknown(key, of: network, harvest, now: now) }) else { return }
        let offender = Offender(
            network: client.isUnspecified
                ? nil : IPNetwork(of: client, ipv4Prefix: harvest.ipv4Prefix, ipv6Prefix: harvest.ipv6Prefix),
            limit: harvest)
        report.withLock { report in
            if report.offenders.count < Self.reportCapacity {
                report.offenders.append(offender)
            } else if report.omitted < .max {
                report.omitted += 1
            }
        }
    }

    /// Counts recipients as known that were counted as unknown and exist after all: for a new index or policy. Each stripe remembers only its
    /// last few hundred recipients.
    ///
    /// - Parameter isUnknown: whether a recipient, given as its canonical address, is still unknown. Called without a lock.
    public func forgive(_ isUnknown: (UnsafeBufferPointer<UInt8>) -> Bool) {
        for box in stripes {
            // A reference, not a copy: a session may be waiting for the lock.
            let recent = box.stripe.withLock { $0.recent }
            let found = recent.all.filter { recipient in recipient.key.withUnsafeBufferPointer { !isUnknown($0) } }
            guard !found.isEmpty else { continue }
            box.stripe.withLock { stripe in for recipient in found { stripe.forgive(recipient) } }
        }
    }

    /// The networks that have reached the limit since the last call, each at most once in a window, and how many more there were than the list
    /// has room for.
    public func drainOffenders() -> (offenders: [Offender], omitted: Int) {
        report.withLock { report in
            defer { report = Report() }
            return (report.offenders, report.omitted)
        }
    }

    /// How many client networks the table holds.
    public var networks: Int { stripes.reduce(0) { $0 + $1.stripe.withLock { $0.networks } } }

    /// The memory of the table's own storage, in bytes.
    var size: Int { stripes.reduce(0) { $0 + $1.stripe.withLock { $0.size } } }

    private func box(_ network: IPAddress) -> StripeBox {
        stripes[Int(truncatingIfNeeded: UInt(bitPattern: network.hashValue)) & (stripes.count - 1)]
    }
}
