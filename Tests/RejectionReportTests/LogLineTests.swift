import Foundation
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

/// Log entries as lines of text, of a mail log, and of JSON.
@Suite struct LogLineTests {
    private func logged(_ samples: [Sample]) throws -> [LogEntry] {
        let folder = try TemporaryFolder()
        let log = RejectionLog(.init(path: folder.database))
        for sample in samples { sample.record(in: log) }
        log.close()
        return try allEntries(folder.database)
    }

    @Test func textAndJSONLinesHaveTheDocumentedForm() throws {
        var bare = Sample(time: Sample.base + 61_005, outcome: .deferred, observed: true, reason: "no-index")
        bare.sender = []
        bare.client = .unspecified
        bare.clientName = []
        bare.helo = []
        bare.session = []
        bare.mta = []
        bare.reply = []
        let entries = try logged([Sample(authenticated: true), bare])
        #expect(
            entries.map { $0.textLine() } == [
                "2026-11-23T00:00:00.000Z rejected unknown to=<user@example.com> from=<sender@example.net> "
                    + "client=mail.example.net[192.0.2.1] helo=<helo.example.net> id=4AbC12 auth=yes "
                    + "mta=<mx.example.com> reply=\"550 5.1.1 User unknown\"",
                "2026-11-23T00:01:01.005Z observed:deferred no-index to=<user@example.com> from=<> "
                    + "client=unknown[unknown] helo=<> id=- reply=\"\"",
            ])
        #expect(
            entries.first?.jsonLine()
                == #"{"authenticated":true,"client":"192.0.2.1","client_name":"mail.example.net","domain":"example.com","#
                + #""helo":"helo.example.net","id":1,"mta":"mx.example.com","observed":false,"outcome":"refused","#
                + #""reason":"unknown","recipient":"user@example.com","reply":"550 5.1.1 User unknown","#
                + #""sender":"sender@example.net","session":"4AbC12","time":"2026-11-23T00:00:00.000Z"}"#)
    }

    @Test func mailLogLinesHaveTheDocumentedForm() throws {
        var bare = Sample(outcome: .deferred, observed: true, reason: "no-index")
        bare.sender = []
        bare.client = .unspecified
        bare.clientName = []
        bare.helo = Array("a> to=<b\n[c]".utf8)
        bare.session = []
        bare.mta = []
        bare.reply = Array("451 4.3.0 <x\u{1b}[31m>: No\r\nInjected: yes".utf8)
        let entries = try logged([Sample(authenticated: true), bare])
        #expect(
            entries.map { $0.mailLogLine() } == [
                "4AbC12: reject: RCPT from mail.example.net[192.0.2.1]: 550 5.1.1 User unknown; from=<sender@example.net> "
                    + "to=<user@example.com> helo=<helo.example.net> reason=unknown auth=yes mta=<mx.example.com>",
                "NOQUEUE: reject_warning: RCPT from unknown[unknown]: 451 4.3.0 \\x3cx\\x1b[31m\\x3e: No\\x0d\\x0aInjected: yes; "
                    + "from=<> to=<user@example.com> helo=<a\\x3e\\x20to=\\x3cb\\x0a[c]> reason=no-index",
            ])
    }

    @Test func noValueCanForgeAFieldOfAMailLogLine() throws {
        let hostile = [
            #""x>; from=<spoof@a> to=<b> reason=listed"@example.com"#, #"a\x3e@example.com"#, "x>", ">", "<",
            "; from=<a>",
            "]: 250 2.1.5 Ok; from=<", "x[1.2.3.4]: 550 no; from=<a> to=<b> helo=<c> reason=unknown", "a: reject: b",
            "\\",
            "\\\\", "\\;", " ", "reason=listed", "> reason=listed auth=yes", "\r\n4AbC: reject: RCPT from a[b]:",
            "\u{202e}x",
            "\u{85}", "\u{a0}", "ü\u{301}>\u{301};\u{301}", "\"", "=", "user@example.com",
            "bounces+user=example.org@lists.example",
        ]
        var random = SeededGenerator.announced("mailLogLine")
        let pieces =
            hostile + ["<", ">", ";", " ", "=", "[", "]", ":", "\\", "x3e", "from=<", "to=<", "a", "\n", "\u{200b}"]
        func text() -> String {
            if Bool.random(using: &random) { return hostile.randomElement(using: &random) ?? "" }
            return (0..<Int.random(in: 0...6, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }
                .joined()
        }
        func some(_ text: String) -> String { text.isEmpty || ["unknown", "NOQUEUE"].contains(text) ? "x" : text }
        for turn in 0..<3_000 {
            let recipient = text()
            let reply =
                turn % 3 == 0
                ? "550 5.1.1 <\(recipient)>: Recipient address rejected: User unknown"
                : turn % 3 == 1 ? text() : "5 <\(text())>"
            let entry = LogEntry(
                id: 1, time: Date(), outcome: .rejected, observed: Bool.random(using: &random), reason: some(text()),
                recipient: recipient, domain: "", sender: text(), client: "2001:db8::1", clientName: some(text()),
                helo: text(), session: some(text()), authenticated: Bool.random(using: &random), mta: some(text()),
                reply: reply)
            let line = entry.mailLogLine()
            let fields = try #require(MailLogFields(line), "\(line)")
            #expect(fields.session == entry.session && fields.observed == entry.observed, "\(line)")
            #expect(fields.clientName == entry.clientName && fields.client == entry.client, "\(line)")
            #expect(fields.reply == entry.reply, "\(line)")
            #expect(fields.sender == entry.sender && fields.recipient == entry.recipient, "\(line)")
            #expect(fields.helo == entry.helo && fields.reason == entry.reason, "\(line)")
            #expect(fields.authenticated == entry.authenticated && fields.mta == entry.mta, "\(line)")
            #expect(line.unicodeScalars.allSatisfy { SafeText.isVisible($0) }, "\(line)")
            // A program that searches for the names of fields finds each of them once.
            for field in ["from", "to", "helo", "mta"] {
                #expect(line.components(separatedBy: " \(field)=<").count == 2, "\(field): \(line)")
            }
            #expect(line.components(separatedBy: " reason=").count == 2, "\(line)")
        }
    }

    @Test func aQuotedLocalPartCannotForgeAField() throws {
        var sample = Sample()
        sample.recipient = Array(#""x>; from=<spoof@a> to=<b> reason=listed"@example.com"#.utf8)
        sample.reply = Array("550 5.1.1 <".utf8) + sample.recipient + Array(">: User unknown".utf8)
        let address = #""x\x3e\x3b\x20from=\x3cspoof@a\x3e\x20to=\x3cb\x3e\x20reason=listed"@example.com"#
        #expect(
            try logged([sample]).first?.mailLogLine()
                == "4AbC12: reject: RCPT from mail.example.net[192.0.2.1]: 550 5.1.1 <\(address)>: User unknown; "
                + "from=<sender@example.net> to=<\(address)> helo=<helo.example.net> reason=unknown mta=<mx.example.com>"
        )
    }

    @Test func redactionHidesEveryLocalPartOfAnEntry() throws {
        var sample = Sample()
        sample.recipient = Array("\"john q. doe\"@example.com".utf8)
        sample.sender = Array("a@b@example.net".utf8)
        sample.reply = Array("550 5.1.1 <\"john q. doe\"@example.com>: unknown, ask help@example.com (or sales@x)".utf8)
        let entry = try #require(try logged([sample]).first).redacted()
        #expect(entry.recipient == "*@example.com")
        #expect(entry.sender == "*@example.net")
        #expect(entry.reply == "550 5.1.1 <*@example.com>: unknown, ask *@example.com (or *@x)")
    }

    @Test func hostileValuesAreEscapedInLines() throws {
        for line in try caseFields("hostile.cases") {
            var bytes: [UInt8] = []
            var rest = line[0][...]
            while let character = rest.popFirst() {
                if character == "%" {
                    bytes.append(try #require(UInt8(rest.prefix(2), radix: 16)))
                    rest = rest.dropFirst(2)
                } else {
                    bytes += Array(character.utf8)
                }
            }
            var sample = Sample()
            sample.recipient = bytes
            sample.helo = bytes
            sample.clientName = bytes
            sample.session = bytes
            sample.reply = bytes
            let entry = try #require(try logged([sample]).first)
            let text = entry.textLine()
            #expect(text.contains(" to=<\(line[1])> from="), "\(line): \(text)")
            for scalar in text.unicodeScalars {
                let category = scalar.properties.generalCategory
                #expect(category != .control && category != .format && category != .lineSeparator)
            }
            // Before the reply, which is last, each field's name occurs once.
            let fields = try #require(text.components(separatedBy: " reply=\"").first)
            for name in ["from=", "client=", "helo=", "id="] {
                #expect(fields.components(separatedBy: " \(name)").count == 2, "\(line): \(text)")
            }
            let json = entry.jsonLine()
            #expect(!json.contains("\n"))
            let decoded = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
            #expect(decoded["recipient"] as? String == entry.recipient)
        }
    }

    @Test func anyBytesCanBeLoggedAndShown() throws {
        var random = SeededGenerator.announced("LogEntry")
        func bytes() -> [UInt8] {
            (0..<Int.random(in: 0...700, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
        let samples = (0..<300).map { index in
            Sample(
                time: index % 10 == 0 ? Int64.random(in: Int64.min...Int64.max, using: &random) : Sample.base,
                domain: index % 3 == 0 ? "example.com" : nil, domainName: bytes(), recipient: bytes(), sender: bytes(),
                clientName: bytes(), helo: bytes(), session: bytes(), mta: bytes(), reply: bytes())
        }
        let folder = try TemporaryFolder()
        let log = RejectionLog(.init(path: folder.database, queueCapacity: 32 << 20))
        for sample in samples { sample.record(in: log) }
        log.close()
        let entries = try RejectionReader(path: folder.database).entries(after: 0)
        #expect(entries.count == samples.count)
        for entry in entries {
            #expect(!entry.textLine().contains("\n"))
            #expect(entry.mailLogLine().unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f })
            #expect(entry.jsonLine().hasPrefix("{\"auth"))
        }
        for width in [40, 80, 132] {
            let text = try wholeReport(folder.database).text(width: width, timeZone: .gmt)
            for line in text.split(separator: "\n") { #expect(SafeText.width(String(line)) <= width, "\(line)") }
        }
    }
}

/// The fields of a mail log line, read by the rules of its documentation.
private struct MailLogFields {
    var session = ""
    var observed = false
    var clientName = ""
    var client = ""
    var reply = ""
    var sender = ""
    var recipient = ""
    var helo = ""
    var reason = ""
    var authenticated = false
    var mta = ""

    init?(_ line: String) {
        var rest = Substring(line)
        func take(upTo end: String) -> String? {
            guard let place = rest.range(of: end, options: .literal) else { return nil }
            defer { rest = rest[place.upperBound...] }
            return Self.plain(rest[..<place.lowerBound])
        }
        guard let session = take(upTo: ": "), let kind = take(upTo: ": RCPT from "), let name = take(upTo: "["),
            let client = take(upTo: "]: "), let reply = take(upTo: "; from=<"), let sender = take(upTo: "> to=<"),
            let recipient = take(upTo: "> helo=<"), let helo = take(upTo: "> reason="),
            kind == "reject" || kind == "reject_warning"
        else { return nil }
        var words = rest.split(separator: " ", omittingEmptySubsequences: false)
        guard let reason = words.first.flatMap(Self.plain) else { return nil }
        words.removeFirst()
        if words.first == "auth=yes" {
            authenticated = true
            words.removeFirst()
        }
        if let word = words.first {
            guard words.count == 1, word.hasPrefix("mta=<"), word.hasSuffix(">"),
                let mta = Self.plain(word.dropFirst(5).dropLast())
            else { return nil }
            self.mta = mta
        }
        (self.session, observed, clientName, self.client) = (session, kind == "reject_warning", name, client)
        (self.reply, self.sender, self.recipient, self.helo, self.reason) = (reply, sender, recipient, helo, reason)
    }

    /// The text without its escapes; nil if an escape is incomplete.
    private static func plain(_ text: Substring) -> String? {
        var result = String.UnicodeScalarView()
        var rest = text.unicodeScalars
        while let scalar = rest.popFirst() {
            guard scalar == "\\" else {
                result.append(scalar)
                continue
            }
            let digits: String
            switch rest.popFirst() {
            case "\\":
                result.append("\\")
                continue
            case "x":
                digits = String(rest.prefix(2))
                rest = rest.dropFirst(2)
            case "u":
                guard rest.popFirst() == "{", let end = rest.firstIndex(of: "}") else { return nil }
                digits = String(rest[..<end])
                rest = rest[rest.index(after: end)...]
            default: return nil
            }
            guard let value = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(value) else { return nil }
            result.append(scalar)
        }
        return String(result)
    }
}
