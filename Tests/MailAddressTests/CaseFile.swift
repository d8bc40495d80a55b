import Foundation
import Testing

/// One line of a `*.cases` file: `input -> expected`.
struct Case: Sendable, CustomStringConvertible, CustomTestStringConvertible {
    let line: Int
    let input: [UInt8]
    let expected: [UInt8]
    /// What follows the expected value after ` ; `.
    let notes: [String]
    /// What follows `! ` instead of an expected value.
    let failure: String?
    let description: String
    var testDescription: String { "line \(line): \(description)" }

    /// The cases of a file beside this one. Lines that are empty or begin with `#` are none.
    ///
    /// `{c3}` is the byte, `{a*64}` the character that many times; all else stands for itself, in UTF-8.
    static func load(_ name: String, file: String = #filePath) throws -> [Case] {
        let url = URL(fileURLWithPath: file).deletingLastPathComponent().appendingPathComponent(name)
        let text = try String(contentsOf: url, encoding: .utf8)
        var cases: [Case] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.isEmpty || line.hasPrefix("#") { continue }
            guard let arrow = line.range(of: " -> ") else { throw BadCase(name: name, line: index + 1) }
            let input = line[..<arrow.lowerBound].trimmingCharacters(in: .whitespaces)
            let result = line[arrow.upperBound...].trimmingCharacters(in: .whitespaces)
            var fields = result.components(separatedBy: " ; ").map { $0.trimmingCharacters(in: .whitespaces) }
            let expected = fields.removeFirst()
            cases.append(
                Case(
                    line: index + 1, input: bytes(input), expected: bytes(expected), notes: fields,
                    failure: expected.hasPrefix("! ") ? String(expected.dropFirst(2)) : nil, description: String(line)))
        }
        return cases
    }

    private struct BadCase: Error {
        let name: String
        let line: Int
    }

    private static func bytes(_ text: String) -> [UInt8] {
        var result: [UInt8] = []
        var rest = Substring(text)
        while let character = rest.first {
            rest.removeFirst()
            guard character == "{", let end = rest.firstIndex(of: "}") else {
                result.append(contentsOf: String(character).utf8)
                continue
            }
            let inside = rest[..<end]
            rest = rest[rest.index(after: end)...]
            if let star = inside.lastIndex(of: "*"), let count = Int(inside[inside.index(after: star)...]) {
                result.append(contentsOf: String(repeating: String(inside[..<star]), count: count).utf8)
            } else if let byte = UInt8(inside, radix: 16) {
                result.append(byte)
            }
        }
        return result
    }
}
