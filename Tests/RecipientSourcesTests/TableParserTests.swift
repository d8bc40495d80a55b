import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources

@Suite struct TableParserTests {
    @Test(arguments: try Case.load("postfix.cases"))
    func postfix(_ item: Case) throws { try check(item, .postfix) }

    @Test(arguments: try Case.load("sendmail.cases"))
    func sendmail(_ item: Case) throws { try check(item, .sendmail) }

    @Test(arguments: try Case.load("list.cases"))
    func list(_ item: Case) throws { try check(item, .list) }

    private func check(_ item: Case, _ format: TableFormat) throws {
        let (listed, parser) = try parse(item.input, format)
        var found = listed.map { "\($0.key):\($0.line)\($0.isRefused ? "-refused" : "")" }.joined(separator: " ")
        let counts = [
            ("domains", parser.skipped.domains), ("withoutDomain", parser.skipped.withoutDomain),
            ("refusing", parser.skipped.refusing), ("otherTags", parser.skipped.otherTags),
            ("wildcards", parser.skipped.wildcards),
        ].filter { $0.1 > 0 }.map { "\($0.0)=\($0.1)" }
        if !counts.isEmpty { found += " skipped " + counts.joined(separator: " ") }
        var expected = item.expected == "nothing" ? "" : item.expected
        if let mark = expected.range(of: "malformed ") {
            let part = expected[mark.upperBound...].split(separator: " ", maxSplits: 1)
            expected = String(expected[..<mark.lowerBound])
            try #require(parser.malformed.count == 1)
            #expect(parser.malformed.lines[0].number == Int(part[0]))
            let words = part[1].trimmingCharacters(in: CharacterSet(charactersIn: "\""))
            #expect(parser.malformed.lines[0].text.contains(words), "\(parser.malformed.lines[0].text)")
        } else {
            #expect(parser.malformed.count == 0, "\(parser.malformed.lines)")
        }
        #expect(
            found.trimmingCharacters(in: .whitespaces)
                == expected.trimmingCharacters(in: .whitespaces))
        #expect(
            listed.count { !$0.isRefused } + parser.skipped.total + parser.malformed.count == parser.entries,
            "every entry is listed, skipped or malformed")
        for entry in listed { #expect(entry.isCatchAll == entry.key.hasPrefix("@")) }
    }

    @Test(arguments: TableFormat.allCases) func textInUTF16IsOneFault(format: TableFormat) throws {
        for encoding in [String.Encoding.utf16, .utf16LittleEndian, .utf16BigEndian] {
            let bytes = try #require("a@example.com x\nb@example.com y\n".data(using: encoding))
            let (listed, parser) = try parse(Array(bytes), format)
            #expect(listed.isEmpty)
            #expect(parser.malformed.count == 1)
            #expect(parser.malformed.lines.first?.text.contains("iconv") == true)
        }
    }

    @Test func aLineOfSeventyBytesIsListed() throws {
        let address = "list-confirm+5f2c7d1e9b8a4f3c6d0e1b2a3f4c5d6e7f8091a2-anna=example.net@example.com"
        for format in TableFormat.allCases {
            let (listed, parser) = try parse(Array("\(address)\(format == .list ? "" : " x")\n".utf8), format)
            #expect(listed.map(\.key) == [address])
            #expect(parser.malformed.count == 0)
        }
    }

    @Test func `the target of an alias domain is read`() {
        func target(_ value: String, _ format: TableFormat) -> String? {
            Array(value.utf8).withUnsafeBufferPointer { TableParser.aliasTarget($0, format) }
        }
        #expect(target("@Main.Example", .postfix) == "main.example")
        #expect(target("@bücher.example.", .postfix) == "xn--bcher-kva.example")
        #expect(target("%1@main.example", .sendmail) == "main.example")
        #expect(target("%1%3@main.example", .sendmail) == "main.example")
        for value in [
            "@main.example, @other.example", "joe@main.example", "@", "@a@b", "main.example", "%1@main.example",
        ] {
            #expect(target(value, .postfix) == nil, "\(value)")
        }
        for value in ["@main.example", "%2@main.example", "joe%1@main.example", "%1", "%1@", "error:nouser x"] {
            #expect(target(value, .sendmail) == nil, "\(value)")
        }
        #expect(target("@main.example", .list) == nil)
    }

    @Test func malformedLinesAreKeptUpToTwenty() throws {
        let (_, parser) = try parse(Array(String(repeating: "nothing here\n", count: 50).utf8), .list)
        #expect(parser.malformed.count == 50)
        #expect(parser.malformed.lines.count == 20)
        let text = parser.malformed.description(file: "/etc/list")
        #expect(text.hasPrefix("/etc/list:1: "))
        #expect(text.hasSuffix("30 more malformed lines"))
    }

    @Test func overlongLinesAreMalformedAndPassedOver() throws {
        let long = String(repeating: "x", count: LineReader.longestLine + 5_000)
        let text = "a@example.com x\n\(long) y\n# \(long)\nb@example.com \(long)\nc@example.com x\n"
        let (listed, parser) = try parse(Array(text.utf8), .postfix)
        #expect(listed.map(\.key) == ["a@example.com", "c@example.com"])
        #expect(parser.malformed.lines.map(\.number) == [2, 3, 4])
    }

    /// Lines of all lengths, many of them across the ends of the chunks that are read.
    @Test func linesAcrossChunksAreReadWhole() throws {
        var generator = SeededGenerator.announced("linesAcrossChunksAreReadWhole")
        let seed = generator.seed
        var text = ""
        var expected: [String] = []
        for number in 0..<3_000 {
            let length = Int.random(in: 0..<[10, 100, 5_000][number % 3], using: &generator)
            text += "u\(number)@example.com " + String(repeating: "v", count: length + 1) + "\n"
            expected.append("u\(number)@example.com:\(number + 1)")
        }
        text += "last@example.com " + String(repeating: "w", count: LineReader.longestLine / 2)
        expected.append("last@example.com:3001")
        let (listed, parser) = try parse(Array(text.utf8), .postfix)
        #expect(listed.map { "\($0.key):\($0.line)" } == expected, "seed \(seed)")
        #expect(parser.malformed.count == 0)
    }

    /// Entries of any bytes are listed, skipped or malformed, and nothing traps.
    @Test func randomBytesNeverTrap() throws {
        var generator = SeededGenerator.announced("randomBytesNeverTrap")
        let seed = generator.seed
        let alphabet = Array("a@.\"\\ \t\n\r#<>:+*%,\u{0}".utf8) + [0xc3, 0xa4, 0xff, 0xed]
        for _ in 0..<200 {
            let bytes = (0..<Int.random(in: 0..<200, using: &generator)).map { _ in
                Bool.random(using: &generator)
                    ? alphabet.randomElement(using: &generator) ?? 0 : UInt8.random(in: 0...255, using: &generator)
            }
            for format in TableFormat.allCases {
                let (listed, parser) = try parse(bytes, format)
                #expect(
                    listed.count + parser.skipped.total + parser.malformed.count >= parser.entries, "seed \(seed)")
                for entry in listed { #expect(entry.key.contains("@"), "seed \(seed)") }
            }
        }
    }

    /// A table that is written with random comments, blank lines and continuation lines is read as it was written.
    @Test func randomTablesAreReadAsWritten() throws {
        var generator = SeededGenerator.announced("randomTablesAreReadAsWritten")
        let seed = generator.seed
        for _ in 0..<60 {
            var text = ""
            var line = 1
            var expected: [Listed] = []
            for _ in 0..<Int.random(in: 0..<60, using: &generator) {
                switch Int.random(in: 0..<8, using: &generator) {
                case 0: text += "# comment \(line)\n"
                case 1: text += ["\n", "  \n", "\t\r\n"].randomElement(using: &generator) ?? "\n"
                default:
                    let user = "User\(Int.random(in: 0..<1_000, using: &generator))"
                    let domain = ["Example.com", "example.org"].randomElement(using: &generator) ?? ""
                    let isCatchAll = Int.random(in: 0..<9, using: &generator) == 0
                    let isQuoted = !isCatchAll && Bool.random(using: &generator)
                    let local = isCatchAll ? "" : isQuoted ? "\"\(user) x\"" : user
                    expected.append(
                        Listed(
                            key: (isCatchAll ? "" : isQuoted ? "\(user) x" : user).lowercased() + "@"
                                + domain.lowercased(),
                            line: line, isCatchAll: isCatchAll))
                    text += "\(local)@\(domain)"
                    if Bool.random(using: &generator) {
                        text += "\n# within\n\tvalue\n"
                        line += 2
                    } else {
                        text += " value\n"
                    }
                }
                line += 1
            }
            let (listed, parser) = try parse(Array(text.utf8), .postfix)
            #expect(listed == expected, "seed \(seed)")
            #expect(parser.malformed.count == 0, "seed \(seed)")
        }
    }

    struct Listed: Equatable {
        var key: String
        var line: Int
        var isCatchAll: Bool
        var isRefused = false
    }

    private func parse(_ bytes: [UInt8], _ format: TableFormat) throws -> ([Listed], TableParser) {
        let folder = try TemporaryFolder()
        let path = try folder.write("table", Data(bytes))
        let file = try TableFile(path, source: "test")
        var parser = TableParser(format)
        var listed: [Listed] = []
        try parser.parse(LineReader(file.descriptor, name: path)) { listing in
            let key = String(decoding: listing.key, as: UTF8.self)
            #expect(key.hasSuffix("@" + String(decoding: listing.domain, as: UTF8.self)))
            listed.append(
                Listed(
                    key: key, line: listing.line, isCatchAll: listing.flags.contains(.catchAll),
                    isRefused: listing.flags.contains(.disabled)))
        }
        return (listed, parser)
    }
}
