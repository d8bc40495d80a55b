import Foundation
import Testing

extension Integration {
    /// Alias domains through a real Postfix: those of the configuration and those of a virtual table, which change while the
    /// filter runs.
    @Suite struct AliasDomainTests {
        private static let domains = ["example.com", "alias.example", "chain.example", "table.example"]

        @Test("an alias domain has the recipients of its target domain")
        func aliases() throws {
            let gateway = try Gateway(
                postfixSettings: Gateway.leavesAllToFilter.merging([
                    "relay_domains": Self.domains.joined(separator: ", ")
                ]) { $1 }
            ) { configuration in
                configuration.values["relay.domains"] = "\(Self.domains)"
                configuration.rest += """
                    [[domain]]
                    name = "alias.example"
                    alias_of = "example.com"
                    [[domain]]
                    name = "chain.example"
                    alias_of = "alias.example"

                    """
                try configuration.list(["anna@example.com", "@table.example", "own@alias.example"])
            }
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            try client.begin()
            func reply(_ recipient: String) throws -> String { try client.recipient(recipient).description }
            #expect(try reply("anna@alias.example").hasPrefix("250"))
            #expect(try reply("Anna+x@Chain.Example").hasPrefix("250"))
            #expect(try reply("own@alias.example").hasPrefix("250"))
            #expect(try reply("own@chain.example").hasPrefix("250"))
            #expect(
                try reply("bob@chain.example")
                    == "550 5.1.1 <bob@chain.example>: Recipient address rejected: User unknown")
            // A catch-all, as the table says.
            #expect(try reply("bob@table.example").hasPrefix("250"))

            // Now an alias, by the same left side.
            try gateway.workspace.write(
                "anna@example.com ok\nown@alias.example ok\n@table.example @example.com\n", to: "recipients")
            let isTaken = eventually(within: 30) {
                (try? reply("bob@table.example").hasPrefix("550 5.1.1 <bob@table.example>")) ?? false
            }
            #expect(isTaken)
            #expect(try reply("anna@table.example").hasPrefix("250"))
            let check = try gateway.configuration.run(["check", "anna@table.example"])
            #expect(check.ending == .exited(0))
            #expect(check.output.contains("table.example is an alias of example.com"), "\(check.output)")
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))
            let domains = try gateway.configuration.run(["report", "--format", "json"]).output
            #expect(domains.contains("chain.example"))
        }

        @Test("a temporary reply to unknown recipients defers them, and the report counts them as deferred")
        func deferredUnknown() throws {
            let gateway = try Gateway { configuration in
                configuration.values["replies.unknown"] = "\"450 4.1.1 <{recipient}>: not known yet\""
                configuration.rest += """
                    [[domain]]
                    name = "example.net"
                    replies = { unknown = "550 5.1.1 <{recipient}>: User unknown" }

                    """
            }
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            try client.begin()
            #expect(
                try client.recipient("nobody@example.com").description
                    == "450 4.1.1 <nobody@example.com>: not known yet")
            #expect(try client.recipient("nobody@example.net").description.hasPrefix("550 5.1.1"))
            client.quit()
            let check = try gateway.configuration.run(["check", "nobody@example.com"])
            #expect(check.ending == .exited(75))
            #expect(gateway.postern.stop() == .exited(0))
            let output = try gateway.configuration.run(["report", "--format", "json"]).output
            let report = try JSONDecoder().decode(Report.self, from: Data(output.utf8))
            #expect(report.totals.tempfailed == 1)
            #expect(report.totals.refused == 1)
            #expect(report.byReason["unknown"] == 2)
        }

        @Test("deferred unknown recipients count towards the harvest limit")
        func deferredGuesses() throws {
            let filter = try LoneFilter {
                $0.values["replies.unknown"] = "\"450 4.1.1 not known yet\""
                $0.values["harvest.limit"] = "3"
            }
            let guesser = try filter.connection(from: "192.0.2.7")
            for _ in 0..<3 { #expect(try guesser.answer("nobody@example.com") == "450") }
            #expect(try guesser.answer("anna@example.com") == "421")
            #expect(filter.postern.stop() == .exited(0))
            #expect(try filter.report().totals.tempfailed == 4)
        }
    }
}
