import Foundation

/// How much a test that could go on for ever is to do: little in a run of all tests, more by hand (`contrib/fuzz`).
package enum Effort {
    private static func number(_ name: String) -> Int? { ProcessInfo.processInfo.environment[name].flatMap { Int($0) } }

    /// Calls the body for one seed, always the same; with `POSTERN_FUZZ_SECONDS`, for one after the other as long as that.
    package static func forEachSeed(_ body: (UInt64) throws -> Void) rethrows {
        guard let seconds = number("POSTERN_FUZZ_SECONDS") else { return try body(1) }
        let end = ContinuousClock.now + .seconds(seconds)
        var seed = UInt64.random(in: 0..<1_000_000_000)
        print("first seed: \(seed)")
        while ContinuousClock.now < end {
            try body(seed)
            seed += 1
        }
    }

    /// The number that an environment variable gives, or the one for a run of all tests.
    package static func value(_ name: String, usually number: Int) -> Int { self.number(name) ?? number }
}

/// Inputs for a parser: samples, changed at random; the same for the same seed.
package struct Mutation {
    private var random: SeededGenerator
    private let samples: [[UInt8]]
    private let words: [[UInt8]]
    /// Whether an input keeps the length of its sample, as pages of a database must.
    private let keepsLength: Bool

    package init(seed: UInt64, samples: [[UInt8]], words: [String] = [], keepsLength: Bool = false) {
        random = SeededGenerator(seed: seed)
        self.samples = samples
        self.words = words.map { Array($0.utf8) }
        self.keepsLength = keepsLength
    }

    /// The next input.
    package mutating func next() -> [UInt8] {
        var bytes = samples.randomElement(using: &random) ?? []
        for _ in 0..<Int.random(in: 1...8, using: &random) { change(&bytes) }
        return bytes
    }

    private mutating func change(_ bytes: inout [UInt8]) {
        guard !bytes.isEmpty else {
            if !keepsLength { bytes = words.randomElement(using: &random) ?? [0] }
            return
        }
        let place = Int.random(in: bytes.indices, using: &random)
        let end = min(bytes.count, place + Int.random(in: 1...40, using: &random))
        switch Int.random(in: 0...(keepsLength ? 3 : 9), using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0...7, using: &random)
        case 1: bytes[place] = [0, 1, 0x0a, 0x20, 0x22, 0x7f, 0x80, 0xff].randomElement(using: &random) ?? 0
        case 2:
            // A length or an offset that can't be.
            let number = [0, 1, .max, .min, UInt64(Int64.max), 1 << 31, 1 << 32].randomElement(using: &random) ?? 0
            for offset in 0..<min([2, 4, 8].randomElement(using: &random) ?? 2, bytes.count - place) {
                bytes[place + offset] = UInt8(truncatingIfNeeded: number >> (8 * UInt64(offset)))
            }
        case 3: bytes.replaceSubrange(place..<end, with: repeatElement(bytes[place], count: end - place))
        case 4: bytes.removeSubrange(place..<end)
        case 5: bytes.insert(contentsOf: bytes[place..<end], at: place)
        case 6: bytes.removeSubrange(place...)
        case 7: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
        case 8:
            guard let word = words.randomElement(using: &random) else { return }
            bytes.replaceSubrange(place..<(Bool.random(using: &random) ? place : end), with: word)
        default:
            guard let other = samples.randomElement(using: &random), !other.isEmpty else { return }
            bytes.replaceSubrange(
                place..<end, with: other[Int.random(in: other.indices, using: &random)...].prefix(200))
        }
    }
}

extension Effort {
    /// Calls the body with changed samples: so many for each seed, see ``forEachSeed(_:)``. Where `POSTERN_FUZZ_INPUTS` names a
    /// folder, the input at hand is in its file `name`, also when it has ended the process.
    package static func forEachInput(
        _ name: String, _ count: Int, samples: [[UInt8]], words: [String] = [], keepsLength: Bool = false,
        _ body: ([UInt8]) throws -> Void
    ) throws {
        let folder = ProcessInfo.processInfo.environment["POSTERN_FUZZ_INPUTS"]
        let file = folder.map { URL(fileURLWithPath: $0).appendingPathComponent(name) }
        try forEachSeed { seed in
            var mutation = Mutation(seed: seed, samples: samples, words: words, keepsLength: keepsLength)
            for _ in 0..<count {
                let input = mutation.next()
                if let file { try Data(input).write(to: file) }
                try body(input)
            }
        }
    }
}

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
