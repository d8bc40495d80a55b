import Foundation
import Glibc
import Testing

extension Integration {
    @Suite struct IndexTests {
        @Test("an index that another process publishes is enforced in open sessions")
        func swapped() throws {
            let gateway = try Gateway()
            // The filter that serves has no source of its own here: an inner machine makes the index.
            #expect(gateway.postern.stop() == .exited(0))
            var outer = gateway.configuration
            outer.rest = ""
            try outer.write(to: "outer.toml")
            let postern = try PosternProcess(
                serving: gateway.workspace.file("outer.toml"), socket: outer.socket, in: gateway.workspace)

            let client = try gateway.client()
            #expect(try client.recipient("dora@example.com").category == 5)
            #expect(try client.recipient("bob@example.com").category == 2)
            var inner = gateway.configuration
            try inner.list(["anna@example.com", "dora@example.com"])
            #expect(try inner.run(["sync", "--once"]).ending == .exited(0))
            #expect(try eventually(within: 10) { try client.recipient("dora@example.com").category == 2 })
            #expect(try client.recipient("bob@example.com").category == 5)
            inner.rest = ""
            #expect(postern.stop() == .exited(0))
        }

        @Test("a changed source is enforced in open sessions")
        func sourceChanged() throws {
            let gateway = try Gateway()
            let client = try gateway.client()
            #expect(try client.recipient("dora@example.com").category == 5)
            try gateway.configuration.list(["anna@example.com", "dora@example.com"])
            #expect(try eventually(within: 10) { try client.recipient("dora@example.com").category == 2 })
            #expect(try client.recipient("bob@example.com").category == 5)
        }

        @Test("a malformed line is named, and the old index stays")
        func malformedSource() throws {
            let gateway = try Gateway()
            let client = try gateway.client()
            try gateway.workspace.write(
                "anna@example.com ok\ndora@example.com ok\nbob@example.com\n", to: "recipients")
            #expect(
                eventually(within: 10) { gateway.postern.messages.contains("recipients:3") },
                "\(gateway.postern.messages)")
            #expect(try client.recipient("dora@example.com").category == 5)
            #expect(try client.recipient("bob@example.com").category == 2)
            let sync = try gateway.configuration.run(["sync", "--once"])
            #expect(sync.ending == .exited(65))
            #expect(sync.error.contains("recipients:3"))

            try gateway.workspace.write("anna@example.com ok\ndora@example.com ok\n", to: "recipients")
            #expect(try eventually(within: 10) { try client.recipient("dora@example.com").category == 2 })
        }

        @Test("a list that shrinks too much is refused until a person accepts it")
        func shrunk() throws {
            let gateway = try Gateway { $0.values["sync.max_shrink"] = "\"10%\"" }
            let client = try gateway.client()
            try gateway.configuration.list(["anna@example.com"])
            let refused = try gateway.configuration.run(["sync", "--once"])
            #expect(refused.ending == .exited(1))
            #expect(try client.recipient("bob@example.com").category == 2)
            let shown = try gateway.configuration.run(["sync", "--once", "--dry-run", "--accept-shrink"])
            #expect(shown.ending == .exited(0))
            #expect(shown.output.contains("bob@example.com"))
            #expect(try client.recipient("bob@example.com").category == 2)
            #expect(try gateway.configuration.run(["sync", "--once", "--accept-shrink"]).ending == .exited(0))
            #expect(try eventually(within: 10) { try client.recipient("bob@example.com").category == 5 })
        }

        @Test("a damaged index is said, and the one in use stays")
        func damaged() throws {
            let gateway = try Gateway { $0.values["sync.interval"] = "\"1h\"" }
            let client = try gateway.client()
            let path = gateway.workspace.file("recipients.index")
            #expect(try gateway.configuration.run(["index", "verify"]).ending == .exited(0))
            var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            bytes[bytes.count / 2] ^= 0x10
            try bytes.write(to: URL(fileURLWithPath: path), options: .atomic)
            #expect(eventually(within: 10) { gateway.postern.messages.contains("the one in use stays") })
            #expect(try client.recipient("bob@example.com").category == 2)
            #expect(try client.recipient("nobody@example.com").category == 5)
            let verify = try gateway.configuration.run(["index", "verify"])
            #expect(verify.ending == .exited(1))
            #expect(!verify.error.isEmpty || !verify.output.isEmpty)
        }
    }
}
