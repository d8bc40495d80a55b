import Foundation
import Glibc
import TestSupport
import Testing

extension Integration {
    @Suite(.enabled(if: SendmailRequirements.areMet, SendmailRequirements.comment)) struct SendmailTests {
        /// Holds the conversation of `sendmail.cases` and returns the replies.
        private func hold(with gateway: SendmailGateway) throws -> [SMTPClient.Reply] {
            var clients: [String: SMTPClient] = [:]
            for (name, source) in [("stranger", Gateway.stranger), ("trusted", Gateway.trusted)] {
                let client = try SMTPClient(port: gateway.port, from: source)
                // Only a client that has said EHLO may give parameters.
                #expect(try client.command("EHLO client.test").category == 2)
                #expect(
                    try client.command("MAIL FROM:<sender@client.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x")
                        .category == 2)
                clients[name] = client
            }
            return try caseFields("sendmail.cases").map { fields in
                try #require(clients[fields[0]]).command("RCPT TO:\(fields[1])")
            }
        }

        @Test("the replies are the ones in the table of cases", arguments: [true, false])
        func replies(unixSocket: Bool) throws {
            let gateway = try SendmailGateway(unixSocket: unixSocket)
            let expected = try caseFields("sendmail.cases")
            let replies = try hold(with: gateway)
            for (fields, reply) in zip(expected, replies) {
                let isRight =
                    fields[2].count < 10 ? reply.description.hasPrefix(fields[2]) : reply.description == fields[2]
                #expect(isRight, "\(fields[0]) \(fields[1]): \(reply), expected \(fields[2])")
            }
            #expect(replies.count > 20)
            #expect(gateway.postern.stop() == .exited(0))

            let report = try gateway.report()
            #expect(report.totals.accepted == replies.count { $0.category == 2 })
            #expect(report.totals.refused == replies.count { $0.category == 5 })
            #expect(report.totals.mtaRefused == 0)
            #expect(report.byReason["unknown"] == replies.count { $0.description.hasPrefix("550 5.1.1") })
            #expect(report.byReason["relay"] == replies.count { $0.description.hasPrefix("554 5.7.1") })
            let log = try gateway.log()
            for fields in expected where fields[2].hasPrefix("5") && fields[1].hasPrefix("<nobody") {
                #expect(log.contains("<nobody@example.com>"), "\(log)")
            }
            #expect(log.contains("127.0.0.2"))
            #expect(log.contains("sender@client.test"))
        }

        @Test("Sendmail's own relay rules reject foreign domains before Postern is asked")
        func ownRelayRules() throws {
            let gateway = try SendmailGateway(lines: [])
            let client = try gateway.client()
            #expect(try client.recipient("someone@foreign.test").description.hasPrefix("550 5.7.1"))
            #expect(try client.recipient("nobody@example.com").description.hasPrefix("550 5.1.1"))
            #expect(try client.recipient("anna@example.com").category == 2)
            // `To:example.com RELAY` means its sub-domains too.
            #expect(try client.recipient("anna@sub.example.com").description.hasPrefix("554 5.7.1"))
            client.quit()
            let trusted = try gateway.client(from: Gateway.trusted)
            #expect(try trusted.recipient("someone@foreign.test").category == 2)
            trusted.quit()
            #expect(gateway.postern.stop() == .exited(0))
            let report = try gateway.report()
            // Only a Sendmail that was built to (_FFR_MILTER_CHECK_REJECTIONS_TOO) tells a filter of what it refuses itself.
            #expect(report.totals == Report.Totals(refused: 2, accepted: 2))
            #expect(report.byReason == ["unknown": 1, "relay": 1])
        }

        @Test("an authenticated client is trusted")
        func authenticated() throws {
            let gateway = try SendmailGateway(
                lines: [],
                prepare: { workspace in
                    let database = try SASLDatabase(in: workspace, program: "Sendmail")
                    return [
                        "define(`confAUTH_MECHANISMS', `PLAIN LOGIN')dnl", "TRUST_AUTH_MECH(`PLAIN LOGIN')dnl",
                        "LOCAL_CONFIG", "ESASL_CONF_PATH=\(database.folder)",
                    ]
                })
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            #expect(try client.command("EHLO client.test").lines.contains { $0.hasSuffix("AUTH PLAIN LOGIN") })
            #expect(try client.command("AUTH PLAIN \(SASLDatabase.plain(password: "wrong"))").code == 535)
            #expect(try client.command("MAIL FROM:<sender@client.test>").category == 2)
            #expect(try client.recipient("someone@foreign.test").category == 5)
            #expect(try client.command("RSET").category == 2)
            #expect(try client.command("AUTH PLAIN \(SASLDatabase.plain())").code == 235)
            #expect(try client.command("MAIL FROM:<sender@client.test>").category == 2)
            #expect(try client.recipient("someone@foreign.test").category == 2)
            // An authenticated client doesn't make a recipient known.
            #expect(try client.recipient("nobody@example.com").description.hasPrefix("550 5.1.1"))
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))
            let log = try gateway.configuration.run(["log", "--format", "json"]).output
            #expect(log.contains("\"authenticated\":true"), "\(log)")
        }

        @Test("a message arrives unchanged at the accepted recipients only")
        func someRefused() throws {
            let gateway = try SendmailGateway(lines: [])
            let client = try gateway.client()
            for recipient in ["nobody@example.com", "anna@example.com", "ghost@example.net", "someone@foreign.test"] {
                #expect(try client.recipient(recipient).category == (recipient.hasPrefix("anna") ? 2 : 5))
            }
            #expect(try client.recipient("carl@example.net").category == 2)
            #expect(try client.message("some").category == 2)
            // The next message of the session starts without recipients.
            #expect(try client.command("MAIL FROM:<>").category == 2)
            #expect(try client.recipient("nobody@example.com").category == 5)
            #expect(try client.command("DATA").category == 5)
            #expect(try client.command("RSET").category == 2)
            #expect(try client.command("MAIL FROM:<again@client.test>").category == 2)
            #expect(try client.recipient("bob@example.com").category == 2)
            #expect(try client.message("again").category == 2)
            client.quit()
            let messages = gateway.sink.messages(atLeast: 2)
            // One message of two domains may go in one piece or in two.
            let some = messages.filter { $0.text.contains("Subject: some") }
            #expect(some.flatMap(\.recipients).sorted() == ["anna@example.com", "carl@example.net"])
            #expect(some.allSatisfy { $0.sender.hasPrefix("<sender@client.test>") && $0.text.hasSuffix("\n\nHello.") })
            let again = messages.filter { $0.text.contains("Subject: again") }
            #expect(again.map(\.recipients) == [["bob@example.com"]])
            // Nothing waits, and nothing went to the senders.
            #expect(eventually(within: 30) { gateway.sendmail.queuedFiles.isEmpty })
            #expect(gateway.sink.messages.allSatisfy { !$0.sender.hasPrefix("<>") })
        }

        @Test("addresses on the left of virtusertable are recipients, and their mail goes to the right-hand side")
        func virtualUsers() throws {
            let table = ["dora@example.com": "anna@example.com", "board@example.net": "bob@example.com"]
            let gateway = try SendmailGateway(
                lines: [],
                {
                    $0.rest += """
                        [[source]]
                        name = "virtusertable"
                        type = "file"
                        format = "sendmail"
                        path = "virtusertable"

                        """
                    try $0.workspace.write(table.map { "\($0)\t\($1)\n" }.joined(), to: "virtusertable")
                },
                prepare: { workspace in
                    try SendmailInstance.table(
                        "virtusertable", table.map { "\($0)\t\($1)" }, in: workspace.path, workspace)
                    return [
                        "FEATURE(`virtusertable', `hash -o \(workspace.path)/virtusertable')dnl",
                        "VIRTUSER_DOMAIN(`example.com')dnl", "VIRTUSER_DOMAIN(`example.net')dnl",
                    ]
                })
            let client = try gateway.client()
            #expect(try client.recipient("dora@example.com").category == 2)
            #expect(try client.recipient("board@example.net").category == 2)
            #expect(try client.recipient("dora@example.net").category == 5)
            #expect(try client.recipient("carl@example.net").category == 2)
            #expect(try client.message("virtual").category == 2)
            client.quit()
            _ = eventually(within: 60) { gateway.sink.messages.flatMap(\.recipients).count >= 3 }
            #expect(
                gateway.sink.messages.flatMap(\.recipients).sorted()
                    == ["anna@example.com", "bob@example.com", "carl@example.net"])
            #expect(eventually(within: 30) { gateway.sendmail.queuedFiles.isEmpty })
        }

        @Test(
            "while the filter isn't running, Sendmail applies its F= flag",
            arguments: [("F=T", "451"), ("F=R", "554"), ("F=4", "421"), ("", "250")])
        func filterAway(flag: String, code: String) throws {
            let gateway = try SendmailGateway(flag: flag)
            #expect(try gateway.client().recipient("nobody@example.com").category == 5)
            #expect(gateway.postern.stop() == .exited(0))

            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger, welcome: false)
            var replies = [client.greeting]
            for line in ["HELO client.test", "MAIL FROM:<sender@client.test>", "RCPT TO:<nobody@example.com>"] {
                guard replies.last?.category == 2 else { break }
                replies.append(try client.command(line))
            }
            #expect(replies.last?.description.hasPrefix(code) == true, "\(replies)")
            #expect((replies.count == 4) == (flag.isEmpty), "\(replies)")

            try gateway.restartPostern()
            #expect(try gateway.client().recipient("nobody@example.com").category == 5)
            #expect(try gateway.client().recipient("anna@example.com").category == 2)
        }

        @Test(
            "a restart of the filter during a session lets no unknown recipient in; the next session is filtered")
        func restartWithinSession() throws {
            let gateway = try SendmailGateway()
            let client = try gateway.client()
            #expect(try client.recipient("anna@example.com").category == 2)
            #expect(gateway.postern.stop() == .exited(0))
            #expect(try client.recipient("nobody@example.com").category == 4)
            try gateway.restartPostern()
            #expect(try client.recipient("nobody@example.com").category == 4)
            #expect(try client.command("RSET").category == 2)
            // Sendmail gives this session no new connection to the filter.
            let sender = try client.command("MAIL FROM:<sender@client.test>")
            let reply = sender.category == 2 ? try client.recipient("nobody@example.com") : sender
            #expect(reply.category == 4)
            client.quit()

            let next = try gateway.client()
            #expect(try next.recipient("nobody@example.com").category == 5)
            #expect(try next.recipient("anna@example.com").category == 2)
            #expect(try next.message("after the restart").category == 2)
            #expect(gateway.sink.messages(atLeast: 1).map(\.recipients) == [["anna@example.com"]])
        }

        @Test("a harvester gets 421 and is disconnected; trusted clients and other strangers aren't affected")
        func harvester() throws {
            let gateway = try SendmailGateway { $0.values["harvest.limit"] = "3" }
            let client = try gateway.client()
            for guess in 1...3 { #expect(try client.recipient("guess\(guess)@example.com").code == 550) }
            let reply = try client.recipient("anna@example.com")
            #expect(reply.description == "421 4.7.0 Too many unknown recipients")
            #expect(client.isClosedByServer)
            // A new connection of the same client is deferred, too.
            let next = try gateway.client()
            #expect(try next.recipient("anna@example.com").code == 421)
            #expect(next.isClosedByServer)

            #expect(try gateway.client(from: "127.0.0.3").recipient("anna@example.com").category == 2)
            let trusted = try gateway.client(from: Gateway.trusted)
            for guess in 1...5 { #expect(try trusted.recipient("guess\(guess)@example.com").code == 550) }
            #expect(try trusted.recipient("anna@example.com").category == 2)
            #expect(gateway.postern.stop() == .exited(0))
            #expect(try gateway.report().byReason["harvest"] == 2)
        }
    }
}
