import Foundation
import RecipientFilter
import Testing

/// The section VERDICTS of `contrib/man/postern.8`.
@Suite struct ManualTests {
    /// A rule's entry in the manual: its name, and its text on one line.
    private struct Entry {
        var name: String
        var text = ""
    }

    private static func entries() throws -> [Entry] {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../contrib/man/postern.8").standardizedFileURL
        let lines = try String(contentsOf: page, encoding: .utf8).split(separator: "\n")
        let section = lines.drop { $0 != ".Sh VERDICTS" }.prefix { $0 != ".El" }
        return section.reduce(into: []) { entries, line in
            if line.hasPrefix(".It Cm ") {
                entries.append(Entry(name: String(line.dropFirst(7))))
            } else if !entries.isEmpty {
                entries[entries.count - 1].text += line + " "
            }
        }
    }

    @Test("the manual lists every rule, in order")
    func order() throws {
        #expect(try Self.entries().map(\.name) == VerdictRule.allCases.map(\.rawValue))
    }

    @Test("the manual gives each rule's reason and the codes of its default reply", arguments: VerdictRule.allCases)
    func replies(_ rule: VerdictRule) throws {
        let entry = try #require(try Self.entries().first { $0.name == rule.rawValue })
        if rule != .aliasDomain { #expect(entry.text.contains("reason \(rule.reason.name)")) }
        if let reply = rule.reply {
            let codes = reply.defaultText.split(separator: " ").prefix(2).joined(separator: " ")
            #expect(entry.text.contains(codes), "\(entry.text)")
        }
    }
}
