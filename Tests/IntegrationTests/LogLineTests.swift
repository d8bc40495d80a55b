import Foundation
import TestSupport
import Testing

extension Integration {
    @Suite struct LogLineTests {
        @Test("the log line of a rejection has the same keywords as Postfix's own")
        func grepping() throws {
            let gateway = try Gateway { $0.values["log.lines"] = "true" }
            let client = try SMTPClient(port: gateway.port, from: Gateway.stranger)
            #expect(try client.command("EHLO helo.example.net").code == 250)
            #expect(try client.command("MAIL FROM:<sender@example.net>").code == 250)
            #expect(try client.command("RCPT TO:<nobody@example.com>").code == 550)
            let pattern =
                "reject: RCPT from .*; from=<sender@example.net> to=<nobody@example.com> .*helo=<helo.example.net>"
            #expect(eventually(within: 10) { gateway.postfix.log.contains("to=<nobody@example.com>") })
            #expect(eventually(within: 10) { gateway.postern.messages.contains("to=<nobody@example.com>") })
            for text in [gateway.postfix.log, gateway.postern.messages] {
                let file = try gateway.workspace.write(text, to: "log")
                let found = try gateway.workspace.run("/bin/grep", ["-c", pattern, file])
                #expect(found.output == "1\n", "\(text)")
            }
            let line = try #require(
                gateway.postern.messages.split(separator: "\n").first { $0.contains("reject: RCPT") })
            #expect(
                line.hasSuffix(
                    "NOQUEUE: reject: RCPT from unknown[127.0.0.2]: 550 5.1.1 <nobody@example.com>: Recipient address "
                        + "rejected: User unknown; from=<sender@example.net> to=<nobody@example.com> "
                        + "helo=<helo.example.net> reason=unknown mta=<gateway.example.test>")
                    || line.contains("NOQUEUE: reject: RCPT from localhost"), "\(line)")
        }
    }
}

extension FilterAlone {
    @Suite struct LogTests {
        @Test("postern log finds the newest entries by client, recipient, sender and queue ID, and hides local parts")
        func filters() throws {
            let filter = try LoneFilter()
            _ = try filter.answer("nobody@example.com", from: "192.0.2.7")
            _ = try filter.answer("someone@example.com", from: "192.0.2.8")
            _ = try filter.answer("stranger@example.info", from: "198.51.100.9")
            #expect(filter.postern.stop() == .exited(0))
            func recipients(_ arguments: String...) throws -> [String] {
                let result = try filter.configuration.run(["log"] + arguments)
                #expect(result.ending == .exited(0), "\(result.error)")
                return result.output.split(separator: "\n").compactMap { line in
                    line.firstMatch(of: /to=<([^>]*)>/).map { String($0.1) }
                }
                // Those of one millisecond may be in any order.
                .sorted()
            }
            let (nobody, someone, stranger) = ("nobody@example.com", "someone@example.com", "stranger@example.info")
            #expect(try recipients() == [nobody, someone, stranger])
            #expect(try recipients("--client", "192.0.2.7") == [nobody])
            #expect(try recipients("--client", "192.0.2.0/24") == [nobody, someone])
            #expect(try recipients("--client", "198.51.100.0/24") == [stranger])
            #expect(try recipients("--recipient", "<SOMEONE@example.com>") == [someone])
            #expect(try recipients("--recipient", "*@example.com") == [nobody, someone])
            #expect(try recipients("--recipient", "*@example.com", "--limit", "1").count == 1)
            #expect(try recipients("--sender", "sender@example.org") == [nobody, someone, stranger])
            #expect(try recipients("--session", "none") == [])
            #expect(
                try recipients("--limit", "3", "--redact") == ["*@example.com", "*@example.com", "*@example.info"])
            let faulty = try filter.configuration.run(["log", "--client", "192.0.2.7/24"])
            #expect(faulty.ending == .exited(64))
            #expect(!filter.postern.messages.contains("reject:"))
        }

        @Test("postern log --follow shows new entries, each as one line of JSON")
        func follow() throws {
            let filter = try LoneFilter()
            let output = filter.workspace.file("follow.out")
            let child = try ChildProcess(
                PosternProcess.executable,
                ["log", "--follow", "--format", "json", "--config", filter.workspace.file("postern.toml")],
                output: output, error: filter.workspace.file("follow.err"))
            // It begins with what comes after its own start.
            var asked = 0
            #expect(
                try eventually(within: 30) {
                    asked += 1
                    _ = try filter.answer("nobody\(asked)@example.com")
                    return !filter.workspace.text(of: "follow.out").isEmpty
                })
            child.signal(SIGTERM)
            _ = child.wait(atMost: 10)
            let line = try #require(filter.workspace.text(of: "follow.out").split(separator: "\n").first)
            let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            #expect(object["reason"] as? String == "unknown")
            #expect(object["client"] as? String == "192.0.2.7")
        }
    }
}
