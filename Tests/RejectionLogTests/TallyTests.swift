import Foundation
import GRDB
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog

@Suite struct TallyTests {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private static let day: Int64 = 86_400_000

    private func rows(_ sql: String) throws -> Int {
        try DatabaseQueue(path: folder.database).read { try Int.fetchOne($0, sql: sql) ?? 0 }
    }

    @Test func `a closed day keeps its most frequent values and its sums`() throws {
        let clock = TestClock(Sample.base)
        var options = RejectionLog.Options(path: folder.database)
        options.clocks = clock.clocks
        let log = RejectionLog(options)
        for index in 0..<3_000 {
            for _ in 0..<(index < 10 ? 3 : 1) {
                var sample = Sample(time: Sample.base + Int64(index))
                sample.recipient = Array("user\(index)@example.com".utf8)
                sample.record(in: log)
            }
            if index % 500 == 499 { #expect(log.flush()) }
        }
        #expect(log.tally())
        #expect(try rows("SELECT count(DISTINCT value) FROM open_tally WHERE kind = 0") == 3_000)
        clock.now += Self.day + 3_600_000
        #expect(log.tally())
        #expect(try rows("SELECT count(*) FROM open_tally") == 0)
        #expect(try rows("SELECT count(DISTINCT value) FROM tally WHERE kind = 0") == TallyKind.recipient.kept)
        // A report has the day without its rows, too.
        try DatabaseQueue(path: folder.database).write { try $0.execute(sql: "DELETE FROM detail") }
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000)
        let report = try RejectionReader(path: folder.database).summary(
            LogSelection(since: since, until: since.addingTimeInterval(86_400)), top: 5_000)
        #expect(report.totals.refused == 3_020)
        #expect(report.top.recipients.prefix(10).map(\.count) == Array(repeating: 3, count: 10))
        #expect(report.top.recipients.count == 2_000)
        #expect(report.top.recipients.map(\.count).reduce(0, +) == 30 + 1_990)
        #expect(report.gaps.folded == 1_000)
        log.close()
    }

    @Test func `a sender that writes to many domains is tallied once`() throws {
        let clock = TestClock(Sample.base)
        var options = RejectionLog.Options(path: folder.database)
        options.clocks = clock.clocks
        let log = RejectionLog(options)
        for index in 0..<200 {
            var sample = Sample(time: Sample.base, reason: "relay", domain: nil)
            sample.domainName = Array("d\(index).example".utf8)
            sample.record(in: log)
        }
        #expect(log.flush())
        clock.now += 2 * Self.day
        #expect(log.tally())
        #expect(try rows("SELECT count(*) FROM tally WHERE kind = 1") == TallyKind.domainLimit + 1)
        #expect(try wholeLog(folder.database).top.senders.map(\.count) == [200])
        #expect(try wholeLog(folder.database, reason: "relay").top.senders.map(\.count) == [200])
        log.close()
    }

    @Test func `the rows of an older database are tallied`() throws {
        // A database of schema 1 has rows and counters, and no tallies.
        let log = RejectionLog(.init(path: folder.database))
        for index in 0..<5_000 {
            var sample = Sample(time: Sample.base + Int64(index) * 60_000)
            sample.recipient = Array("user\(index % 100)@example.com".utf8)
            sample.record(in: log)
            if index % 1_000 == 999 { #expect(log.flush()) }
        }
        log.close()
        try DatabaseQueue(path: folder.database).write { db in
            for table in ["tally", "open_tally", "folded", "generation", "unlisted_sender", "accepted_network"] {
                try db.execute(sql: "DROP TABLE \(table)")
            }
            try db.execute(sql: "DELETE FROM state WHERE name <> 'next_detail'")
            try db.execute(sql: "PRAGMA user_version = 1")
        }
        #expect(throws: LogError.self) { try RejectionReader(path: folder.database) }
        let again = RejectionLog(.init(path: folder.database))
        #expect(again.flush())
        let before = try wholeLog(folder.database, top: 200)
        #expect(before.totals.refused == 5_000)
        #expect(before.top.recipients.count == 100)
        #expect(again.tally())
        #expect(try rows("SELECT value FROM state WHERE name = 'tallied'") == 5_000)
        #expect(try wholeLog(folder.database, top: 200).top == before.top)
        again.close()
    }

    @Test func `no row is tallied twice after a crash`() throws {
        let log = RejectionLog(.init(path: folder.database))
        for _ in 0..<3_000 { Sample().record(in: log) }
        #expect(log.tally())
        for _ in 0..<1_000 { Sample().record(in: log) }
        #expect(log.flush())
        let crashed = folder.path + "/crashed.sqlite"
        for suffix in ["", "-wal"] {
            try FileManager.default.copyItem(atPath: folder.database + suffix, toPath: crashed + suffix)
        }
        log.close()
        let again = RejectionLog(.init(path: crashed))
        #expect(again.tally())
        again.close()
        #expect(try wholeLog(crashed).top.recipients.map(\.count) == [4_000])
    }

    @Test func `a database over the size limit loses its oldest rows and no counts`() throws {
        let clock = TestClock(Sample.base)
        var options = RejectionLog.Options(path: folder.database)
        options.clocks = clock.clocks
        options.maximumSize = 1 << 20
        let log = RejectionLog(options)
        for index in 0..<10_000 {
            var sample = Sample(time: Sample.base + Int64(index))
            sample.reply = Array(repeating: 0x78, count: 300)
            sample.record(in: log)
            if index % 1_000 == 999 { #expect(log.flush()) }
        }
        #expect(log.prune())
        let pages = try rows("PRAGMA page_count") * (try rows("PRAGMA page_size"))
        #expect(pages <= 1 << 20)
        let left = try allEntries(folder.database)
        #expect(left.count > 500 && left.count < 9_000)
        // Rows that are written together may change places.
        #expect(left.map(\.id).max() == 10_000)
        let report = try wholeLog(folder.database)
        #expect(report.totals.refused == 10_000)
        #expect(report.top.recipients.map(\.count) == [10_000])
        #expect(report.gaps.detailsSince != nil)
        log.close()
    }

    @Test func `detail rows are pruned before counts`() throws {
        let clock = TestClock(Sample.base)
        var options = RejectionLog.Options(path: folder.database, retention: 90 * 86_400)
        options.clocks = clock.clocks
        options.detailRetention = 2 * 86_400
        let log = RejectionLog(options)
        for day in 0..<5 {
            clock.now = Sample.base + Int64(day) * Self.day
            for _ in 0..<10 { Sample(time: clock.now).record(in: log) }
            #expect(log.flush())
        }
        #expect(log.prune())
        #expect(try allEntries(folder.database).count == 30)
        let report = try wholeLog(folder.database)
        #expect(report.totals.refused == 50)
        #expect(report.top.senders.map(\.count) == [50])
        // The period begins within a day whose rows were pruned: the day counts if most of it is in the period.
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000 + 3_600)
        let cut = try RejectionReader(path: folder.database).summary(
            LogSelection(since: since, until: since.addingTimeInterval(10 * 86_400)))
        #expect(cut.totals.refused == 40)
        #expect(cut.gaps.wholeDays)
        log.close()
    }

    @Test func `an open day keeps a limited number of values in a flood of recipients`() throws {
        let log = RejectionLog(.init(path: folder.database, queueCapacity: 64 << 20))
        for index in 0..<230_000 {
            var sample = Sample(time: Sample.base)
            sample.recipient = Array("\(index)@example.com".utf8)
            sample.sender = []
            sample.record(in: log)
            if index % 20_000 == 19_999 { #expect(log.flush()) }
        }
        #expect(log.tally())
        #expect(try rows("SELECT count(*) FROM open_tally WHERE kind = 0") <= TallyKind.openLimit + 60_000)
        let report = try wholeLog(folder.database)
        #expect(report.totals.refused == 230_000)
        #expect(report.top.clients.first?.count == 230_000 - report.totals.thinned)
        log.close()
    }

    @Test func `folded senders equal the table of cases`() throws {
        for line in try caseFields("senders.cases") {
            #expect(SenderAddress.folded(line[0]) == line[1], "\(line)")
            #expect(Array(line[0].utf8).withUnsafeBytes(SenderAddress.mayBePerson) == (line[2] == "yes"), "\(line)")
        }
    }

    @Test func `replies without addresses equal the table of cases`() throws {
        for line in try caseFields("replies.cases") {
            #expect(ReplyText.withoutAddresses(line[0]) == line[1], "\(line)")
        }
    }

    @Test func `a sketch counts exactly up to its limit`() {
        var left = DistinctSketch()
        var right = DistinctSketch()
        for number in 0..<60 {
            let hash = withUnsafeBytes(of: number) { ByteHash.short($0) }
            left.insert(hash, limit: 128)
            left.insert(hash, limit: 128)
            if number >= 30 { right.insert(hash, limit: 128) }
        }
        for number in 60..<100 { right.insert(withUnsafeBytes(of: number) { ByteHash.short($0) }, limit: 128) }
        #expect(left.count(limit: 128) == 60)
        left.merge(right, limit: 128)
        #expect(left.count(limit: 128) == 100)
        #expect(left.withStored(DistinctSketch.init(stored:)) == left)
        for number in 0..<100_000 { left.insert(withUnsafeBytes(of: number) { ByteHash.short($0) }, limit: 128) }
        #expect((60_000...150_000).contains(left.count(limit: 128)))
        #expect([UInt8](repeating: 7, count: 5).withUnsafeBytes(DistinctSketch.init(stored:)) == DistinctSketch())
    }
}
