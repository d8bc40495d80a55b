import Foundation

/// Pseudo-random numbers (SplitMix64): the same for the same seed.
public struct SeededGenerator: RandomNumberGenerator {
    /// What the numbers follow from.
    public let seed: UInt64
    private var state: UInt64

    /// The numbers of a seed.
    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// The numbers of a seed that is new at each run, or that of `POSTERN_TEST_SEED`; printed, so that a failure can be
    /// repeated.
    public static func announced(_ name: String) -> SeededGenerator {
        let given = ProcessInfo.processInfo.environment["POSTERN_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0..<1_000_000_000)
        print("\(name): POSTERN_TEST_SEED=\(seed)")
        return SeededGenerator(seed: seed)
    }

    /// The next number.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
