import Foundation
import TestSupport
import Testing

@testable import Migration

/// The two sides of each case of a data file.
func sides(_ name: String) throws -> [(input: String, expected: String)] {
    try caseLines(name).map { _, line in
        // The input may have " => " in it, too.
        let parts = line.components(separatedBy: " => ")
        guard parts.count > 1, let expected = parts.last else { return (line, "") }
        return (parts.dropLast().joined(separator: " => "), expected.trimmingCharacters(in: .whitespaces))
    }
}

@Suite struct TableTests {
    @Test("networks excluded by ! are not trusted, and the rest of a network is")
    func networks() throws {
        for (input, expected) in try sides("networks.cases") {
            var networks = TrustedNetworks()
            var found = ""
            var isRefused = false
            for word in input.split(separator: " ") where networks.add(String(word)) != nil { isRefused = true }
            found = (networks.texts + (isRefused ? ["refused"] : [])).joined(separator: " ")
            #expect(found == expected, "\(input)")
        }
    }

    @Test("a filter for one address becomes a filter for all")
    func filters() throws {
        for (input, expected) in try sides("filters.cases") {
            let parts = input.components(separatedBy: " | ")
            var table = DirectoryTable(origin: "test")
            table.filter = parts[0]
            table.resultAttributes = parts[1].split(separator: " ").map(String.init)
            switch table.translated() {
            case .failure: #expect(expected == "refused", "\(input)")
            case .success(let found):
                #expect(
                    "\(found.filter ?? "-") | \(found.attributes.joined(separator: " "))" == expected, "\(input)")
            }
        }
    }

    @Test("a query for one address becomes a query for all")
    func queries() throws {
        for (input, expected) in try sides("sql.cases") {
            let table = DatabaseTable(origin: "test", type: "pgsql", settings: ["query": input])
            #expect(table.allAddresses ?? "none" == expected, "\(input)")
        }
    }

    @Test("the rules of regexp and pcre tables are read as Postfix reads them")
    func patterns() throws {
        for (input, expected) in try sides("patterns.cases") {
            let table = PatternTable(input)
            var found = table.rules.map { rule in
                if let alias = rule.alias { return "alias \(alias.domain) \(alias.target)" }
                let flags = rule.flags.isEmpty ? "-" : rule.flags
                return "\(rule.line) \(rule.isNegated ? "!" : "")\(rule.expression) \(flags) \(rule.action)"
            }
            if !table.faults.isEmpty { found.append("fault") }
            #expect(found.joined(separator: " ") == expected, "\(input)")
        }
    }

    @Test("rules between if and endif are conditional")
    func conditions() {
        let table = PatternTable("if /x/\n/a/ OK\nendif\n/b/ OK\n")
        #expect(table.rules.map(\.isConditional) == [true, false])
    }

    @Test("the tables of a value are told apart by commas and white space outside of braces")
    func maps() throws {
        for (input, expected) in try sides("postfix.cases") {
            let maps = PostfixMap.list(input, defaultType: "hash")
            #expect(maps.map { "[\($0.type) \($0.name)]" }.joined(separator: " ") == expected, "\(input)")
        }
        let inline = PostfixMap("inline:{ a@b=c, { d@e = f g } }", defaultType: "hash").inlineEntries
        #expect(inline.map { "\($0.key)=\($0.value)" } == ["a@b=c", "d@e=f g"])
        #expect(PostfixMap("unionmap:{hash:/a,inline:{x=y}}", defaultType: "").parts == ["hash:/a", "inline:{x=y}"])
    }

    @Test("Sendmail's networks are told from its domains")
    func sendmailNetworks() throws {
        for (input, expected) in try sides("sendmail.cases") {
            #expect(SendmailReader.network(input) ?? "none" == expected, "\(input)")
        }
    }

    @Test("the variables of getadsmtp are read, and other scripts are refused")
    func getadsmtp() throws {
        for (input, expected) in try sides("getadsmtp.cases") {
            guard let script = try? GetadsmtpScript(text: input.replacing("\\n", with: "\n"), path: "/x.pl") else {
                #expect(expected == "refused", "\(input)")
                continue
            }
            let directory = script.directory
            let found = [
                directory.servers.joined(separator: " "), directory.base, directory.bindDN, directory.password ?? "",
                directory.filter, directory.attributes.joined(separator: " "), script.table ?? "",
            ].joined(separator: " | ").trimmingCharacters(in: .whitespaces)
            #expect(found == expected, "\(input)")
        }
    }
}
