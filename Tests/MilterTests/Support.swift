import Foundation
import Testing

/// A folder of its own under the temporary folder, removed with the object; short enough for the path of a unix socket.
final class TemporaryFolder {
    let path: String

    init() {
        path = "/tmp/milter-\(UInt32.random(in: 0 ... .max))"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// The lines of a table beside this file: fields separated by ` | `, `#` begins a comment line.
func cases(_ name: String) throws -> [[String]] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
    return text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
        line.components(separatedBy: " | ").map { $0.trimmingCharacters(in: .whitespaces) }
    }
}

/// SplitMix64: the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// A seed that is printed, so that a failure can be repeated with `MILTER_TEST_SEED`.
func freshSeed(_ name: String) -> UInt64 {
    let given = ProcessInfo.processInfo.environment["MILTER_TEST_SEED"].flatMap { UInt64($0) }
    let seed = given ?? UInt64.random(in: 0 ... .max)
    print("\(name): MILTER_TEST_SEED=\(seed)")
    return seed
}

struct TestFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
