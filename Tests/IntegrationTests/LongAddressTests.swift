import Foundation
import Testing

extension Integration {
    /// Local parts of more than 64 bytes in every place that takes an address.
    @Suite struct LongAddressTests {
        private static let hash = "5f2c7d1e9b8a4f3c6d0e1b2a3f4c5d6e7f8091a2"
        private static let confirmation = "list-confirm+\(hash)-anna=example.net@example.com"
        private static let exchange =
            "imceaex-_o=organisation_ou=exchange+20administrative+20group+20+28fydibohf23spdlt+29_cn=recipients_cn=anna@example.com"
        private static let blocked = String(repeating: "b", count: 100)

        @Test("tables, canaries, blocked recipients, patterns, log and check accept long local parts")
        func everywhere() throws {
            let gateway = try Gateway { configuration in
                configuration.values["sync.canaries"] = "[\"\(Self.confirmation)\"]"
                configuration.values["recipients.blocked"] = "[\"\(Self.blocked)@example.com\"]"
                configuration.values["recipients.patterns"] =
                    "[{ match = '^bounces-[0-9a-f]{40}-[a-z]+=[a-z.]+@example\\.com$', action = \"accept\" }]"
                configuration.values["recipients.srs"] = "true"
                configuration.rest +=
                    "[[domain]]\nname = \"example.net\"\nbatv = true\nblocked = [\"\(Self.blocked)\"]\n"
                try configuration.list([
                    "anna@example.com", "carl@example.net", Self.confirmation, Self.exchange,
                    "\(Self.blocked)@example.com",
                ])
            }
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            try client.begin()
            let unknown = "list-confirm-\(Self.hash)-\(Self.hash)@example.com"
            let expected = [
                (Self.confirmation, "250"), (Self.exchange, "250"), (Self.exchange.uppercased(), "250"),
                ("anna+\(Self.hash)\(Self.hash)@example.com", "250"),
                ("\"anna+\(Self.hash)\(Self.hash)\"@example.com", "250"),
                ("bounces-\(Self.hash)-someone=far.example@example.com", "250"),
                ("prvs=1234abcdef=carl+\(Self.hash)\(Self.hash)@example.net", "250"),
                ("\(Self.blocked)@example.com", "550"), ("\(Self.blocked)+x@example.net", "550"), (unknown, "550"),
            ]
            for (recipient, code) in expected {
                #expect(try client.recipient(recipient).description.hasPrefix(code), "\(recipient)")
            }
            try client.command("RSET")
            try client.command("MAIL FROM:<>")
            let forwarded = "SRS0=abcd=TT=\(Self.blocked.prefix(50)).example=\(Self.hash)@example.com"
            #expect(try client.recipient(forwarded).description.hasPrefix("250"))
            client.quit()
            #expect(gateway.postern.stop() == .exited(0))

            let log = try gateway.configuration.run(["log", "--format", "json"]).output
            #expect(log.contains(unknown), "\(log)")
            let check = try gateway.configuration.run(["check", Self.confirmation])
            #expect(check.output.contains("\(Self.confirmation): accept"), "\(check.output)")
            #expect(check.output.contains("line 3 of "), "\(check.output)")
            let batch = try gateway.configuration.run(
                ["check", "--batch"], input: expected.map { "\($0.0)\n" }.joined())
            #expect(
                batch.output.split(separator: "\n").map { $0.hasPrefix("accept") } == expected.map { $0.1 == "250" },
                "\(batch.output)")
        }

        @Test("a byte-order mark isn't part of the first address, and UTF-16 is reported")
        func byteOrderMarks() throws {
            let workspace = try Workspace()
            let configuration = try PosternConfiguration(in: workspace)
            try configuration.write()
            #expect(try configuration.run(["sync", "--once"]).ending == .exited(0))
            for input in ["\u{feff}anna@example.com\nbob@example.com\n", "\u{feff}anna@example.com", "\u{feff}"] {
                let result = try configuration.run(["check", "--batch"], input: input)
                #expect(result.ending == .exited(0))
                #expect(!result.output.contains("reject"), "\(result.output)")
                #expect(!result.output.contains("\u{feff}"))
            }
            for encoding in [String.Encoding.utf16, .utf16LittleEndian, .utf16BigEndian] {
                let file = workspace.file("utf16")
                try #require("anna@example.com\n".data(using: encoding)).write(to: URL(fileURLWithPath: file))
                let child = try ChildProcess(
                    PosternProcess.executable, ["check", "--batch", "--config", workspace.file("postern.toml")],
                    input: file,
                    output: workspace.file("out"), error: workspace.file("err"))
                #expect(child.wait() == .exited(65))
                #expect(workspace.text(of: "err").contains("UTF-16"))
            }
        }
    }
}
