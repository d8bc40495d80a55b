import Synchronization

/// What was recorded since the log was opened, of one kind.
public struct VerdictTotal: Sendable, Hashable {
    /// The name given to ``RejectionLog/slot(forDomain:)``; empty for foreign domains, all of them as one.
    public var domain: String
    /// The name given to ``RejectionLog/slot(forReason:)``.
    public var reason: String
    /// What the verdict was.
    public var outcome: Outcome
    /// Whether it was logged only, in observe mode.
    public var observed: Bool
    /// How many recipients.
    public var count: Int
}

/// Sums over the log's life, kept by its writer from what it takes from the stripes: they cost the callers nothing.
final class VerdictTotals: Sendable {
    /// By the key of the counters with its minute at 0.
    private let sums = Mutex<[CounterKey: Int]>([:])

    func add(_ counts: [(CounterKey, Int64)]) {
        sums.withLock { sums in
            for (key, count) in counts where key.reason != ReasonSlot.thinned.index {
                let timeless = CounterKey(
                    minute: 0, slot: key.slot, reason: key.reason, outcome: Outcome(rawValue: key.outcome) ?? .refused,
                    observed: key.observed)
                sums[timeless, default: 0] &+= Int(truncatingIfNeeded: count)
            }
        }
    }

    func list(domains: [String], reasons: [String]) -> [VerdictTotal] {
        sums.withLock { $0 }.map { key, count in
            VerdictTotal(
                domain: Int(key.slot) < domains.count ? domains[Int(key.slot)] : "",
                reason: Int(key.reason) < reasons.count ? reasons[Int(key.reason)] : "other",
                outcome: Outcome(rawValue: key.outcome) ?? .refused, observed: key.observed, count: count)
        }
    }
}
