import Foundation
import Glibc
import TestSupport
import Testing

extension Integration {
    @Suite struct EndingTests {
        @Test(
            "while the filter isn't running, Postfix applies milter_default_action",
            arguments: [("tempfail", "451 4.7.1"), ("accept", "250 2.1.5"), ("reject", "554 ")])
        func filterAway(action: String, expected: String) throws {
            let gateway = try Gateway(
                postfixSettings: Gateway.leavesAllToFilter.merging(["milter_default_action": action]) { $1 })
            #expect(try gateway.client().recipient("nobody@example.com").category == 5)
            #expect(gateway.postern.stop() == .exited(0))
            let client = try SMTPClient(port: gateway.postfix.port, from: Gateway.stranger, welcome: false)
            var reply = client.greeting
            for line in ["HELO client.test", "MAIL FROM:<sender@client.test>", "RCPT TO:<nobody@example.com>"] {
                guard reply.category == 2 else { break }
                reply = try client.command(line)
            }
            #expect(reply.description.hasPrefix(expected), "\(reply)")

            try gateway.restartPostern()
            #expect(try gateway.client().recipient("nobody@example.com").category == 5)
        }

        @Test(
            "SIGTERM under load: the filter answers every recipient and counts every rejection",
            arguments: [SIGTERM, SIGINT])
        func terminatedUnderLoad(signal: Int32) throws {
            let gateway = try Gateway(unixSocket: signal == SIGINT)
            let load = LoadGenerator(
                clients: 6, port: gateway.postfix.port, known: "anna@example.com", unknown: "nobody@example.com")
            #expect(eventually(within: 30) { load.seen.answered > 500 && load.seen.begun == 6 })
            gateway.postern.signal(signal)
            #expect(gateway.postern.ending() == .exited(0), "\(gateway.postern.messages)")
            let seen = load.stop()
            #expect(seen.lost.isEmpty)
            #expect(seen.asked == seen.answered)
            #expect(Set(seen.replies.keys).isSubset(of: [250, 451, 550]), "\(seen.replies)")
            let totals = try gateway.report().totals
            #expect(totals.refused == seen.replies[550] ?? 0)
            #expect(totals.accepted == seen.replies[250] ?? 0)
        }

        @Test("kill -9: the report loses at most the last second, and the filter starts again")
        func killed() throws {
            let gateway = try Gateway()
            var client = try gateway.client()
            for _ in 0..<200 { #expect(try client.recipient("nobody@example.com").category == 5) }
            // The filter may lose one second; a busy machine's scheduler may take another.
            sleep(2)
            for _ in 0..<50 { #expect(try client.recipient("nobody@example.com").category == 5) }
            gateway.postern.signal(SIGKILL)
            #expect(gateway.postern.ending() == .killed(signal: SIGKILL))
            let before = try gateway.report().totals.refused
            #expect((200...250).contains(before))

            try gateway.restartPostern()
            client = try gateway.client()
            for _ in 0..<7 { #expect(try client.recipient("nobody@example.com").category == 5) }
            #expect(try client.recipient("anna@example.com").category == 2)
            #expect(gateway.postern.stop() == .exited(0))
            #expect(try gateway.report().totals.refused == before + 7)
        }

        @Test("kill -9 leaves a unix socket behind, which the next start replaces")
        func staleSocket() throws {
            let gateway = try Gateway(unixSocket: true)
            gateway.postern.signal(SIGKILL)
            #expect(gateway.postern.ending() == .killed(signal: SIGKILL))
            try gateway.restartPostern()
            #expect(try gateway.client().recipient("nobody@example.com").category == 5)
            guard case .unix(let path) = gateway.configuration.socket else { return }
            #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o660)
            #expect(gateway.postern.stop() == .exited(0))
        }

        @Test("bytes that aren't the milter protocol end only their own connection")
        func garbage() throws {
            let gateway = try Gateway()
            guard case .inet(let port) = gateway.configuration.socket else { return }
            var random = SeededGenerator(seed: 2)
            for round in 0..<100 {
                let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
                defer { close(descriptor) }
                guard Ports.withLoopback("127.0.0.1", port, { connect(descriptor, $0, $1) }) == 0 else {
                    Issue.record("no connection in round \(round)")
                    break
                }
                // Every other time the length is believable.
                var bytes = (0..<Int.random(in: 0...600, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                if round % 2 == 0 { bytes = [0, 0, 0, 13] + Array("O".utf8) + bytes }
                _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            }
            #expect(gateway.postern.isRunning)
            #expect(try gateway.client().recipient("nobody@example.com").category == 5)
            #expect(gateway.postern.stop() == .exited(0))
        }
    }
}
