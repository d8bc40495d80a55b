import Foundation
import TestSupport
import Testing

@testable import postern

@Suite struct ConfigurationFuzzTests {
    /// Configuration files: the sample with all its keys set, and those of the table of faults.
    private func samples() throws -> [[UInt8]] {
        let whole = ConfigurationSample.text.components(separatedBy: "\n").map { line in
            line.firstMatch(of: /^#([a-z_0-9]+ = .*|\[\[[a-z]+\]\])/).map { String($0.1) } ?? line
        }.joined(separator: "\n")
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("configuration.cases")
        let cases = try String(contentsOf: path, encoding: .utf8).components(separatedBy: "=== ").map { text in
            text.components(separatedBy: "\n").dropFirst().filter { !$0.hasPrefix("--- ") }.joined(separator: "\n")
        }
        let small =
            "[relay]\ndomains = [\"example.com\"] # one\n[sync]\ninterval = \"5m\"\n[[domain]]\nname = 'example.com'\n"
        return ([whole, ConfigurationSample.text] + cases + Array(repeating: small, count: 10)).map { Array($0.utf8) }
    }

    /// Any text is either accepted, or rejected with faults at their places.
    @Test func anyTextIsAcceptedOrRejected() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("postern.toml")
        var accepted = 0
        var rejected = 0
        let words = [
            "[[source]]\n", "[relay]\n", "[[domain]]\n", "= ", "\"\"\"", "'''", "[", "{", "\n", "1e999", "-1", "inf",
            "nan",
            "9223372036854775807", "\"\\uD800\"", "1979-05-27T07:32:00Z", "{1000}", "ä", "a.b.c = 1\n", "\"7d\"", "# ",
        ]
        try Effort.forEachInput("toml", 500, samples: samples(), words: words) { input in
            try Data(input).write(to: URL(fileURLWithPath: path))
            do {
                let configuration = try Configuration.load(path)
                _ = configuration.compiledPolicy()
                _ = configuration.syncConfiguration
                accepted += 1
            } catch {
                #expect("\(error)".hasPrefix(path), "\(error)")
                rejected += 1
            }
        }
        #expect(accepted > 0 && rejected > 100, "\(accepted) accepted, \(rejected) rejected")
    }
}
