import Foundation
import RecipientSources
import TestSupport
import Testing

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
        try caseLines(name, beside: source).map { number, line in
            let parts = line.components(separatedBy: "=>")
            try #require(parts.count == 2, "\(name):\(number): \(line)")
            return Case(
                line: number, input: unescape(parts[0].trimmingCharacters(in: .whitespaces)),
                expected: parts[1].trimmingCharacters(in: .whitespaces))
        }
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
