import Foundation
import TestSupport
import Testing

extension Integration {
    /// Postern answers as Postfix does with the same list in relay_recipient_maps.
    @Suite struct DifferentialTests {
        private static let count = 2_500

        /// Recipients that Postern treats otherwise on purpose: `recipients.always`; and the address that Postfix keeps for
        /// its own probes, which it takes from anyone at its own name (`double_bounce_sender`).
        private func isExempt(_ recipient: String) -> Bool {
            let address = recipient.lowercased()
            if address.hasSuffix("double-bounce@gateway.example.test") { return true }
            return address.contains(/(^|[^a-z0-9.+_!%-])(postmaster|abuse)"?@/)
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

        @Test("the same answers as relay_recipient_maps", arguments: [false, true])
        func sameAnswers(subdomains: Bool) throws {
            let seed = SeededGenerator.announced("differential test, subdomains \(subdomains)").seed
            var generator = RecipientGenerator(seed: seed)
            let recipients = (0..<Self.count).map { _ in generator.next() }

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
