import Foundation
import Testing

extension Integration {
    /// The gateway of `contrib/postfix`, of exactly those files but for addresses, ports and folders, beside a domain controller.
    @Suite(DirectoryRequirements.samba) struct ClassicGatewayTests {
        /// Postfix and Postern of those files, and the two inner servers.
        private final class ClassicGateway: MailGateway {
            let configuration: PosternConfiguration
            let postern: PosternProcess
            let postfix: PostfixInstance
            /// The domain controller, whose directory lists the recipients.
            let directory: SambaInstance
            /// Of example.com.
            let first: SMTPSink
            /// Of example.net and example.org.
            let second: SMTPSink
            var port: UInt16 { postfix.port }

            init() throws {
                let workspace = try Workspace()
                first = try SMTPSink(host: "127.0.0.11")
                second = try SMTPSink(host: "127.0.0.12")
                configuration = try PosternConfiguration(in: workspace)
                let tables = ("/etc/postfix/", "\(workspace.path)/")
                for name in ["relay_domains", "virtual"] { try workspace.write(try Self.file(name), to: name) }
                try workspace.write(
                    try Self.file(
                        "transport",
                        [
                            ("[10.20.0.11]:25", "[\(first.host)]:\(first.port)"),
                            ("[10.20.0.12]:25", "[\(second.host)]:\(second.port)"),
                        ]), to: "transport")

                directory = try SambaInstance(in: workspace)
                try directory.add(.user, "Admin", ["SMTP:admin@example.com"])
                try directory.add(.user, "Anna", ["SMTP:anna@example.com", "smtp:anna@corp.example", "X400:c=de"])
                try directory.add(.user, "Bob", ["SMTP:bob@example.com"])
                try directory.add(.contact, "Carl", ["SMTP:carl@example.net"])
                try directory.add(.group, "Olga", ["SMTP:olga@example.org"])
                let secret = try workspace.write("\(SambaInstance.password)\n", to: "ldap.secret")
                chmod(secret, 0o600)
                try workspace.write(
                    try String(contentsOfFile: directory.authorityFile, encoding: .utf8), to: "ca.pem")
                try workspace.write(
                    try Self.file(
                        "postern.toml",
                        [
                            (
                                #""ldaps://dc1.corp.example", "ldaps://dc2.corp.example""#,
                                "\"ldaps://127.0.0.1:1\", \"\(directory.ldapsURI)\""
                            ), ("postern@corp.example", SambaInstance.bindDN), tables, ("/etc/postern/", tables.1),
                            ("/var/lib/postern/", tables.1),
                            ("inet:8891@127.0.0.1", "\(configuration.socket)"),
                            ("\"127.0.0.0/8\", \"::1/128\", \"10.20.0.0/24\"", "\"127.0.0.1/32\", \"127.0.0.7/32\""),
                            ("[sync]", "[sync]\nstate = \"sync.sqlite\""),
                        ]), to: "postern.toml")
                for command in [["config", "check"], ["sync", "--once"]] {
                    let result = try configuration.run(command)
                    guard result.ending == .exited(0) else {
                        throw ChildProcess.Failure(description: "\(command): \(result.output)\(result.error)")
                    }
                }
                postern = try PosternProcess(
                    serving: workspace.file("postern.toml"), socket: configuration.socket, in: workspace)

                let main = try Self.file(
                    "main.cf",
                    [
                        tables, ("inet:127.0.0.1:8891", configuration.socket.postfixName),
                        ("127.0.0.0/8, [::1]/128, 10.20.0.0/24", "127.0.0.1/32, 127.0.0.7/32"),
                    ])
                // The test doesn't depend on the machine's network.
                let isolation = """
                    inet_interfaces = 127.0.0.1
                    inet_protocols = ipv4
                    smtpd_peername_lookup = no
                    disable_dns_lookups = yes

                    """
                postfix = try PostfixInstance(in: workspace, main: main + isolation)
            }

            /// A file of `contrib/postfix`, in which each replacement must find its text.
            private static func file(_ name: String, _ replacements: [(String, String)] = []) throws -> String {
                let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                    .appendingPathComponent("../../contrib/postfix")
                let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
                return try replacements.reduce(text) { text, replacement in
                    guard text.contains(replacement.0) else {
                        throw ChildProcess.Failure(description: "\(name) doesn't hold \(replacement.0)")
                    }
                    return text.replacingOccurrences(of: replacement.0, with: replacement.1)
                }
            }

            /// Has a stranger send a message; the answers to its recipients.
            func send(_ subject: String, to recipients: String..., expecting codes: [Int]) throws {
                let client = try client()
                for (recipient, code) in zip(recipients, codes) {
                    let reply = try client.recipient(recipient)
                    #expect(reply.code == code, "<\(recipient)>: \(reply)")
                }
                let taken = try client.message(subject)
                #expect((taken.category == 2) == codes.contains(250), "\(taken)")
                client.quit()
            }
        }

        @Test("mail reaches the right inner servers, and rejected recipients appear only in the report")
        func wholeGateway() throws {
            let gateway = try ClassicGateway()
            // Recipients of the inner servers.
            try gateway.send("plain", to: "anna@example.com", expecting: [250])
            try gateway.send("detail", to: "Bob+lists@Example.COM", expecting: [250])
            try gateway.send("other", to: "carl@example.net", "olga@example.org", expecting: [250, 250])
            // Left sides of virtual.
            try gateway.send("postmaster", to: "postmaster@example.org", expecting: [250])
            try gateway.send("abuse", to: "abuse@example.net", expecting: [250])
            try gateway.send("departed", to: "dora.departed@example.com", expecting: [250])
            try gateway.send("board", to: "board@example.com", expecting: [250])
            // Unknown recipients, alone and beside others.
            try gateway.send("unknown", to: "nobody@example.com", expecting: [550])
            try gateway.send("elsewhere", to: "anna@example.net", expecting: [550])
            try gateway.send("foreign", to: "someone@foreign.test", expecting: [554])
            try gateway.send("sub-domain", to: "anna@sub.example.com", expecting: [554])
            try gateway.send("host", to: "root@mail.example.com", expecting: [554])
            try gateway.send(
                "mixed", to: "nobody@example.com", "anna@example.com", "someone@foreign.test", "ghost@example.org",
                expecting: [550, 250, 554, 550])

            _ = gateway.first.messages(atLeast: 7)
            _ = gateway.second.messages(atLeast: 2)
            _ = eventually(within: 60) { !gateway.postfix.hasQueuedMail }
            /// Subjects and recipients, sorted: a message may come in one piece or several.
            func arrivals(_ messages: [SMTPSink.Message]) -> [String] {
                messages.flatMap { message in
                    let line = message.text.split(separator: "\n").first { $0.hasPrefix("Subject: ") } ?? ""
                    return message.recipients.map { "\(line.dropFirst(9)) \($0)" }
                }.sorted()
            }
            #expect(
                arrivals(gateway.first.messages) == [
                    "abuse admin@example.com", "board anna@example.com", "board bob@example.com",
                    "departed anna@example.com", "detail Bob+lists@Example.COM", "mixed anna@example.com",
                    "plain anna@example.com", "postmaster admin@example.com",
                ])
            #expect(
                arrivals(gateway.second.messages) == [
                    "board carl@example.net", "other carl@example.net", "other olga@example.org",
                ])

            // Nothing waits and nothing was bounced.
            #expect(!gateway.postfix.hasQueuedMail, "\(gateway.postfix.log)")
            #expect(!gateway.postfix.log.contains("postfix/bounce"), "\(gateway.postfix.log)")
            #expect(!gateway.postfix.log.contains("warning:"), "\(gateway.postfix.log)")
            for message in gateway.first.messages + gateway.second.messages {
                #expect(message.sender.hasPrefix("<sender@client.test>"))
            }

            #expect(gateway.postern.stop() == .exited(0))
            let report = try gateway.report()
            #expect(report.byReason == ["unknown": 4, "mta": 4])
            #expect(report.totals == Report.Totals(refused: 8, accepted: 9, mtaRefused: 4))
        }

        @Test("inner servers send mail out through the gateway; strangers can't test addresses by VRFY")
        func clients() throws {
            let gateway = try ClassicGateway()
            let inner = try gateway.client(from: "127.0.0.7")
            #expect(try inner.recipient("someone@foreign.test").category == 2)
            #expect(try inner.recipient("nobody@example.com").description.hasPrefix("550 5.1.1"))
            let stranger = try gateway.client()
            #expect(try stranger.command("VRFY anna@example.com").code == 502)
            #expect(try stranger.recipient("someone@foreign.test").category == 5)
        }

        @Test("a change of the directory or of a table takes effect without a reload")
        func change() throws {
            let gateway = try ClassicGateway()
            let client = try gateway.client()
            #expect(try client.recipient("emil@example.com").code == 550)
            try gateway.directory.add(.user, "Emil", ["SMTP:emil@example.com"])
            #expect(try eventually(within: 30) { try client.recipient("emil@example.com").code == 250 })
            #expect(try client.recipient("fans@example.com").code == 550)
            let virtual = gateway.configuration.workspace.text(of: "virtual")
            try gateway.configuration.workspace.write(virtual + "fans@example.com emil@example.com\n", to: "virtual")
            #expect(try eventually(within: 30) { try client.recipient("fans@example.com").code == 250 })
        }
    }
}
