import Foundation
import Glibc
import Testing

extension Integration {
    /// Postern gives the same verdicts in each of these ways to set up Postfix.
    @Suite struct PostfixTests {
        /// Restrictions of a real gateway: a stranger may send to relay domains only.
        private static let strict = [
            "mynetworks": "127.0.0.1/32",
            "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination",
        ]

        /// What every one of these gateways must answer.
        private func expectUsualAnswers(_ client: SMTPClient) throws {
            #expect(try client.recipient("anna@example.com").description.hasPrefix("250 2.1.5"))
            #expect(
                try client.recipient("nobody@example.com").description
                    == "550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown")
            #expect(try client.recipient("someone@foreign.test").description.hasPrefix("554 5.7.1"))
        }

        // MARK: clients that are known

        @Test("an authenticated client is trusted if relay.trust_authenticated is on", arguments: [true, false])
        func authenticated(trusted: Bool) throws {
            let workspace = try Workspace()
            let database = try SASLDatabase(in: workspace, program: "smtpd", group: "postfix")
            let settings = [
                "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "cyrus", "smtpd_sasl_path": "smtpd",
                "cyrus_sasl_config_path": database.folder, "smtpd_sasl_local_domain": "gateway.example.test",
            ]
            let gateway = try Gateway(postfixSettings: Self.strict.merging(settings) { $1 }) {
                $0.values["relay.trust_authenticated"] = "\(trusted)"
            }
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            #expect(try client.command("EHLO client.test").lines.contains { $0.dropFirst(4).hasPrefix("AUTH ") })
            let wrong = try client.command("AUTH PLAIN \(SASLDatabase.plain(password: "wrong"))")
            #expect(wrong.code == 535, "\(wrong)\n\(gateway.postfix.log)")
            #expect(try client.command("MAIL FROM:<sender@client.test>").category == 2)
            try expectUsualAnswers(client)
            #expect(try client.command("RSET").category == 2)
            #expect(try client.command("AUTH PLAIN \(SASLDatabase.plain())").code == 235)
            #expect(try client.command("MAIL FROM:<sender@client.test>").category == 2)
            #expect(try client.recipient("someone@foreign.test").category == (trusted ? 2 : 5))
            // An authenticated client doesn't make a recipient known.
            #expect(try client.recipient("nobody@example.com").category == 5)
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))
            // The foreign domain was first refused by Postfix itself.
            let byReason = try gateway.report().byReason
            #expect(byReason["mta"] == 1)
            #expect(byReason["unknown"] == 2)
            #expect(byReason["relay"] == (trusted ? nil : 1))
        }

        // MARK: around the filter

        @Test("Postfix's rejections at RCPT count under the reason mta; earlier rejections don't reach Postern")
        func delayReject() throws {
            for delayed in [true, false] {
                let gateway = try Gateway(
                    postfixSettings: Self.strict.merging([
                        "smtpd_delay_reject": delayed ? "yes" : "no",
                        "smtpd_sender_restrictions": "check_sender_access inline:{spam@client.test=REJECT}",
                    ]) { $1 })
                let spammer = try SMTPClient(port: gateway.port, from: Gateway.stranger)
                try spammer.command("HELO client.test")
                let sender = try spammer.command("MAIL FROM:<spam@client.test>")
                #expect(sender.category == (delayed ? 2 : 5))
                if delayed { #expect(try spammer.recipient("anna@example.com").description.hasPrefix("554 5.7.1")) }
                spammer.quit()
                let client = try gateway.client()
                try expectUsualAnswers(client)
                client.quit()
                #expect(gateway.postern.stop() == .exited(0))
                let report = try gateway.report()
                #expect(
                    report.totals
                        == Report.Totals(refused: delayed ? 3 : 2, accepted: 1, mtaRefused: delayed ? 2 : 1))
                #expect(try gateway.log().contains("mta to=<anna@example.com>") == delayed)
            }
        }

        @Test("behind postscreen, Postern sees the client's own address")
        func postscreen() throws {
            let gateway = try Gateway(
                postfixSettings: Self.strict.merging([
                    "postscreen_access_list": "", "postscreen_greet_action": "enforce", "postscreen_greet_wait": "1s",
                ]) { $1 }, listeners: [PostfixInstance.Listener(isScreened: true)])
            let client = try gateway.client()
            #expect(client.greeting.lines.count == 2)
            try expectUsualAnswers(client)
            client.quit()
            let trusted = try gateway.client(from: Gateway.trusted)
            #expect(try trusted.recipient("someone@foreign.test").category == 2)
            trusted.quit()
            #expect(gateway.postern.stop() == .exited(0))
            #expect(try gateway.report().totals == Report.Totals(refused: 2, accepted: 2, mtaRefused: 1))
            #expect(try gateway.log().contains("client=unknown[127.0.0.2]"))
        }

        @Test("each Postfix service uses its own filter, or none")
        func perService() throws {
            let second = try Gateway { configuration in try configuration.list(["dora@example.com"]) }
            let gateway = try Gateway(listeners: [
                .init(),
                .init(settings: ["smtpd_milters": ""]),
                .init(settings: ["smtpd_milters": second.configuration.socket.postfixName]),
            ])
            func answer(_ port: UInt16, _ recipient: String) throws -> Int {
                let client = try SMTPClient(port: port, from: Gateway.stranger)
                try client.begin()
                return try client.recipient(recipient).category
            }
            let ports = gateway.postfix.ports
            #expect(try ports.map { try answer($0, "anna@example.com") } == [2, 2, 5])
            #expect(try ports.map { try answer($0, "dora@example.com") } == [5, 2, 2])
            #expect(try ports.map { try answer($0, "nobody@example.com") } == [5, 2, 5])
            #expect(gateway.postern.stop() == .exited(0))
            #expect(try gateway.report().totals == Report.Totals(refused: 2, accepted: 1))
        }

        @Test("of several filters in a row, the first rejection counts")
        func severalFilters() throws {
            let second = try Gateway { try $0.list(["anna@example.com", "dora@example.com"]) }
            let workspace = try Workspace()
            let configuration = try PosternConfiguration(in: workspace)
            try configuration.list(["anna@example.com", "bob@example.com"])
            let file = try configuration.write()
            #expect(try configuration.run(["sync", "--once"]).ending == .exited(0))
            let first = try PosternProcess(serving: file, socket: configuration.socket, in: workspace)
            let sockets = [configuration.socket, second.configuration.socket].map(\.postfixName)
            var settings = Gateway.leavesAllToFilter
            settings["relay_domains"] = "example.com"
            settings["smtpd_milters"] = sockets.joined(separator: ", ")
            let postfix = try PostfixInstance(in: workspace, settings)
            let client = try SMTPClient(port: postfix.port, from: Gateway.stranger)
            try client.begin()
            for (recipient, category) in [("anna", 2), ("bob", 5), ("dora", 5), ("nobody", 5)] {
                #expect(try client.recipient("\(recipient)@example.com").category == category, "\(recipient)")
            }
            #expect(try client.message("through both").category == 2)
            client.quit()
            #expect(first.stop() == .exited(0))
            #expect(second.postern.stop() == .exited(0))
            // The second was asked for what the first had let pass.
            #expect(try second.report().totals == Report.Totals(refused: 1, accepted: 1))
            // If one of the filters isn't running, every recipient is deferred.
            let late = try SMTPClient(port: postfix.port, from: Gateway.stranger)
            try late.command("HELO client.test")
            #expect(try late.command("MAIL FROM:<sender@client.test>").description.hasPrefix("451 4.7.1"))
        }

        @Test("Postfix reaches a unix socket in smtpd's chroot, as in the README")
        func chroot() throws {
            let workspace = try Workspace()
            var settings = Gateway.leavesAllToFilter
            settings["relay_domains"] = PosternConfiguration.relayDomains.joined(separator: ", ")
            settings["smtpd_milters"] = "unix:postern/milter.sock"
            let postfix = try PostfixInstance(in: workspace, settings, listeners: [.init(isChrooted: true)])
            let folder = try workspace.makeFolder("postfix/queue/postern")
            chown(folder, 0, getgrnam("postfix")?.pointee.gr_gid ?? 0)
            chmod(folder, 0o2750)
            let configuration = try PosternConfiguration(in: workspace, socket: .unix("\(folder)/milter.sock"))
            let file = try configuration.write()
            #expect(try configuration.run(["sync", "--once"]).ending == .exited(0))
            let postern = try PosternProcess(serving: file, socket: configuration.socket, in: workspace)
            let client = try SMTPClient(port: postfix.port, from: Gateway.stranger)
            try client.begin()
            try expectUsualAnswers(client)
            client.quit()
            #expect(postern.stop() == .exited(0))
        }

        @Test("a harvester gets 421 and is disconnected; trusted clients and other strangers aren't affected")
        func harvester() throws {
            let gateway = try Gateway { $0.values["harvest.limit"] = "3" }
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
