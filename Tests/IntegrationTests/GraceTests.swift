import Foundation
import TestSupport
import Testing

extension FilterAlone {
    /// Verdicts on recipients that left the list, and on relay domains of a truncated table.
    @Suite struct GraceTests {
        private static let remaining = ["anna@example.com", "carl@example.net", "@example.org"]

        @Test(
            "a recipient that left the list is deferred during sync.grace, over a restart too, then rejected")
        func grace() throws {
            let filter = try LoneFilter { $0.values["sync.grace"] = "\"6s\"" }
            #expect(try filter.answer("bob@example.com") == "250")
            try filter.configuration.list(Self.remaining)
            #expect(try eventually(within: 10) { try filter.answer("bob@example.com") == "450" })
            let packet = try filter.connection().recipient("<bob@example.com>")
            #expect(
                packet.text
                    == "450 4.2.1 <bob@example.com>: Recipient address rejected: Mailbox temporarily unavailable")
            let check = try filter.configuration.run(["check", "bob@example.com"])
            #expect(check.ending == .exited(75))
            #expect(
                check.output.contains("left people at ") && check.output.contains("; rejected from "), "\(check.output)"
            )
            #expect(filter.postern.stop() == .exited(0))
            try filter.restart()
            #expect(try eventually(within: 20) { try filter.answer("bob@example.com") == "550" })

            try filter.configuration.list(PosternConfiguration.listed)
            #expect(try eventually(within: 10) { try filter.answer("bob@example.com") == "250" })
            try filter.configuration.list(Self.remaining)
            #expect(try eventually(within: 10) { try filter.answer("bob@example.com") == "450" })
            try filter.configuration.list(PosternConfiguration.listed)
            #expect(try eventually(within: 10) { try filter.answer("bob@example.com") == "250" })
            #expect(filter.postern.messages.contains("1 returned"), "\(filter.postern.messages)")
        }

        @Test("a recipient that the configuration blocks is rejected at once")
        func blocked() throws {
            let filter = try LoneFilter { $0.values["sync.grace"] = "\"10m\"" }
            filter.configuration.values["recipients.blocked"] = "[\"bob@example.com\"]"
            try filter.configuration.write()
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            #expect(try filter.answer("bob@example.com") == "550")
        }

        /// A filter with a table of three relay domains that it watches.
        private func filter(_ adjust: (inout PosternConfiguration) throws -> Void = { _ in }) throws -> LoneFilter {
            try LoneFilter {
                try $0.workspace.write("one.example x\ntwo.example x\nthree.example x\n", to: "domains")
                $0.values["relay.domains_from"] = "[\"domains\"]"
                $0.values["milter.reload"] = "\"auto\""
                try $0.list(
                    PosternConfiguration.listed + ["a@one.example", "b@two.example", "c@three.example"])
                try adjust(&$0)
            }
        }

        @Test("relay domains that a table loses stay until an operator accepts the loss, also after a restart")
        func tableOfRelayDomains() throws {
            let filter = try filter()
            #expect(try filter.answer("b@two.example") == "250")
            try filter.workspace.write("one.example x\n", to: "domains")
            #expect(
                eventually(within: 20) { filter.postern.messages.contains("would no longer be a relay domain") },
                "\(filter.postern.messages)")
            for address in ["a@one.example", "b@two.example", "c@three.example"] {
                #expect(try filter.answer(address) == "250")
            }
            #expect(try filter.configuration.run(["status"]).ending == .exited(1))
            #expect(filter.postern.stop() == .exited(0))
            try filter.restart()
            #expect(try filter.answer("b@two.example") == "250")
            #expect(try filter.configuration.run(["check", "b@two.example"]).ending == .exited(0))
            #expect(try filter.configuration.run(["sync", "--once"]).ending == .exited(1))
            #expect(try filter.configuration.run(["sync", "--once", "--accept-shrink"]).ending == .exited(0))
            #expect(try eventually(within: 10) { try filter.answer("b@two.example") == "554" })
            #expect(try filter.answer("a@one.example") == "250")
        }

        @Test(
            "the filter starts with a table of relay domains that is empty, missing or malformed",
            arguments: ["", nil, "one.example x\ntwo@three x\n"])
        func tableThatCannotBeUsed(text: String?) throws {
            let filter = try filter()
            try filter.restart {
                if let text {
                    try filter.workspace.write(text, to: "domains")
                } else {
                    try FileManager.default.removeItem(atPath: filter.workspace.file("domains"))
                }
            }
            for address in ["a@one.example", "b@two.example", "c@three.example"] {
                #expect(try filter.answer(address) == "250")
            }
            #expect(try filter.configuration.run(["check", "b@two.example"]).ending == .exited(0))
            try filter.workspace.write("one.example x\ntwo.example x\nthree.example x\nfour.example x\n", to: "domains")
            #expect(try eventually(within: 20) { try filter.answer("d@four.example") == "550" })
        }

        @Test("without a sync, postern reload accepts a table that loses relay domains")
        func tableWithoutASync() throws {
            let filter = try filter {
                $0.rest = ""
                $0.values["recipients.always"] = "[\"postmaster\", \"a\", \"b\"]"
                $0.values["index.path"] = nil
                $0.values["sync.state"] = nil
            }
            #expect(try filter.answer("b@two.example") == "250")
            try filter.workspace.write("one.example x\n", to: "domains")
            #expect(
                eventually(within: 20) { filter.postern.messages.contains("lists 2 relay domains fewer than before") },
                "\(filter.postern.messages)")
            #expect(try filter.answer("b@two.example") == "250")
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            #expect(try filter.answer("b@two.example") == "554")
        }
    }
}
