import Glibc
import Synchronization

/// How long recipients took to be judged: counted without a lock, on several places that the callers' threads spread to.
public final class LatencyHistogram: Sendable {
    /// The upper ends of the buckets in nanoseconds; what takes longer is in one more.
    public static let bounds: [UInt64] = [
        1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 100_000_000, 1_000_000_000,
    ]

    /// What was counted so far.
    public struct Reading: Sendable, Equatable {
        /// How many there are in each bucket, not in those below it.
        public var counts = [Int](repeating: 0, count: LatencyHistogram.bounds.count + 1)
        /// The sum in nanoseconds.
        public var sum = 0
    }

    /// One thread's place, on cache lines of its own as nearly as not.
    private final class Stripe: Sendable {
        let counts: InlineArray<16, Atomic<Int>> = InlineArray { _ in Atomic(0) }
        let sum = Atomic<Int>(0)
        private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
    }

    private let stripes: InlineArray<16, Stripe> = InlineArray { _ in Stripe() }

    /// An empty one.
    public init() {}

    /// The moment to give to ``record(since:)``.
    @inline(__always)
    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
    }

    /// Counts the time from a moment until now. Any thread; some tens of nanoseconds.
    func record(since began: UInt64) { record(Self.now() &- began) }

    func record(_ nanoseconds: UInt64) {
        var bucket = 0
        while bucket < Self.bounds.count, nanoseconds > Self.bounds[bucket] { bucket &+= 1 }
        // Only spreads the threads: any answer is right.
        let thread = UInt(bitPattern: Int(pthread_self()))
        let place = Int(truncatingIfNeeded: (thread >> 12) &* 0x9E37_79B9_7F4A_7C15 >> 48) & 15
        stripes[place].counts[bucket].wrappingAdd(1, ordering: .relaxed)
        stripes[place].sum.wrappingAdd(Int(truncatingIfNeeded: nanoseconds), ordering: .relaxed)
    }

    /// What was counted so far.
    public var reading: Reading {
        var reading = Reading()
        for place in 0..<16 {
            for bucket in 0..<16 {
                reading.counts[bucket] &+= stripes[place].counts[bucket].load(ordering: .relaxed)
            }
            reading.sum &+= stripes[place].sum.load(ordering: .relaxed)
        }
        return reading
    }
}
