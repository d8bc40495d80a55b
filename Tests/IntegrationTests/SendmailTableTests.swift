import Foundation
import TestSupport
import Testing

extension Integration {
    /// Postern understands Sendmail's tables as Sendmail does.
    @Suite(.enabled(if: SendmailRequirements.areMet, SendmailRequirements.comment)) struct SendmailTableTests {
        private static let domains = ["example.com", "virt.test", "alias.test", "main.test"]

        @Test("Postern and Sendmail agree on each entry of access and virtusertable")
        func sameAnswers() throws {
            let workspace = try Workspace(in: .run)
            var tables = ["access": Self.domains.map { "To:\($0) RELAY" }, "virtusertable": []]
            for fields in try caseFields("sendmail-tables.cases") { tables[fields[0], default: []].append(fields[1]) }
            var configuration = try PosternConfiguration(in: workspace)
            configuration.values["relay.domains_from"] = "[\"access:access\"]"
            configuration.values["relay.domains"] = nil
            configuration.rest = try tables.keys.sorted().map { name in
                try workspace.write(tables[name, default: []].map { "\($0)\n" }.joined(), to: name)
                return "[[source]]\nname = \"\(name)\"\ntype = \"file\"\nformat = \"sendmail\"\npath = \"\(name)\"\n"
            }.joined()
            try workspace.write("someone@main.test\n", to: "list")
            configuration.rest += "[[source]]\nname = \"list\"\ntype = \"file\"\nformat = \"list\"\npath = \"list\"\n"
            try configuration.write()
            let synced = try configuration.run(["sync", "--once"])
            #expect(synced.ending == .exited(0), "\(synced.output)\(synced.error)")

            var settings = SendmailInstance.Settings()
            settings.lines = ["FEATURE(`blocklist_recipients')dnl"]
            // Without a flag Sendmail answers by itself while no filter is there.
            settings.filterFlag = ""
            settings.access = tables["access", default: []]
            settings.virtualUsers = tables["virtusertable", default: []]
            settings.virtualDomains = ["virt.test", "alias.test"]
            for domain in Self.domains { settings.routes[domain] = "127.0.0.1" }
            let sendmail = try SendmailInstance(in: workspace, socket: .inet(try Ports.unused()), settings)

            var recipients: [String] = []
            for line in try caseFields("sendmail-tables.cases").map({ $0[1] }) {
                let key = String(line.prefix { !$0.isWhitespace })
                guard !key.hasPrefix("From:"), key.contains("@") else { continue }
                let address = key.hasPrefix("To:") ? String(key.dropFirst(3)) : key
                recipients.append(address.hasPrefix("@") ? "someone\(address)" : address)
            }
            recipients += [
                "joe+x@virt.test", "joe2@virt.test", "info+y@virt.test", "JOE@Virt.Test", "someone+x@alias.test",
            ]
            let judged = try configuration.run(
                ["check", "--batch"], input: recipients.map { "\($0)\n" }.joined())
            let verdicts = judged.output.split(separator: "\n").map { $0.hasPrefix("accept") }
            try #require(verdicts.count == recipients.count, "\(judged.error)")

            let client = try SMTPClient(port: sendmail.port, from: "127.0.0.1")
            try client.begin()
            var accepted = 0
            for (number, (recipient, verdict)) in zip(recipients, verdicts).enumerated() {
                if number % 20 == 19 {
                    try client.command("RSET")
                    try client.command("MAIL FROM:<sender@client.test>")
                }
                let reply = try client.recipient(recipient)
                #expect(
                    (reply.category == 2) == verdict, "<\(recipient)>: Sendmail \(reply), Postern accepts: \(verdict)")
                if reply.category == 2 { accepted += 1 }
            }
            client.quit()
            #expect(accepted > 15)
            #expect(recipients.count - accepted > 25)
        }
    }
}
