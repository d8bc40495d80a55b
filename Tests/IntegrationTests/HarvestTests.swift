import Foundation
import Synchronization
import TestSupport
import Testing

extension FilterAlone {
    @Suite struct HarvestTests {
        @Test("a network over the harvest limit is deferred, on new connections too; other networks aren't")
        func limit() throws {
            let filter = try LoneFilter {
                $0.values["harvest.limit"] = "10"
                $0.values["harvest.window"] = "\"7d\""
                $0.values["harvest.ipv4_prefix"] = "24"
            }
            let first = try filter.connection(from: "192.0.2.7")
            let second = try filter.connection(from: "192.0.2.8")
            for _ in 0..<5 {
                // These recipients don't count as guesses.
                #expect(try first.answer("anna@example.com") == "250")
                #expect(try first.answer("nobody@example.info") == "554")
                #expect(try first.answer("nobody@example.com") == "550")
                #expect(try second.answer("nobody@example.net") == "550")
            }
            #expect(try first.answer("anna@example.com") == "421")
            #expect(try second.answer("nobody@example.com") == "421")
            #expect(try filter.answer("anna@example.com", from: "192.0.2.200") == "421")
            #expect(try filter.answer("postmaster@example.com", from: "192.0.2.200") == "250")
            #expect(try filter.answer("anna@example.com", from: "192.0.3.7") == "250")
            // Trusted, and more guesses than the limit.
            let trusted = try filter.connection(from: "127.0.0.1")
            for _ in 0..<20 { #expect(try trusted.answer("nobody@example.com") == "550") }
            #expect(try trusted.answer("anna@example.com") == "250")
            #expect(filter.postern.stop() == .exited(0))
            let line =
                "harvest: 192.0.2.0/24 has reached 10 unknown recipients in 7 days: deferred until the window clears"
            #expect(filter.postern.messages.components(separatedBy: line).count == 2, "\(filter.postern.messages)")
            #expect(!filter.postern.messages.contains("127.0.0.1 has"))
            #expect(try filter.report().byReason["harvest"] == 3)
        }

        @Test("recipients that the list gains later no longer count towards the harvest limit")
        func lateList() throws {
            let filter = try LoneFilter { $0.values["harvest.limit"] = "3" }
            let innocent = try filter.connection(from: "192.0.2.7")
            let guesser = try filter.connection(from: "192.0.2.8")
            for name in ["dora", "emil", "fred"] {
                #expect(try innocent.answer("\(name)@example.com") == "550")
                #expect(try guesser.answer("guess-\(name)@example.com") == "550")
            }
            #expect(try innocent.answer("anna@example.com") == "421")
            try filter.configuration.list(
                PosternConfiguration.listed + ["dora", "emil", "fred"].map { "\($0)@example.com" })
            #expect(try filter.configuration.run(["sync", "--once"]).ending == .exited(0))
            #expect(try eventually(within: 30) { try innocent.answer("dora@example.com") == "250" })
            #expect(try guesser.answer("dora@example.com") == "421")
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("neither a network with mostly known recipients nor an exempt one is over the harvest limit")
        func innocent() throws {
            let filter = try LoneFilter {
                $0.values["harvest.limit"] = "3"
                $0.values["harvest.exempt"] = "[\"198.51.100.0/24\", \"2001:db8::/32\"]"
            }
            let provider = try filter.connection(from: "192.0.2.7")
            for _ in 0..<10 {
                #expect(try provider.answer("nobody@example.com") == "550")
                #expect(try provider.answer("anna@example.com") == "250")
                #expect(try provider.answer("anybody@example.org") == "250")
            }
            for client in ["198.51.100.9", "192.0.2.8"] {
                let connection = try filter.connection(from: client)
                for _ in 0..<3 { #expect(try connection.answer("nobody@example.com") == "550") }
                #expect(try connection.answer("anna@example.com") == (client == "192.0.2.8" ? "421" : "250"))
            }
            let check = try filter.configuration.run(["check", "--client", "198.51.100.9", "anna@example.com"])
            #expect(check.output.contains("198.51.100.9, not trusted, harvest.exempt"), "\(check.output)")
            // Taken over while running.
            filter.configuration.values["harvest.exempt"] = "[\"192.0.2.8\"]"
            try filter.configuration.write()
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            #expect(try filter.answer("anna@example.com", from: "192.0.2.8") == "250")
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("a network is below the harvest limit again after the window")
        func clears() throws {
            let filter = try LoneFilter {
                $0.values["harvest.limit"] = "3"
                $0.values["harvest.window"] = "\"1s\""
            }
            let connection = try filter.connection()
            for _ in 0..<3 { _ = try connection.answer("nobody@example.com") }
            #expect(try eventually(within: 30) { try connection.answer("anna@example.com") == "250" })
        }

        @Test("replies that the tarpit holds back delay neither other clients nor the filter's end")
        func tarpit() throws {
            let filter = try LoneFilter {
                $0.values["harvest.tarpit"] = "\"8s\""
                $0.values["harvest.tarpit_limit"] = "20"
            }
            let held = try (0..<20).map { _ in try filter.connection() }
            let others = try (0..<20).map { _ in try filter.connection() }
            // Each that is held has a thread of libmilter's to itself. Nobody can be held for longer than 8 s, which a busy
            // machine may take to look: then they ask again.
            var areHeld = false
            for _ in 0..<10 where !areHeld {
                for connection in held { connection.send("R", ["<nobody@example.com>"]) }
                areHeld = try eventually(within: 5) { try threads(of: filter.postern.pid) > 20 }
                if !areHeld {
                    for connection in held { #expect(connection.receive()?.text.hasPrefix("550") == true) }
                }
            }
            #expect(areHeld)
            // Those that are listed, foreign or asked for by trusted clients don't wait.
            for connection in others {
                #expect(try connection.answer("anna@example.com") == "250")
                #expect(try connection.answer("nobody@example.info") == "554")
            }
            #expect(try filter.answer("nobody@example.com", from: "127.0.0.1") == "550")
            filter.postern.signal(SIGTERM)
            for connection in held { #expect(connection.receive()?.text.hasPrefix("550") == true) }
            #expect(filter.postern.ending() == .exited(0))
            #expect(!filter.postern.messages.contains("a verdict was not finished"))
        }

        private func threads(of process: Int32) throws -> Int {
            let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
            return status.firstMatch(of: /Threads:\s+(\d+)/).flatMap { Int($0.1) } ?? 0
        }
    }
}
