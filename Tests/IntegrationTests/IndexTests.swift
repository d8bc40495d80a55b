import Foundation
import Glibc
import Testing

extension Integration {
    @Suite struct IndexTests {
        /// Dora has come, Bob has gone; no domain loses all of its recipients, which would be refused.
        private static let changed = ["anna@example.com", "dora@example.com", "carl@example.net", "@example.org"]

        @Test("open sessions use an index that another process publishes")
        func swapped() throws {
            let gateway = try Gateway(servesOnly: true)
            let client = try gateway.client()
            #expect(try client.recipient("dora@example.com").category == 5)
            #expect(try client.recipient("bob@example.com").category == 2)
            try gateway.configuration.list(Self.changed)
            #expect(try gateway.configuration.run(["sync", "--once"]).ending == .exited(0))
            #expect(try eventually(within: 10) { try client.recipient("dora@example.com").category == 2 })
            #expect(try client.recipient("bob@example.com").category == 5)
        }

        @Test("open sessions use a changed source")
        func sourceChanged() throws {
            let gateway = try Gateway()
            let client = try gateway.client()
            #expect(try client.recipient("dora@example.com").category == 5)
            try gateway.configuration.list(Self.changed)
            #expect(try eventually(within: 10) { try client.recipient("dora@example.com").category == 2 })
            #expect(try client.recipient("bob@example.com").category == 5)
        }

        @Test("the filter reports a malformed line and keeps the old index")
        func malformedSource() throws {
            let gateway = try Gateway()
            let client = try gateway.client()
            try gateway.workspace.write(
                "anna@example.com ok\ndora@example.com ok\nbob@example.com\n@example.org ok\n", to: "recipients")
            #expect(
                eventually(within: 10) { gateway.postern.messages.contains("recipients:3") },
                "\(gateway.postern.messages)")
            #expect(try client.recipient("dora@example.com").category == 5)
            #expect(try client.recipient("bob@example.com").category == 2)
            let sync = try gateway.configuration.run(["sync", "--once"])
            #expect(sync.ending == .exited(65))
            #expect(sync.error.contains("recipients:3"))

            try gateway.configuration.list(Self.changed)
            #expect(try eventually(within: 10) { try client.recipient("dora@example.com").category == 2 })
        }

        @Test("a list that shrinks too much is rejected until an operator accepts it")
        func shrunk() throws {
            let more = PosternConfiguration.listed + ["dora@example.com", "eve@example.com"]
            let gateway = try Gateway { configuration in
                configuration.values["sync.max_shrink"] = "\"10%\""
                try configuration.list(more)
            }
            let client = try gateway.client()
            // The loss of a single one is always allowed.
            try gateway.configuration.list(more.filter { !["bob@example.com", "eve@example.com"].contains($0) })
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

        @Test("the filter reports a damaged index and keeps the index in use")
        func damaged() throws {
            let gateway = try Gateway(servesOnly: true)
            let client = try gateway.client()
            let path = gateway.workspace.file("recipients.index")
            #expect(try gateway.configuration.run(["index", "verify"]).ending == .exited(0))
            var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            bytes[bytes.count / 2] ^= 0x10
            try bytes.write(to: URL(fileURLWithPath: path), options: .atomic)
            #expect(eventually(within: 10) { gateway.postern.messages.contains("the index in use stays") })
            #expect(try client.recipient("bob@example.com").category == 2)
            #expect(try client.recipient("nobody@example.com").category == 5)
            let verify = try gateway.configuration.run(["index", "verify"])
            #expect(verify.ending == .exited(1))
            #expect(!verify.error.isEmpty || !verify.output.isEmpty)
        }
    }
}
