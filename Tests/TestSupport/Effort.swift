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
