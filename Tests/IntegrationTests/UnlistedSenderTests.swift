import Foundation
import TestSupport
import Testing

/// Senders in relay domains that the recipient list doesn't have.
private struct Witnesses {
    let configuration: PosternConfiguration

    /// The addresses in the report, and the code of its first finding.
    func reported() throws -> (addresses: [String], first: String?) {
        struct Report: Decodable {
            struct Sender: Decodable { let address: String }
            struct Finding: Decodable { let code: String }
            let unlisted_senders: [Sender]
            let findings: [Finding]
        }
        let result = try configuration.run(["report", "--format", "json"])
        guard result.ending == .exited(0) else { throw TestFailure("postern report: \(result.error)") }
        let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
        return (report.unlisted_senders.map(\.address).sorted(), report.findings.first?.code)
    }
}

extension Integration {
    @Suite struct UnlistedSenderTests {
        /// What a gateway that defers must answer once a trusted client has sent as clara, and a stranger as forged.
        private func expectDeferral(_ gateway: some MailGateway) throws {
            let client = try gateway.client()
            #expect(
                try client.recipient("clara@example.com").description.hasPrefix(
                    "451 4.3.0 <clara@example.com>: Recipient verification is unavailable"))
            #expect(try client.recipient("Clara+x@example.com").code == 451)
            #expect(try client.recipient("forged@example.com").code == 550)
            #expect(try client.recipient("nobody@example.com").code == 550)
            #expect(try client.recipient("anna@example.com").code == 250)
            client.quit()
        }

        private func send(_ gateway: some MailGateway, from sender: String, client address: String) throws {
            let client = try SMTPClient(port: gateway.port, from: address)
            try client.begin(from: sender)
            _ = try client.recipient("anna@example.com")
            client.quit()
        }

        @Test("with unlisted_sender on, a trusted client's sender is deferred, a stranger's is rejected")
        func postfix() throws {
            let gateway = try Gateway { $0.values["policy.unlisted_sender"] = "\"defer\"" }
            for sender in [
                "clara@example.com", "prvs=1234abcdef=clara@example.com", "anna@example.com", "anyone@example.org",
                "someone@foreign.test",
            ] {
                try send(gateway, from: sender, client: Gateway.trusted)
            }
            try send(gateway, from: "forged@example.com", client: Gateway.stranger)
            try expectDeferral(gateway)
            let witnesses = Witnesses(configuration: gateway.configuration)
            #expect(try eventually(within: 30) { try witnesses.reported().addresses == ["clara@example.com"] })
            #expect(try witnesses.reported().first == "unlisted-senders")

            let check = try gateway.configuration.run(["check", "clara@example.com"])
            #expect(check.ending == .exited(75))
            #expect(check.output.contains("unlisted-sender: sent through this gateway on "), "\(check.output)")
            #expect(check.output.contains("unlisted_sender = \"defer\""))
            let batch = try gateway.configuration.run(
                ["check", "--batch"], input: "clara@example.com\nforged@example.com\n")
            #expect(
                batch.output
                    == "tempfail\tunlisted-sender\tclara@example.com\nreject\tunknown\tforged@example.com\n")

            // It is known after a restart, and listed in the end.
            #expect(gateway.postern.stop() == .exited(0))
            try gateway.restartPostern()
            try expectDeferral(gateway)
            try gateway.configuration.list(PosternConfiguration.listed + ["clara@example.com"])
            #expect(try gateway.configuration.run(["sync", "--once"]).ending == .exited(0))
            #expect(
                try eventually(within: 30) {
                    let client = try gateway.client()
                    defer { client.quit() }
                    return try client.recipient("clara@example.com").code == 250
                })
            #expect(try witnesses.reported().addresses.isEmpty)
            #expect(gateway.postern.stop() == .exited(0))
        }

        @Test("an authenticated sender counts; with unlisted_sender off, it is rejected and reported")
        func authenticated() throws {
            let workspace = try Workspace()
            let database = try SASLDatabase(in: workspace, program: "smtpd", group: "postfix")
            let gateway = try Gateway(postfixSettings: [
                "mynetworks": "127.0.0.0/8", "smtpd_reject_unlisted_recipient": "no",
                "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "cyrus", "smtpd_sasl_path": "smtpd",
                "cyrus_sasl_config_path": database.folder, "smtpd_sasl_local_domain": "gateway.example.test",
            ])
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            try client.begin(from: "forged@example.com")
            #expect(try client.command("RSET").category == 2)
            #expect(try client.command("EHLO client.test").category == 2)
            #expect(try client.command("AUTH PLAIN \(SASLDatabase.plain())").code == 235)
            #expect(try client.command("MAIL FROM:<clara@example.com>").category == 2)
            #expect(try client.recipient("clara@example.com").code == 550)
            client.quit()
            let witnesses = Witnesses(configuration: gateway.configuration)
            #expect(try eventually(within: 30) { try witnesses.reported().addresses == ["clara@example.com"] })
            let check = try gateway.configuration.run(["check", "clara@example.com"])
            #expect(check.ending == .exited(1))
            #expect(check.output.contains("unlisted-sender: sent through this gateway on "), "\(check.output)")
            #expect(gateway.postern.stop() == .exited(0))
        }

        @Test(
            "with Sendmail, a trusted client's sender is deferred, too",
            .enabled(if: SendmailRequirements.areMet, SendmailRequirements.comment))
        func sendmail() throws {
            let gateway = try SendmailGateway(lines: []) { $0.values["policy.unlisted_sender"] = "\"defer\"" }
            try send(gateway, from: "clara@example.com", client: Gateway.trusted)
            try send(gateway, from: "forged@example.com", client: Gateway.stranger)
            try expectDeferral(gateway)
            #expect(gateway.postern.stop() == .exited(0))
        }
    }
}

extension FilterAlone {
    @Suite struct UnlistedSenderTests {
        @Test("without a log, the filter remembers unlisted senders in memory")
        func memory() throws {
            let filter = try LoneFilter {
                $0.values["policy.unlisted_sender"] = "\"defer\""
                // A folder can't be opened as a database.
                $0.values["log.database"] = "\"\(try $0.workspace.makeFolder("log.sqlite"))\""
            }
            let trusted = try filter.connection(from: "127.0.0.1")
            #expect(trusted.send("M", ["<clara@example.com>"]))
            #expect(try trusted.answer("anna@example.com") == "250")
            #expect(try filter.answer("clara@example.com") == "451")
            #expect(try filter.answer("nobody@example.com") == "550")
            #expect(filter.postern.stop() == .exited(0))
        }
    }
}
