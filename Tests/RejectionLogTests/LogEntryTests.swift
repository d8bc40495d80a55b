import Foundation
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog

@Suite struct LogEntryTests {
    @Test func `entries are found by client, recipient, sender and session`() throws {
        let folder = try TemporaryFolder()
        let log = RejectionLog(.init(path: folder.database))
        func add(_ recipient: String, _ sender: String, _ client: IPAddress, _ session: String) {
            var sample = Sample(recipient: Array(recipient.utf8), sender: Array(sender.utf8))
            sample.client = client
            sample.session = Array(session.utf8)
            sample.record(in: log)
        }
        add("Anna@example.com", "news-1@lists.example", IPAddress(ipv4: 0xC000_0201), "A1")
        add("bob_1@example.com", "news-2@lists.example", IPAddress(ipv4: 0xC000_02FF), "A2")
        add("bobx1@example.com", "", IPAddress(ipv4: 0xC000_0300), "A3")
        add("carl@example.com", "x@example.net", IPAddress(high: 0x2001_0db8_0000_0000, low: 7), "A4")
        add("carl%@example.com", "x@example.net", .unspecified, "A5")
        log.close()
        let reader = try RejectionReader(path: folder.database)
        func sessions(_ adjust: (inout RejectionReader.EntryQuery) -> Void) throws -> [String] {
            var query = RejectionReader.EntryQuery()
            adjust(&query)
            return try reader.entries(query).map { try $0.get().session }.sorted()
        }
        #expect(
            try sessions { $0.client = try? IPNetwork("192.0.2.0/24") } == ["A1", "A2"])
        #expect(try sessions { $0.client = try? IPNetwork("0.0.0.0/0") } == ["A1", "A2", "A3"])
        #expect(try sessions { $0.client = try? IPNetwork("2001:db8::/64") } == ["A4"])
        #expect(try sessions { $0.recipient = "anna@EXAMPLE.com" } == ["A1"])
        #expect(try sessions { $0.recipient = "bob_1@example.com" } == ["A2"])
        #expect(try sessions { $0.recipient = "bob*@example.com" } == ["A2", "A3"])
        #expect(try sessions { $0.recipient = "carl%@example.com" } == ["A5"])
        #expect(try sessions { $0.sender = "news-*" } == ["A1", "A2"])
        #expect(try sessions { $0.sender = "" } == ["A3"])
        #expect(try sessions { $0.session = "A4" } == ["A4"])
        #expect(try sessions { $0.session = "a4" } == [])
        #expect(try reader.newestEntries(2).map(\.session) == ["A4", "A5"])
    }

    @Test func `entries are read page by page in the order of time`() throws {
        let folder = try TemporaryFolder()
        let log = RejectionLog(.init(path: folder.database))
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
