import Foundation
import TestSupport
import Testing

@testable import RecipientIndex
@testable import RecipientSources
@testable import RecipientSync

extension TemporaryFolder {
    func callAsFunction(_ name: String) -> String { file(name) }

    /// Writes a file in place of another, as careful programs do.
    @discardableResult
    func write(_ name: String, _ text: String) throws -> String {
        try write(name, Data(text.utf8))
    }

    @discardableResult
    func write(_ name: String, _ data: Data) throws -> String {
        try data.write(to: URL(fileURLWithPath: self(name)), options: .atomic)
        return self(name)
    }

    /// A configuration with the files `name.table` of this folder as sources and without a time of grace.
    func configuration(
        _ sources: [String] = ["one"], format: TableFormat = .list, relay: Set<String> = ["example.com", "example.org"]
    ) -> SyncConfiguration {
        var configuration = SyncConfiguration(
            statePath: self("state.sqlite"), indexPath: self("recipients.index"), relayDomains: relay,
            sources: sources.map {
                SourceConfiguration(name: $0, kind: .file(format: format, path: self($0 + ".table")))
            })
        configuration.grace = .zero
        return configuration
    }

    func snapshot() throws -> IndexSnapshot { try IndexSnapshot(path: self("recipients.index")) }
}

/// `count` addresses `uN@domain`, one a line.
func users(_ count: Int, from start: Int = 0, at domain: String = "example.com") -> String {
    (start..<start + count).map { "u\($0)@\(domain)\n" }.joined()
}

/// Whether a condition becomes true within a minute.
func eventually(_ condition: () -> Bool) -> Bool {
    let limit = ContinuousClock.now + .seconds(60)
    while !condition() {
        if ContinuousClock.now > limit { return false }
        usleep(10_000)
    }
    return true
}

/// The `SyncError` that the work throws.
func syncError<Value>(_ work: () throws -> Value) -> SyncError? {
    do {
        _ = try work()
        return nil
    } catch {
        return error as? SyncError
    }
}

/// The `SourceError` that the work throws.
func sourceError<Value>(_ work: () throws -> Value) -> SourceError? {
    do {
        _ = try work()
        return nil
    } catch {
        return error as? SourceError
    }
}

/// A line of a data file: the input and the expected result, on both sides of `=>`.
struct Case: Sendable, CustomTestStringConvertible {
    var line: Int
    var input: [UInt8]
    var expected: String

    var testDescription: String { "line \(line): \(expected)" }

    /// Reads a data file beside this one. `\n`, `\r`, `\t`, `\s`, `\\` and `\xNN` stand for bytes; `#` begins a comment
    /// line.
    static func load(_ name: String, source: String = #filePath) throws -> [Case] {
        let folder = URL(fileURLWithPath: source).deletingLastPathComponent()
        let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
        var cases: [Case] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.isEmpty || line.hasPrefix("#") { continue }
            let parts = line.components(separatedBy: "=>")
            try #require(parts.count == 2, "\(name):\(index + 1): \(line)")
            cases.append(
                Case(
                    line: index + 1, input: unescape(parts[0].trimmingCharacters(in: .whitespaces)),
                    expected: parts[1].trimmingCharacters(in: .whitespaces)))
        }
        return cases
    }

    private static func unescape(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\"), let code = rest.popFirst() else {
                bytes.append(byte)
                continue
            }
            switch code {
            case UInt8(ascii: "n"): bytes.append(0x0a)
            case UInt8(ascii: "r"): bytes.append(0x0d)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "s"): bytes.append(0x20)
            case UInt8(ascii: "x"):
                bytes.append(UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) ?? 0)
                rest = rest.dropFirst(2)
            case UInt8(ascii: "u"):
                let digits = rest.dropFirst().prefix { $0 != UInt8(ascii: "}") }
                let scalar = UInt32(String(decoding: digits, as: UTF8.self), radix: 16).flatMap(Unicode.Scalar.init)
                bytes += Array(String(scalar ?? "?").utf8)
                rest = rest.dropFirst(digits.count + 2)
            default: bytes.append(code)
            }
        }
        return bytes
    }
}
