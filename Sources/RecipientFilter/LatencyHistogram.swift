import Glibc
import Synchronization
import System

/// A histogram of the time that judging a recipient took. Threads count without a lock, each mostly in a place of its own.
public final class LatencyHistogram: @unchecked Sendable {
    /// The upper bounds of the buckets in nanoseconds; one more bucket counts longer times.
    public static let bounds: [UInt64] = [
        1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 100_000_000, 1_000_000_000,
    ]

    /// The counts at one moment.
    public struct Reading: Sendable, Equatable {
        /// The count of each bucket by itself, without the buckets below it.
        public var counts = [Int](repeating: 0, count: LatencyHistogram.bounds.count + 1)
        /// The sum of all times in nanoseconds.
        public var sum = 0
    }

    /// Each place is on cache lines of its own.
    private static let places = 16
    /// The numbers of a place: the buckets' counts, the sum, and padding.
    private static let size = 24
    /// In memory of its own: Swift would count references to an array at each recipient.
    private let numbers: UnsafeMutablePointer<Atomic<Int>>

    /// A histogram without counts.
    public init() {
        numbers = .allocate(capacity: Self.places * Self.size)
        for place in 0..<Self.places * Self.size { (numbers + place).initialize(to: Atomic(0)) }
    }

    deinit {
        numbers.deinitialize(count: Self.places * Self.size)
        numbers.deallocate()
    }

    /// The present moment, for ``record(since:)``.
    @inline(__always)
    static func now() -> UInt64 { Clocks.monotonicNanoseconds }

    /// Counts the time from a moment until now. Takes some tens of nanoseconds; any thread.
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

    /// The counts so far.
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
