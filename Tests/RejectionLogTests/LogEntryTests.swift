import Foundation
import TestSupport
import Testing

@testable import RejectionLog

@Suite struct LogEntryTests {
    private func logged(_ samples: [Sample]) throws -> [LogEntry] {
        let folder = try TemporaryFolder()
        let log = try RejectionLog(.init(path: folder.database))
        for sample in samples { sample.record(in: log) }
        log.close()
        return try allEntries(folder.database)
    }

    @Test func theLineIsTheDocumentedOne() throws {
        var bare = Sample(time: Sample.base + 61_005, outcome: .tempfailed, observed: true, reason: "no-index")
        bare.sender = []
        bare.client = .unknown
        bare.clientName = []
        bare.helo = []
        bare.session = []
        bare.mta = []
        bare.reply = []
        let entries = try logged([Sample(authenticated: true), bare])
        #expect(
            entries.map { $0.textLine() } == [
                "2026-11-23T00:00:00.000Z refused unknown to=<user@example.com> from=<sender@example.net> "
                    + "client=mail.example.net[192.0.2.1] helo=<helo.example.net> id=4AbC12 auth=yes "
                    + "mta=<mx.example.com> reply=\"550 5.1.1 User unknown\"",
                "2026-11-23T00:01:01.005Z observed:tempfailed no-index to=<user@example.com> from=<> "
                    + "client=unknown[unknown] helo=<> id=- reply=\"\"",
            ])
        #expect(
            entries.first?.jsonLine()
                == #"{"authenticated":true,"client":"192.0.2.1","client_name":"mail.example.net","domain":"example.com","#
                + #""helo":"helo.example.net","id":1,"mta":"mx.example.com","observed":false,"outcome":"refused","#
                + #""reason":"unknown","recipient":"user@example.com","reply":"550 5.1.1 User unknown","#
                + #""sender":"sender@example.net","session":"4AbC12","time":"2026-11-23T00:00:00.000Z"}"#)
    }

    @Test func hostileValuesAreShownHarmless() throws {
        for line in try cases("hostile.cases") {
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
            // Before the reply, which is last, no value can pretend to be another.
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

    @Test func anythingIsLoggedAndShownWithoutATrap() throws {
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
        let log = try RejectionLog(.init(path: folder.database, queueCapacity: 32 << 20))
        for sample in samples { sample.record(in: log) }
        log.close()
        let entries = try RejectionReader(path: folder.database).entries(after: 0)
        #expect(entries.count == samples.count)
        for entry in entries {
            #expect(!entry.textLine().contains("\n"))
            #expect(entry.jsonLine().hasPrefix("{\"auth"))
        }
        for width in [40, 80, 132] {
            let text = try wholeReport(folder.database).text(width: width, timeZone: .gmt)
            for line in text.split(separator: "\n") { #expect(SafeText.width(String(line)) <= width, "\(line)") }
        }
    }

    @Test func entriesComePageByPageInTheOrderOfTime() throws {
        let folder = try TemporaryFolder()
        let log = try RejectionLog(.init(path: folder.database))
        var random = SeededGenerator.announced("entries")
        let times = (0..<1_700).map { _ in Sample.base + Int64.random(in: 0...300, using: &random) }
        for (index, time) in times.enumerated() {
            Sample(
                time: time, reason: index % 2 == 0 ? "unknown" : "relay",
                domain: index % 5 == 0 ? "a.example" : "b.example"
            )
            .record(in: log)
        }
        log.close()
        let all = try allEntries(folder.database)
        #expect(all.map { Int64($0.time.timeIntervalSince1970 * 1000) } == times.sorted())
        #expect(Set(all.map(\.id)).count == times.count)
        let from = Date(timeIntervalSince1970: Double(Sample.base + 100) / 1000)
        let to = Date(timeIntervalSince1970: Double(Sample.base + 200) / 1000)
        let some = try allEntries(folder.database, .init(since: from, until: to, domain: "a.example", reason: "relay"))
        let expected = times.enumerated().filter {
            $0.offset % 2 == 1 && $0.offset % 5 == 0 && (Sample.base + 100..<Sample.base + 200).contains($0.element)
        }
        #expect(some.count == expected.count)
        #expect(!some.isEmpty)
        let reader = try RejectionReader(path: folder.database)
        #expect(try reader.lastEntryID() == 1_700)
        #expect(try reader.entries(after: 1_690).map(\.id) == Array(1_691...1_700))
        #expect(try reader.entries(after: 0, limit: 3).map(\.id) == [1, 2, 3])
    }
}
