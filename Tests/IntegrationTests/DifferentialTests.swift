import Foundation
import TestSupport
import Testing

extension Integration {
    /// Postern answers as Postfix does with the same list in relay_recipient_maps.
    @Suite struct DifferentialTests {
        private static let count = 2_500

        /// Recipients that Postern judges differently on purpose: `recipients.always`; and the address that Postfix keeps for
        /// its own probes, which it takes from anyone at its own name (`double_bounce_sender`).
        private func isExempt(_ recipient: String) -> Bool {
            // Postern's own limit; see overTheLimit.
            if recipient.utf8.count > 512 { return true }
            let address = recipient.lowercased()
            if address.hasSuffix("double-bounce@gateway.example.test") { return true }
            return address.contains(/(^|[^a-z0-9.+_!%-])(postmaster|abuse)"?@/)
        }

        /// Recipients of 509 to 512 bytes, the longest that Postern takes.
        private static let atTheLimit: [String] = (509...512).flatMap { length in
            ["anna+", "nobody+", "\(String(repeating: "n", count: 80))+", "nobody"].map { local in
                local + String(repeating: "x", count: length - local.utf8.count - 12) + "@example.com"
            }
        }

        @Test("a recipient of more than 512 bytes is rejected as a syntax error")
        func overTheLimit() throws {
            let gateway = try Gateway(postfixSettings: Gateway.leavesAllToFilter) { configuration in
                try configuration.list(["anna@example.com"])
            }
            let client = try SMTPClient(port: gateway.postfix.port, from: Gateway.stranger)
            try client.begin()
            for (length, category) in [(510, 2), (511, 2), (512, 2), (513, 5), (1_000, 5)] {
                let detail = String(repeating: "x", count: length - "anna+@example.com".utf8.count)
                let reply = try client.recipient("anna+\(detail)@example.com")
                #expect(reply.category == category, "\(length) bytes: \(reply)")
                #expect(category == 2 || reply.description.hasPrefix("553 5.1.3"), "\(length) bytes: \(reply)")
            }
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))
        }

        /// The first digit of each reply, in the recipients' order.
        private func answers(_ recipients: [String], port: UInt16, from source: String) throws -> [SMTPClient.Reply] {
            var client = try SMTPClient(port: port, from: source)
            try client.begin()
            return try recipients.enumerated().map { number, recipient in
                if number % 500 == 499 {
                    client.quit()
                    client = try SMTPClient(port: port, from: source)
                    try client.begin()
                } else if number % 100 == 99 {
                    try client.command("RSET")
                    try client.command("MAIL FROM:<sender@client.test>")
                }
                return try client.recipient(recipient)
            }
        }

        @Test("Postern gives the same answers as relay_recipient_maps", arguments: [false, true])
        func sameAnswers(subdomains: Bool) throws {
            let seed = SeededGenerator.announced("differential test, subdomains \(subdomains)").seed
            var generator = RecipientGenerator(seed: seed)
            let recipients = (0..<Self.count).map { _ in generator.next() } + Self.atTheLimit

            let parents = ["parent_domain_matches_subdomains": subdomains ? "relay_domains" : ""]
            let domains = ["relay_domains": RecipientGenerator.relayDomains.joined(separator: ", ")]
            let gateway = try Gateway(
                postfixSettings: Gateway.leavesAllToFilter.merging(parents) { $1 }.merging(domains) { $1 }
            ) { configuration in
                configuration.values["relay.domains"] = "\(RecipientGenerator.relayDomains)"
                configuration.values["relay.subdomains"] = "\(subdomains)"
                try configuration.list(RecipientGenerator.listed)
            }
            let table = try PostfixInstance.table(
                RecipientGenerator.listed.map { "\($0) ok" }, in: gateway.workspace, name: "relay_recipients")
            let reference = try PostfixInstance(
                in: gateway.workspace, domains.merging(parents) { $1 }.merging(["relay_recipient_maps": table]) { $1 },
                name: "reference")

            var categories: [Int: Int] = [:]
            for source in [Gateway.stranger, Gateway.trusted] {
                let expected = try answers(recipients, port: reference.port, from: source)
                let found = try answers(recipients, port: gateway.postfix.port, from: source)
                for (recipient, (expected, found)) in zip(recipients, zip(expected, found)) where !isExempt(recipient) {
                    categories[expected.category, default: 0] += 1
                    #expect(
                        found.category == expected.category,
                        "<\(recipient)> from \(source), seed \(seed): Postern \(found), Postfix \(expected)")
                }
            }
            #expect(categories[2, default: 0] > 500)
            #expect(categories[5, default: 0] > 500)
            #expect(gateway.postern.stop() == .exited(0))
        }
    }
}
