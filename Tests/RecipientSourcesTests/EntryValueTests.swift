import Foundation
import MailAddress
import TestSupport
import Testing

@testable import RecipientSources

@Suite struct EntryValueTests {
    @Test(arguments: try Case.load("values.cases")) func aValueIsParsedAsItsLineSays(_ item: Case) {
        let found: String
        switch item.input.withUnsafeBufferPointer({ EntryValue($0) }) {
        case .recipient(let address): found = "recipient \(address.key)"
        case .catchAll(let domain): found = "domain \(domain)"
        case .withoutDomain: found = "no domain"
        case .otherProtocol(let kind): found = "kind \(kind)"
        case .unreachable(let reason): found = "unreachable \"\(reason)\""
        case .malformed(let reason): found = "malformed \"\(reason)\""
        }
        let parts = item.expected.components(separatedBy: " \"")
        #expect(found.hasPrefix(parts[0]))
        if parts.count > 1 {
            let words = parts.dropFirst().joined(separator: " \"").dropLast()
            #expect(found.contains(words), "\(found)")
        } else {
            #expect(found == item.expected)
        }
    }

    /// Any bytes have a meaning, and the filter can parse every recipient among them.
    @Test func anyBytesAreParsedWithoutACrash() throws {
        var random = SeededGenerator.announced("anyBytesAreParsedWithoutACrash")
        let pieces: [[UInt8]] = [
            Array("a@example.com".utf8), [0], [0xff], Array("\u{200B}".utf8), Array("\u{FEFF}".utf8),
            Array("SMTP:".utf8),
            Array("\"".utf8), Array("<>".utf8), Array("*%!,;: @".utf8), Array("é".utf8), Array("mailto:".utf8),
        ]
        for _ in 0..<20_000 {
            var value: [UInt8] = []
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                value += pieces.randomElement(using: &random) ?? []
                if Bool.random(using: &random) { value.append(UInt8.random(in: 0...255, using: &random)) }
            }
            guard case .recipient(let address) = value.withUnsafeBufferPointer({ EntryValue($0) }) else { continue }
            #expect(address.hasDomain && !address.isRouted)
            #expect(!address.localPart.unicodeScalars.contains { "\u{200B}\u{FEFF}".unicodeScalars.contains($0) })
        }
    }

    @Test func faultsAreCountedAndTheFirstTwentyKept() {
        var faults = EntryFaults()
        for number in 0..<50 {
            faults.note(
                EntryFault(place: "cn=\(number)", value: "v", reason: "r", object: [0, UInt8(number)]))
        }
        #expect(faults.count == 50)
        #expect(faults.first.map(\.place) == (0..<20).map { "cn=\($0)" })
        // Two of those that are kept were mended, and one came.
        var changes = EntryFaults()
        changes.note(EntryFault(place: "cn=new", value: "v", reason: "r", object: [0, 99]))
        faults.replace(with: changes) { $0 == [0, 3] || $0 == [0, 4] }
        #expect(faults.count == 49)
        #expect(faults.first.count == 19)
        #expect(faults.first.last?.place == "cn=new")
    }

    @Test func valuesAreEscapedForOneLine() {
        #expect(escapedText("jürgen") == "jürgen")
        #expect(escapedText("a\u{200B}b\nc\\") == #"a\u{200B}b\u{A}c\\"#)
        #expect(escapedText(String(repeating: "x", count: 300)).count == 201)
    }
}

@Suite struct ExpiryDateTests {
    static let dates: [(text: String, seconds: Double?)] = [
        ("20261130120000Z", 1_796_040_000), ("202611301200Z", 1_796_040_000), ("2026113012Z", 1_796_040_000),
        ("20261130120000.5Z", 1_796_040_000), ("20261130130000+0100", 1_796_040_000),
        ("20261130120000", nil), ("20261330120000Z", nil), ("tomorrow", nil), ("", nil), ("+5", nil),
        ("134405136000000000", 1_796_040_000), ("1796040000", 1_796_040_000), ("20787", 20787 * 86_400),
        ("99999999", nil),
    ]

    @Test(arguments: dates) func aDateIsRead(_ text: String, _ seconds: Double?) {
        #expect(ExpiryDate(text) == seconds.map { .date(Date(timeIntervalSince1970: $0)) })
    }

    @Test(arguments: ["0", "-1", "9223372036854775807"]) func aValueForNoExpiryMeansNever(_ text: String) {
        #expect(ExpiryDate(text) == .never)
    }
}
