import Foundation
import TestSupport
import Testing

extension Integration {
    @Suite struct ConversationTests {
        /// Holds the conversation of `conversation.cases` and returns the replies.
        private func hold(with gateway: Gateway) throws -> [SMTPClient.Reply] {
            let clients = [
                "stranger": try gateway.client(), "trusted": try gateway.client(from: Gateway.trusted),
            ]
            return try caseFields("conversation.cases").map { fields in
                let client = try #require(clients[fields[0]])
                return try client.recipient(fields[1])
            }
        }

        @Test("the replies are the ones in the table of cases", arguments: [false, true])
        func replies(unixSocket: Bool) throws {
            let gateway = try Gateway(unixSocket: unixSocket)
            let expected = try caseFields("conversation.cases")
            let replies = try hold(with: gateway)
            for (fields, reply) in zip(expected, replies) {
                let isRight =
                    fields[2].hasPrefix("250") ? reply.description.hasPrefix(fields[2]) : reply.description == fields[2]
                #expect(isRight, "\(fields[0]) <\(fields[1])>: \(reply), expected \(fields[2])")
            }
            #expect(replies.count > 20)
            #expect(gateway.postern.stop() == .exited(0))
        }

        @Test func theReportCountsTheConversation() throws {
            let gateway = try Gateway()
            let replies = try hold(with: gateway)
            #expect(gateway.postern.stop() == .exited(0))
            let report = try gateway.report()
            #expect(report.totals.accepted == replies.count { $0.category == 2 })
            #expect(report.totals.refused == replies.count { $0.category == 5 })
            #expect(report.totals.tempfailed == 0)
            #expect(report.totals.observed == 0)
            #expect(report.byReason["unknown"] == replies.count { $0.description.hasPrefix("550 5.1.1") })
            #expect(report.byReason["relay"] == replies.count { $0.description.hasPrefix("554 5.7.1") })

            let log = try gateway.configuration.run(["log", "--format", "json"])
            #expect(log.ending == .exited(0))
            let table = try caseFields("conversation.cases")
            for fields in table where fields[2].hasPrefix("5") && !fields[1].contains("\"") {
                #expect(log.output.contains(fields[1]), "<\(fields[1])> isn't in the log")
            }
            #expect(log.output.contains("127.0.0.2"))
            #expect(log.output.contains("sender@client.test"))
        }

        @Test func checkAgreesWithTheFilter() throws {
            let gateway = try Gateway()
            let replies = try hold(with: gateway)
            let table = Array(zip(try caseFields("conversation.cases"), replies))
            let strangers = table.filter { $0.0[0] == "stranger" }
            let batch = try gateway.configuration.run(
                ["check", "--batch"], input: strangers.map { "\($0.0[1])\n" }.joined())
            #expect(batch.ending == .exited(0))
            let lines = batch.output.split(separator: "\n").map {
                $0.split(separator: "\t", omittingEmptySubsequences: false)
            }
            try #require(lines.count == strangers.count)
            for (line, (fields, reply)) in zip(lines, strangers) {
                #expect(line[0] == (reply.category == 2 ? "accept" : "reject"), "\(fields[1]): \(line), SMTP \(reply)")
                #expect(line[2] == fields[1])
            }
            for (fields, reply) in table.suffix(8) {
                let source = fields[0] == "trusted" ? Gateway.trusted : Gateway.stranger
                let check = try gateway.configuration.run(["check", "--client", source, fields[1]])
                #expect(check.ending == .exited(reply.category == 2 ? 0 : 1), "\(fields[1]): \(check)")
                #expect(!check.output.isEmpty)
            }
        }

        @Test("the report counts recipients that Postfix itself rejects under the reason mta")
        func refusedByPostfix() throws {
            let workspace = try Workspace()
            let table = try PostfixInstance.table(
                PosternConfiguration.listed.map { "\($0) ok" }, in: workspace, name: "recipients")
            let gateway = try Gateway(postfixSettings: ["relay_recipient_maps": table])
            let client = try gateway.client()
            #expect(try client.recipient("nobody@example.com").description.hasPrefix("550 5.1.1"))
            #expect(try client.recipient("someone@foreign.test").description.hasPrefix("554 5.7.1"))
            #expect(try client.recipient("anna@example.com").category == 2)
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))
            #expect(try gateway.report().totals == Report.Totals(refused: 2, accepted: 1, mtaRefused: 2))
            let log = try gateway.configuration.run(["log"])
            #expect(log.output.contains("mta to=<nobody@example.com>"), "\(log.output)")
            #expect(log.output.contains("mta to=<someone@foreign.test>"), "\(log.output)")
        }

        @Test("a message to a known recipient arrives unchanged")
        func wholeMessage() throws {
            let gateway = try Gateway()
            let client = try gateway.client()
            #expect(try client.recipient("nobody@example.com").category == 5)
            #expect(try client.recipient("anna@example.com").category == 2)
            #expect(try client.command("DATA").code == 354)
            try client.send("Subject: x\r\n\r\nHello.")
            #expect(try client.command(".").category == 2)
            // The next transaction of the same connection starts without recipients.
            #expect(try client.command("MAIL FROM:<>").category == 2)
            #expect(try client.recipient("nobody@example.com").category == 5)
            #expect(try client.command("RSET").category == 2)
            #expect(try client.command("MAIL FROM:<again@client.test>").category == 2)
            #expect(try client.recipient("bob@example.com").category == 2)
            client.quit()
        }

        @Test("observe mode rejects nothing and counts the verdicts", arguments: ["policy", "domain"])
        func observe(scope: String) throws {
            let gateway = try Gateway { configuration in
                if scope == "policy" {
                    configuration.values["policy.mode"] = "\"observe\""
                } else {
                    configuration.rest += "[[domain]]\nname = \"example.com\"\nmode = \"observe\"\n"
                }
            }
            let client = try gateway.client()
            #expect(try client.recipient("nobody@example.com").category == 2)
            #expect(try client.recipient("anna@example.com").category == 2)
            #expect(try client.recipient("nobody@example.net").category == (scope == "policy" ? 2 : 5))
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))
            let totals = try gateway.report().totals
            #expect(totals.observed == (scope == "policy" ? 2 : 1))
        }
    }
}
