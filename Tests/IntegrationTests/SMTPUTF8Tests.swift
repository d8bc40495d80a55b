import Foundation
import TestSupport
import Testing

extension Integration {
    /// Addresses in UTF-8 (RFC 6531), from the client through Postfix and Postern to the inner server. Debian's Sendmail is
    /// built without them.
    @Suite struct SMTPUTF8Tests {
        /// A gateway whose domain is given in one form, its recipients in the other.
        private func gateway(
            domain: String, listed: [String], sink: SMTPSink? = nil
        ) throws -> Gateway {
            var settings = Gateway.leavesAllToFilter
            settings["smtputf8_enable"] = "yes"
            settings["relay_domains"] = "bücher.example, xn--bcher-kva.example"
            if let sink { settings["relay_transport"] = "smtp:[\(sink.host)]:\(sink.port)" }
            return try Gateway(postfixSettings: settings) { configuration in
                configuration.values["relay.domains"] = "[\"\(domain)\"]"
                try configuration.list(listed)
            }
        }

        private func client(of gateway: Gateway) throws -> SMTPClient {
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            #expect(try client.command("EHLO client.test").lines.contains { $0.dropFirst(4) == "SMTPUTF8" })
            #expect(try client.command("MAIL FROM:<absender@bücher.test> SMTPUTF8").category == 2)
            return client
        }

        @Test(
            "U-labels and A-labels name the same domain; local parts are compared in NFC, case-folded",
            arguments: [("bücher.example", "xn--bcher-kva.example"), ("xn--bcher-kva.example", "bücher.example")])
        func replies(domain: String, listedAs: String) throws {
            let listed = ["jürgen", "用户", "anna"].map { "\($0)@\(listedAs)" }
            let gateway = try gateway(domain: domain, listed: listed)
            let client = try client(of: gateway)
            let expected = try caseFields("smtputf8.cases")
            for fields in expected {
                let reply = try client.recipient(fields[0])
                let isRight =
                    fields[1].hasPrefix("250") ? reply.description.hasPrefix(fields[1]) : reply.description == fields[1]
                #expect(isRight, "<\(fields[0])>: \(reply), expected \(fields[1])")
            }
            #expect(expected.count > 15)
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))

            // The report shows the rejected recipient as the client gave it, and `check` gives the same verdict.
            let log = try gateway.log()
            for fields in expected where fields[1].hasPrefix("5") {
                #expect(log.contains("to=<\(fields[0])>"), "\(log)")
            }
            let batch = try gateway.configuration.run(
                ["check", "--batch"], input: expected.map { "\($0[0])\n" }.joined())
            let verdicts = batch.output.split(separator: "\n").map { $0.prefix { $0 != "\t" } }
            #expect(verdicts == expected.map { $0[1].hasPrefix("250") ? "accept" : "reject" })
        }

        @Test("a message keeps its SMTPUTF8 parameter and its addresses")
        func wholeMessage() throws {
            let sink = try SMTPSink()
            let gateway = try gateway(domain: "bücher.example", listed: ["jürgen@bücher.example"], sink: sink)
            let client = try client(of: gateway)
            #expect(try client.recipient("jörgen@bücher.example").category == 5)
            #expect(try client.recipient("jürgen@bücher.example").category == 2)
            #expect(try client.message("Grüße").category == 2)
            client.quit()
            let messages = sink.messages(atLeast: 1)
            #expect(messages.map(\.recipients) == [["jürgen@bücher.example"]])
            #expect(messages.first?.sender.hasPrefix("<absender@bücher.test>") == true)
            #expect(messages.first?.sender.contains("SMTPUTF8") == true)
            #expect(messages.first?.text.contains("Subject: Grüße") == true)
            #expect(eventually(within: 30) { !gateway.postfix.hasQueuedMail })
        }

        @Test("a client without SMTPUTF8 gets replies in ASCII only")
        func unannounced() throws {
            // Postfix lets a local part in UTF-8 pass without it, but no domain.
            let gateway = try gateway(domain: "bücher.example", listed: ["jürgen@bücher.example"])
            let client = try gateway.client()
            #expect(try client.recipient("jürgen@xn--bcher-kva.example").category == 2)
            let reply = try client.recipient("jörgen@xn--bcher-kva.example")
            #expect(
                reply.description
                    == "550 5.1.1 <j??rgen@xn--bcher-kva.example>: Recipient address rejected: User unknown")
        }

        @Test("an address with invalid UTF-8 is rejected as a syntax error")
        func invalidUTF8() throws {
            let gateway = try gateway(domain: "bücher.example", listed: ["jürgen@bücher.example"])
            let client = try client(of: gateway)
            let reply = try client.command(
                bytes: Array("RCPT TO:<j".utf8) + [0xfc] + Array("rgen@bücher.example>".utf8))
            #expect(reply.category == 5)
            #expect(try client.recipient("jürgen@bücher.example").category == 2)
        }
    }
}
