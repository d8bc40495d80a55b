import Glibc
import Synchronization
import System

/// How long recipients took to be judged: counted without a lock, on several places that the callers' threads spread to.
public final class LatencyHistogram: @unchecked Sendable {
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

    /// So many places, each of so many numbers: those of the buckets and the sum, on cache lines of its own.
    private static let places = 16
    private static let size = 24
    /// In memory of its own, since a reference to an object would be counted at each recipient.
    private let numbers: UnsafeMutablePointer<Atomic<Int>>

    /// An empty one.
    public init() {
        numbers = .allocate(capacity: Self.places * Self.size)
        for place in 0..<Self.places * Self.size { (numbers + place).initialize(to: Atomic(0)) }
    }

    deinit {
        numbers.deinitialize(count: Self.places * Self.size)
        numbers.deallocate()
    }

    /// The moment to give to ``record(since:)``.
    @inline(__always)
    static func now() -> UInt64 { Clocks.monotonicNanoseconds }

    /// Counts the time from a moment until now. Any thread; some tens of nanoseconds.
    func record(since began: UInt64) { record(Self.now() &- began) }

    func record(_ nanoseconds: UInt64) {
        var bucket = 0
        while bucket < Self.bounds.count, nanoseconds > Self.bounds[bucket] { bucket &+= 1 }
        // Only spreads the threads: any answer is right.
        let thread = UInt(bitPattern: Int(pthread_self()))
        let place = Int(truncatingIfNeeded: (thread >> 12) &* 0x9E37_79B9_7F4A_7C15 >> 48) & (Self.places - 1)
        let start = numbers + place * Self.size
        start[bucket].wrappingAdd(1, ordering: .relaxed)
        start[Self.bounds.count + 1].wrappingAdd(Int(truncatingIfNeeded: nanoseconds), ordering: .relaxed)
    }

    /// What was counted so far.
    public var reading: Reading {
        var reading = Reading()
        for place in 0..<Self.places {
            let start = numbers + place * Self.size
            for bucket in reading.counts.indices {
                reading.counts[bucket] &+= start[bucket].load(ordering: .relaxed)
            }
            reading.sum &+= start[reading.counts.count].load(ordering: .relaxed)
        }
        return reading
    }
}
