import Foundation
import GRDB
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog

@Suite struct RejectionLogTests {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    @Test func `every outcome is counted, and all but accepted recipients have a detail row`() throws {
        let log = RejectionLog(.init(path: folder.database))
        Sample().record(in: log)
        Sample(outcome: .deferred, reason: "no-index").record(in: log)
        Sample(outcome: .accepted, reason: "listed").record(in: log)
        Sample(observed: true).record(in: log)
        Sample(reason: "mta").record(in: log)
        #expect(log.flush())
        let report = try wholeLog(folder.database)
        var expected = RecipientTotals()
        expected.refused = 2
        expected.tempfailed = 1
        expected.accepted = 1
        expected.observed = 1
        expected.mtaRefused = 1
        #expect(report.totals == expected)
        #expect(report.byReason == ["unknown": 2, "no-index": 1, "mta": 1])
        #expect(try wholeLog(folder.database, reason: "mta").byReason == ["mta": 1])
        let entries = try allEntries(folder.database)
        #expect(entries.map(\.reason) == ["unknown", "no-index", "unknown", "mta"])
        #expect(log.statistics.written == 4)
        log.close()
    }

    @Test func `totals and verdicts by minute equal the recorded recipients`() throws {
        let log = RejectionLog(.init(path: folder.database))
        for minute in 0..<3 {
            let time = Sample.base + Int64(minute) * 60_000
            Sample(time: time).record(in: log)
            Sample(time: time, outcome: .accepted, reason: "listed").record(in: log)
            Sample(time: time, observed: true).record(in: log)
            Sample(time: time, outcome: .deferred, reason: "no-index").record(in: log)
            Sample(time: time, reason: "mta").record(in: log)
            Sample(time: time, reason: "relay", domain: nil, domainName: Array("x\(minute).example".utf8)).record(
                in: log)
        }
        log.flush()
        let tallies = log.verdictTotals
        #expect(tallies.allSatisfy { $0.count == 3 })
        #expect(
            Set(tallies.map { "\($0.domain) \($0.reason) \($0.outcome) \($0.observed)" }) == [
                "example.com unknown rejected false", "example.com listed accepted false",
                "example.com unknown rejected true", "example.com no-index deferred false",
                "example.com mta rejected false", " relay rejected false",
            ])
        let reader = try RejectionReader(path: folder.database)
        var each = RejectionReader.Verdicts()
        (each.accepted, each.refused, each.tempfailed, each.observed) = (1, 2, 1, 1)
        let now = Date(timeIntervalSince1970: Double(Sample.base / 1000 + 150))
        #expect(try reader.verdictsByMinute(4, now: now) == [.init(), each, each, each])
        #expect(try reader.verdicts(since: now.addingTimeInterval(-60), until: now).refused == 4)
        #expect(try reader.verdicts(since: .distantPast, until: now).refused == 6)
        log.close()
    }

    @Test func `recipients over the detail rate are counted without a detail row`() throws {
        var options = RejectionLog.Options(path: folder.database)
        options.detailRate = 1
        options.detailBurst = 100
        let log = RejectionLog(options)
        // The writer checks the rate when it writes rows.
        for _ in 0..<101 { Sample().record(in: log) }
        log.flush()
        for _ in 0..<500 { Sample().record(in: log) }
        for _ in 0..<7 { Sample(outcome: .accepted, reason: "listed").record(in: log) }
        log.flush()
        let report = try wholeLog(folder.database)
        #expect(report.totals.refused == 601)
        #expect(report.totals.accepted == 7)
        #expect(report.totals.thinned > 0)
        #expect(try allEntries(folder.database).count + report.totals.thinned == 601)
        // Rows are kept again once half a second's allowance is saved.
        var isKept = false
        for _ in 0..<300 where !isKept {
            Thread.sleep(forTimeInterval: 0.1)
            let before = try allEntries(folder.database).count
            Sample().record(in: log)
            log.flush()
            isKept = try allEntries(folder.database).count > before
        }
        #expect(isKept)
        log.close()
    }

    @Test func `detail rows are passed on with a limit and without unwanted reasons`() throws {
        let received = Lines()
        var options = RejectionLog.Options(path: folder.database)
        options.received = { rows in
            let (entries, more) = rows.entries(limit: 2, without: ["mta"])
            for entry in entries { received.add("\(entry.reason) \(entry.domain) \(entry.recipient)") }
            received.add("and \(more), thinned \(rows.thinned)")
        }
        let log = RejectionLog(options)
        Sample(reason: "mta").record(in: log)
        Sample(time: Sample.base + 1, outcome: .accepted, reason: "listed").record(in: log)
        Sample(time: Sample.base + 2).record(in: log)
        Sample(time: Sample.base + 3, reason: "relay", domain: nil, domainName: Array("x.example".utf8)).record(in: log)
        Sample(time: Sample.base + 4).record(in: log)
        log.close()
        // The writer may have taken the first rows before the others were recorded.
        #expect(received.all.filter { $0.hasPrefix("unknown example.com user@") }.count >= 1)
        #expect(received.all.contains { $0.hasPrefix("and ") })
        #expect(!received.all.contains { $0.hasPrefix("mta") || $0.hasPrefix("listed") })
    }

    @Test func `an entry has the fields of the recorded event`() throws {
        let log = RejectionLog(.init(path: folder.database))
        var sample = Sample(time: Sample.base + 1_234, authenticated: true)
        sample.client = IPAddress(high: 0x2001_0db8_0000_0000, low: 1)
        sample.record(in: log)
        log.close()
        let entry = try #require(try allEntries(folder.database).first)
        #expect(
            entry
                == LogEntry(
                    id: 1, time: Date(timeIntervalSince1970: Double(Sample.base + 1_234) / 1000), outcome: .rejected,
                    observed: false, reason: "unknown", recipient: "user@example.com", domain: "example.com",
                    sender: "sender@example.net", client: "2001:db8::1", clientName: "mail.example.net",
                    helo: "helo.example.net", session: "4AbC12", authenticated: true, mta: "mx.example.com",
                    reply: "550 5.1.1 User unknown"))
    }

    @Test func `counts of a flood are exact while its detail rows are thinned out`() throws {
        var options = RejectionLog.Options(path: folder.database, queueCapacity: 64 << 10)
        options.interval = 5
        let log = RejectionLog(options)
        let threads = 8
        let each = 20_000
        onThreads(threads) { number in
            var samples = [
                Sample(reason: "unknown", domain: "example.com"), Sample(reason: "relay", domain: nil),
                Sample(outcome: .accepted, reason: "listed", domain: "example.org"),
                Sample(outcome: .deferred, reason: "stale-index", domain: "example.org"),
            ]
            samples[1].domainName = Array("foreign\(number).example".utf8)
            let slots = samples.map {
                (log.slot(forReason: $0.reason), $0.domain.map(log.slot(forDomain:)) ?? .foreign)
            }
            for index in 0..<each {
                let kind = index % 4
                samples[kind].time = Sample.base + Int64(index) * 20
                samples[kind].with(reason: slots[kind].0, domain: slots[kind].1) { log.record($0) }
            }
        }
        #expect(log.flush())
        let report = try wholeLog(folder.database)
        let quarter = threads * each / 4
        #expect(report.totals.refused == 2 * quarter)
        #expect(report.totals.accepted == quarter)
        #expect(report.totals.tempfailed == quarter)
        #expect(report.byReason == ["unknown": quarter, "relay": quarter, "stale-index": quarter])
        let rows = try allEntries(folder.database).count
        #expect(report.totals.thinned > 0)
        #expect(rows + report.totals.thinned == 3 * quarter)
        #expect(log.statistics.thinned == report.totals.thinned)
        #expect(log.statistics.written == rows)
        // The sums by domain agree, too, with those of foreign domains without a name.
        let queue = try DatabaseQueue(path: folder.database)
        let sums = try queue.read { db in
            try Int.fetchAll(
                db,
                sql: """
                    SELECT sum(count) FROM counter c JOIN reason r ON r.id = c.reason WHERE r.name = 'relay' GROUP BY unit
                    """)
        }
        #expect(sums == [quarter, quarter, quarter])
        let negative = try queue.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM counter WHERE count < 0") }
        #expect(negative == 0)
        log.close()
    }

    @Test func `counts are exact after another program locked the database`() throws {
        let lines = Lines()
        var options = RejectionLog.Options(path: folder.database, queueCapacity: 64 << 10) { lines.add($0) }
        options.interval = 5
        options.retryPause = 10...10
        options.busyTimeout = 0.05
        let log = RejectionLog(options)
        Sample().record(in: log)
        #expect(log.flush())

        var holding = Configuration()
        holding.allowsUnsafeTransactions = true
        let other = try DatabaseQueue(path: folder.database, configuration: holding)
        try other.inDatabase { try $0.execute(sql: "BEGIN IMMEDIATE") }
        for _ in 0..<1_000 { Sample().record(in: log) }
        #expect(!log.flush())
        #expect(log.statistics.failing)
        for _ in 0..<1_000 { Sample().record(in: log) }
        #expect(lines.all.count == 1)
        #expect(lines.all.first?.contains("another program keeps it locked") == true)

        try other.inDatabase { try $0.execute(sql: "ROLLBACK") }
        #expect(log.flush())
        #expect(!log.statistics.failing)
        #expect(lines.all.count == 2)
        #expect(lines.all.last?.contains("written again") == true)
        let report = try wholeLog(folder.database)
        #expect(report.totals.refused == 2_001)
        #expect(report.totals.thinned > 0)
        #expect(try allEntries(folder.database).count + report.totals.thinned == 2_001)
        log.close()
    }

    @Test func `counts go on after a restart`() throws {
        for round in 1...3 {
            let log = RejectionLog(.init(path: folder.database))
            // The reasons get different slots each time, and the same names.
            for reason in round == 2 ? ["relay", "unknown"] : ["unknown", "relay"] {
                Sample(reason: reason).record(in: log)
            }
            log.close()
            log.close()
            #expect(!log.flush())
            #expect(try wholeLog(folder.database).byReason == ["unknown": round, "relay": round])
        }
        #expect(try allEntries(folder.database).map(\.id) == [1, 2, 3, 4, 5, 6])
    }

    @Test func `flushed recipients survive a crash`() throws {
        let log = RejectionLog(.init(path: folder.database))
        for _ in 0..<100 { Sample().record(in: log) }
        #expect(log.flush())
        // A killed process leaves the files without a last checkpoint.
        let crashed = folder.path + "/crashed.sqlite"
        for suffix in ["", "-wal"] {
            try FileManager.default.copyItem(atPath: folder.database + suffix, toPath: crashed + suffix)
        }
        log.close()
        #expect(try wholeLog(crashed).totals.refused == 100)
        let again = RejectionLog(.init(path: crashed))
        Sample().record(in: again)
        again.close()
        #expect(try wholeLog(crashed).totals.refused == 101)
        #expect(try allEntries(crashed).count == 101)
    }

    @Test func `foreign domains are counted by name up to a limit, and exactly in sum`() throws {
        let log = RejectionLog(.init(path: folder.database))
        for index in 0..<1_500 {
            var sample = Sample(time: Sample.base + Int64(index), reason: "relay", domain: nil)
            sample.domainName = Array("d\(index).example".utf8)
            sample.record(in: log)
        }
        #expect(log.flush())
        let report = try wholeLog(folder.database, top: 2_000)
        #expect(report.byReason == ["relay": 1_500])
        #expect(report.top.domains.count == ForeignDomains.minuteLimit)
        // The same names in the next minute: known names are counted, and the limit begins anew.
        for index in 0..<1_500 {
            var sample = Sample(time: Sample.base + 60_000, reason: "relay", domain: nil)
            sample.domainName = Array("d\(1_499 - index).example".utf8)
            sample.record(in: log)
        }
        #expect(log.flush())
        let later = try wholeLog(folder.database, top: 2_000)
        #expect(later.byReason == ["relay": 3_000])
        #expect(later.top.domains.map(\.count).reduce(0, +) == 2_000)
        #expect(try wholeLog(folder.database, domain: "d1200.example").totals.refused == 1)
        log.close()
    }

    @Test func `pruning removes data older than the retention and shrinks the file`() throws {
        let clock = TestClock(Sample.base)
        var options = RejectionLog.Options(path: folder.database, retention: 7 * 86_400)
        options.clocks = clock.clocks
        let log = RejectionLog(options)
        for index in 0..<12_000 {
            var sample = Sample(time: Sample.base + Int64(index) * 10, domain: index % 2 == 0 ? nil : "example.com")
            sample.domainName = Array("d\(index % 50).example".utf8)
            sample.record(in: log)
            if index % 4_000 == 3_999 { #expect(log.flush()) }
        }
        // Eight days later, two more recipients within the retention.
        clock.now = Sample.base + 8 * 86_400_000
        Sample(time: Sample.base + 6 * 86_400_000).record(in: log)
        Sample(time: clock.now).record(in: log)
        #expect(log.flush())
        let queue = try DatabaseQueue(path: folder.database)
        func pages() throws -> Int { try queue.read { try Int.fetchOne($0, sql: "PRAGMA page_count") ?? 0 } }
        let before = try pages()
        #expect(try wholeLog(folder.database).totals.refused == 12_002)
        #expect(log.prune())
        #expect(try allEntries(folder.database).count == 2)
        #expect(try wholeLog(folder.database).totals.refused == 2)
        #expect(try pages() < before / 2)
        let names = try queue.read { try String.fetchAll($0, sql: "SELECT name FROM domain ORDER BY name") }
        #expect(names == ["", "example.com"])
        // Ids go on after all rows were pruned.
        clock.now += 30 * 86_400_000
        #expect(log.prune())
        #expect(try allEntries(folder.database).isEmpty)
        Sample(time: clock.now).record(in: log)
        log.close()
        #expect(try allEntries(folder.database).map(\.id) == [12_003])
    }

    @Test func `a reader follows the log while the filter writes`() throws {
        var options = RejectionLog.Options(path: folder.database)
        options.interval = 1
        let log = RejectionLog(options)
        #expect(log.flush())
        let reader = try RejectionReader(path: folder.database)
        let writing = NamedThread.start("writing") {
            for index in 0..<5_000 {
                Sample(time: Sample.base + Int64(index)).record(in: log)
                if index % 100 == 0 { log.flush() }
            }
            log.flush()
        }
        var followed: [Int64] = []
        var counted = 0
        repeat {
            let report = try reader.summary(LogSelection(since: allTime.since, until: allTime.until))
            #expect(report.totals.refused >= counted)
            // Counters and rows are written in one transaction.
            #expect(report.totals.refused - report.totals.thinned == report.top.recipients.first?.count ?? 0)
            counted = report.totals.refused
            followed += try reader.entries(after: followed.last ?? 0).map(\.id)
        } while !writing.waitForEnd(within: .zero)
        while case let more = try reader.entries(after: followed.last ?? 0), !more.isEmpty {
            followed += more.map(\.id)
        }
        #expect(followed == Array(1...5_000))
        log.close()
    }
}
