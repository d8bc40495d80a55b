import Foundation
import MailAddress
import TestSupport
import Testing

/// One line of a `*.cases` file: `input -> expected`.
struct Case: Sendable, CustomStringConvertible, CustomTestStringConvertible {
    let line: Int
    let input: [UInt8]
    let expected: [UInt8]
    /// The notes after the expected value, each after ` ; `.
    let notes: [String]
    /// The name of the expected error, after `! `; nil if a value is expected.
    let failure: String?
    let description: String
    var testDescription: String { "line \(line): \(description)" }

    /// The cases of a file beside this one.
    ///
    /// `{c3}` stands for that byte, `{a*64}` for a text repeated as often; any other text for itself, in UTF-8.
    static func load(_ name: String, file: String = #filePath) throws -> [Case] {
        var cases: [Case] = []
        for (number, line) in try caseLines(name, beside: file) {
            guard let arrow = line.range(of: " -> ") else { throw TestFailure("\(name):\(number): no ->") }
            let input = line[..<arrow.lowerBound].trimmingCharacters(in: .whitespaces)
            let result = line[arrow.upperBound...].trimmingCharacters(in: .whitespaces)
            var fields = result.components(separatedBy: " ; ").map { $0.trimmingCharacters(in: .whitespaces) }
            let expected = fields.removeFirst()
            cases.append(
                Case(
                    line: number, input: bytes(input), expected: bytes(expected), notes: fields,
                    failure: expected.hasPrefix("! ") ? String(expected.dropFirst(2)) : nil, description: line))
        }
        return cases
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

/// The result of parsing a path, in the form of the case files.
enum ParsedPath: Equatable, CustomStringConvertible {
    case key([UInt8], hasDomain: Bool, isRouted: Bool)
    case refused(String)

    init(_ path: [UInt8]) {
        self = path.withUnsafeBufferPointer { path in
            do throws(AddressError) {
                return ParsedPath(try RecipientAddress(path: path))
            } catch {
                return .refused(error.rule)
            }
        }
    }

    init(_ address: RecipientAddress) {
        self = .key(address.withKey { Array($0) }, hasDomain: address.hasDomain, isRouted: address.isRouted)
    }

    init(expecting expected: Case) {
        if let failure = expected.failure {
            self = .refused(failure)
        } else {
            self = .key(
                expected.expected, hasDomain: !expected.notes.contains("no domain"),
                isRouted: expected.notes.contains("routed"))
        }
    }

    var description: String {
        switch self {
        case .refused(let rule): "! \(rule)"
        case .key(let key, let hasDomain, let isRouted):
            String(decoding: key, as: UTF8.self) + (hasDomain ? "" : " ; no domain") + (isRouted ? " ; routed" : "")
        }
    }
}

extension AddressError {
    /// The name of the enum's case.
    var rule: String {
        switch self {
        case .empty: "empty"
        case .unbalanced: "unbalanced"
        case .controlCharacter: "controlCharacter"
        case .unexpectedCharacter: "unexpectedCharacter"
        case .adjacentWords: "adjacentWords"
        case .textAfterPath: "textAfterPath"
        case .invalidUTF8: "invalidUTF8"
        case .emptyLocalPart: "emptyLocalPart"
        case .emptyDomain: "emptyDomain"
        case .emptyLabel: "emptyLabel"
        case .misplacedHyphen: "misplacedHyphen"
        case .numericDomain: "numericDomain"
        case .domainCharacter: "domainCharacter"
        case .addressLiteral: "addressLiteral"
        case .internationalizedDomain: "internationalizedDomain"
        case .labelTooLong: "labelTooLong"
        case .domainTooLong: "domainTooLong"
        case .pathTooLong: "pathTooLong"
        }
    }
}
