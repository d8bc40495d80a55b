import Foundation
import TestSupport
import Testing

@testable import Milter

/// The milter protocol over a socket; each test starts a filter.
@Suite struct ProtocolTests {
    let folder: TemporaryFolder
    let path: String
    let filter: FilterProcess

    init() throws {
        folder = try TemporaryFolder()
        path = folder.file("s")
        filter = try FilterProcess.serving("unix:\(path)")
    }

    @Test func `a current MTA is asked for no replies but to RCPT, and no message content`() throws {
        let connection = try MTAConnection(path: path)
        let (words, macros) = try connection.negotiate()
        #expect(words[0] == 6)
        #expect(words[1] == 0x100)
        #expect(words[2] == UInt32(MilterEngine.wantedSteps))
        // NR_CONN, NR_HELO, NR_MAIL; RCPT_REJ, NODATA, NOUNKNOWN; NOEOH, NOHDRS, NOBODY.
        #expect(words[2] == 0x7000 | 0x800 | 0x200 | 0x100 | 0x40 | 0x20 | 0x10)
        #expect(macros == [0: "j", 1: "", 2: "{auth_authen}", 3: "i {rcpt_mailer} {rcpt_host}"])
        connection.begin()
        // A reply to connect, HELO or MAIL would come first.
        #expect(try connection.recipient("<accept@test>").command == "c")
    }

    @Test(arguments: [
        (UInt32(2), UInt32(0x3f), UInt32(0x7f)), (2, 0, 0), (2, 0x0f, 0x3f), (3, 0x3f, 0x1ff), (4, 0x3f, 0x3ff),
        (6, 0x1ff, 0), (6, 0, 0x1f_ffff), (99, 0xffff_ffff, 0xffff_ffff),
    ])
    func `MTAs with an older milter protocol version or fewer options are answered`(
        _ version: UInt32, _ actions: UInt32, _ steps: UInt32
    ) throws {
        let connection = try MTAConnection(path: path)
        let (words, macros) = try connection.negotiate(version: version, actions: actions, steps: steps)
        #expect(words[0] == min(version, 6))
        #expect(words[1] & ~actions == 0)
        #expect(words[2] & ~(steps == 0 ? 0x3f : steps) == 0)
        #expect(macros.isEmpty == (actions & 0x100 == 0))
        let isAnswered = words[2] & 0x7000 == 0
        // libmilter answers the steps for which an older MTA waits.
        connection.write(MTAConnection.packet("C", MTAConnection.connectData("a.example", "4", 25, "192.0.2.9")))
        if isAnswered { #expect(connection.receive()?.command == "c") }
        connection.send("H", ["greeting"])
        if isAnswered { #expect(connection.receive()?.command == "c") }
        connection.send("M", ["<s@example.org>"])
        if isAnswered { #expect(connection.receive()?.command == "c") }
        #expect(try connection.recipient("<accept@test>").command == "c")
        #expect(
            try connection.recipient("<state@test>").text
                == "550 5.0.0 a.example|192.0.2.9|-|greeting|<s@example.org> -")
        // The message itself, which an older MTA sends all the same.
        if words[2] & 0x20 == 0 {
            connection.send("L", ["Subject", "test"])
            #expect(connection.receive()?.command == "c")
        }
        connection.send("E")
        #expect(connection.receive()?.command == "c")
        connection.send("M", ["<second@example.org>"])
        if isAnswered { #expect(connection.receive()?.command == "c") }
        #expect(try connection.recipient("<plain-reject@test>").command == "r")
    }

    @Test func `each kind of response reaches the MTA`() throws {
        let connection = try MTAConnection.started(path: path)
        func text(_ path: String) throws -> String {
            let answer = try connection.recipient(path)
            return "\(answer.command) \(answer.text)"
        }
        #expect(try text("<accept@test>") == "c ")
        #expect(try text("<reject@test>") == "y 550 5.1.1 <reject@test>")
        #expect(try text("<reject@50%off>") == "y 550 5.1.1 <reject@50%%off>")
        #expect(try text("<temporary@test>") == "y 451 4.3.0 try again, 100%% sure")
        #expect(try text("<plain-reject@test>") == "r ")
        #expect(try text("<plain-tempfail@test>") == "t ")
        #expect(try text("<control@test>") == "y 550 5.1.1 a??250 b?c")
        #expect(try text("<mismatch@test>") == "y 550 class")
        #expect(try text("<long@test>") == "y 550 5.1.1 " + String(repeating: "é", count: 490))
        #expect(try text("<discard@test>") == "d ")
        #expect(try text("<message@test>") == "a ")
        connection.begin()
        #expect(try text("<accept@test>") == "c ")
    }

    @Test func `the session receives the client, HELO, MAIL and macros`() throws {
        let connection = try MTAConnection(path: path)
        _ = try connection.negotiate()
        connection.sendMacros("M", ["{auth_authen}", "joe", "{auth_type}", "PLAIN"])
        connection.begin(
            hostname: "h.example", family: "6", address: "2001:DB8:0::1", helo: "greeting",
            sender: ["<s@example.org>", "SIZE=1000", "BODY=8BITMIME"])
        #expect(
            try connection.recipient("<state@test>").text
                == "550 5.0.0 h.example|2001:db8::1|mx.example|greeting|<s@example.org> SIZE=1000 BODY=8BITMIME -")
        connection.sendMacros("M", ["{auth_authen}", "joe"])
        connection.send("M", ["<t@example.org>"])
        #expect(try connection.recipient("<state@test>").text.hasSuffix("|<t@example.org> joe"))
    }

    @Test(arguments: [
        ("4", "::ffff:1.2.3.4", false), ("6", "::ffff:192.0.2.3", true), ("L", "/var/run/x", true), ("U", "", true),
        ("4", "999.1.1.1", false), ("6", "nonsense", false), ("?", "192.0.2.1", false),
    ])
    func `the session receives the client's address`(_ family: String, _ address: String, _ isTaken: Bool) throws {
        let connection = try MTAConnection(path: path)
        _ = try connection.negotiate()
        let data = MTAConnection.connectData("h", Character(family), 25, address)
        connection.write(MTAConnection.packet("C", family == "U" ? Array("h\0U".utf8) + [0] : data))
        connection.send("M", ["<s@t>"])
        let expected = ["6": "192.0.2.3", "L": "unix", "U": "-"]
        guard isTaken else {
            // libmilter ends a connection with an invalid address.
            connection.send("R", ["<state@test>"])
            #expect(connection.receive() == nil)
            return
        }
        #expect(try connection.recipient("<state@test>").text == "550 5.0.0 h|\(expected[family] ?? "")|-|-|<s@t> -")
    }

    @Test func `the session receives the macros of recipients that the MTA has rejected`() throws {
        let connection = try MTAConnection.started(path: path)
        connection.sendMacros("R", ["{rcpt_mailer}", "error", "{rcpt_host}", "5.7.1", "{rcpt_addr}", "denied"])
        #expect(try connection.recipient("<macros@test>").text == "550 5.0.0 -|error|5.7.1|-")
        connection.sendMacros("R", ["i", "4ABC", "{rcpt_mailer}", "smtp"])
        #expect(try connection.recipient("<macros@test>").text == "550 5.0.0 4ABC|smtp|-|-")
    }

    /// libmilter's own search runs past the end of such a list.
    @Test func `an odd number of macro strings is harmless`() throws {
        let connection = try MTAConnection.started(path: path)
        for count in 1..<60 {
            // Fills freed memory with bytes that aren't valid pointers.
            connection.sendMacros("R", (0..<(count * 7 % 61)).map { "AAAAAAAAAAAAAAA\($0)" })
            connection.sendMacros("R", ["{rcpt_mailer}", "error"] + (0..<(2 * count - 1)).map { "name\($0)" })
            #expect(try connection.recipient("<macros@test>").text == "550 5.0.0 -|error|-|-")
            connection.sendMacros("R", ["i"])
            #expect(try connection.recipient("<macros@test>").text == "550 5.0.0 -|-|-|-")
        }
        #expect(filter.isRunning)
    }

    @Test func `a session ends once, however its connection ends`() throws {
        let watcher = try MTAConnection.started(path: path)
        var expected = 1
        var aborts = 0
        for ending in [
            "quit", "quit in a message", "hang up", "hang up at once", "half a packet", "garbage", "too long",
        ] {
            let connection = try MTAConnection(path: path)
            if ending != "hang up at once" {
                _ = try connection.negotiate()
                connection.begin()
                #expect(try connection.recipient("<accept@test>").command == "c")
                expected += 1
                aborts += 1
            }
            switch ending {
            case "quit":
                connection.send("A")
                connection.send("Q")
                #expect(connection.receive() == nil)
            case "half a packet": connection.write([0, 0, 1, 0, 0x52, 0x3c])
            case "garbage": connection.write([0, 0, 0, 1, 0x7a])
            case "too long": connection.write([0x7f, 0xff, 0xff, 0xff, 0x52])
            case "quit in a message": connection.send("Q")
            default: break
            }
            connection.hangUp()
        }
        let end = try settled(watcher)
        #expect(end["open"] == 1)
        #expect(end["total"] == expected)
        #expect(end["closed"] == expected - 1)
        #expect(end["freed"] == expected - 1)
        #expect(end["aborts"] == aborts)
    }

    @Test func `the next client on the same connection gets a session of its own`() throws {
        let watcher = try MTAConnection.started(path: path)
        let connection = try MTAConnection.started(path: path)
        #expect(try connection.recipient("<accept@test>").command == "c")
        for round in 1...3 {
            connection.send("A")
            connection.send("K")
            connection.begin(hostname: "next\(round).example")
            #expect(
                try connection.recipient("<state@test>").text
                    == "550 5.0.0 next\(round).example|192.0.2.7|mx.example|client.example|<sender@example.org> -")
        }
        connection.send("Q")
        #expect(connection.receive() == nil)
        let end = try settled(watcher)
        #expect(end["open"] == 1)
        #expect(end["total"] == 5)
        #expect(end["freed"] == 4)
        #expect(end["closed"] == 4)
    }

    /// The counters once only the watcher's connection is open.
    private func settled(_ watcher: MTAConnection) throws -> [String: Int] {
        for _ in 0..<2_000 {
            let statistics = try watcher.statistics()
            if statistics["open"] == 1 && statistics["closed"] == statistics["freed"] { return statistics }
            usleep(5_000)
        }
        return try watcher.statistics()
    }

    @Test func `commands out of order are never accepted`() throws {
        // Without a negotiation or a connect, there is no session, and nothing is accepted.
        let connection = try MTAConnection(path: path)
        connection.send("M", ["<s@t>"])
        connection.send("R", ["<accept@test>"])
        let answer = connection.receive()
        #expect(answer?.command == "t")
        // A second connect is not a new client.
        let second = try MTAConnection.started(path: path)
        second.write(MTAConnection.packet("C", MTAConnection.connectData("evil.example", "4", 25, "127.0.0.1")))
        second.send("M", ["<s@t>"])
        #expect(try second.recipient("<state@test>").text.hasPrefix("550 5.0.0 client.example|192.0.2.7|"))
    }
}
