import Foundation
import GRDB
import LogTestSupport
import TestSupport
import Testing

@testable import RejectionLog

/// The log while the wall clock jumps.
@Suite struct LogClockTests {
    private static let hour: Int64 = 3_600_000
    private static let day = 24 * hour

    let folder: TemporaryFolder
    let clock = TestClock(Sample.base)

    init() throws {
        folder = try TemporaryFolder()
    }

    private var options: RejectionLog.Options {
        var options = RejectionLog.Options(path: folder.database, retention: 7 * 86_400)
        options.clocks = clock.clocks
        return options
    }

    private func record(_ count: Int, in log: RejectionLog) {
        for _ in 0..<count { Sample(time: clock.now).record(in: log) }
    }

    private func rows(_ sql: String) throws -> Int {
        try DatabaseQueue(path: folder.database).read { try Int.fetchOne($0, sql: sql) ?? 0 }
    }

    @Test(arguments: [139 * day, -139 * day, 3_650 * day, -20_000 * day])
    func `a jump of the wall clock prunes nothing`(leap: Int64) throws {
        let log = RejectionLog(options)
        for _ in 0..<5 {
            record(20, in: log)
            #expect(log.tally())
            clock.now += Self.day
        }
        #expect(log.prune())
        // The wall clock jumps; twelve seconds later it is right again.
        clock.jump(leap)
        for _ in 0..<12 {
            record(1, in: log)
            #expect(log.tally() && log.prune())
            clock.now += 1_000
        }
        clock.jump(-leap)
        #expect(log.tally() && log.prune())
        record(20, in: log)
        #expect(log.flush())
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000)
        let query = LogSelection(since: since, until: since.addingTimeInterval(6 * 86_400))
        let reader = try RejectionReader(path: folder.database)
        let report = try reader.summary(query)
        #expect(report.totals.refused == 120)
        #expect(report.top.recipients.map(\.count) == [120])
        let days = (0..<6).map { Sample.base / 60_000 + $0 * 1_440 }
        let verdicts = try reader.withPeriod(query) {
            try $0.verdicts(inSteps: days, areWholeDays: true, areWholeHours: true)
        }
        #expect(verdicts.map(\.refused) == [20, 20, 20, 20, 20, 20])
        // Only rows that were recorded with a time in the distant past are pruned.
        #expect(report.gaps.detailsSince ?? since <= since && !report.gaps.wholeDays)
        let times = try allEntries(folder.database).filter { $0.time >= since && $0.time < query.until }
        #expect(times.count == 120)
        // Days of the wrong time aren't closed before they are over.
        #expect(try rows("SELECT max(value) FROM state WHERE name LIKE 'closed_%'") < Int(clock.now / Self.day))
        // Rows that are older than the retention are pruned.
        clock.now += 9 * Self.day
        #expect(log.prune())
        #expect(try RejectionReader(path: folder.database).summary(query).totals.refused == 0)
        log.close()
    }

    @Test func `the wall clock is trusted an hour after the start`() throws {
        let first = RejectionLog(options)
        record(10, in: first)
        #expect(first.flush())
        clock.now += 2 * Self.hour
        #expect(first.prune())
        first.close()
        // The clock is wrong at the start.
        clock.jump(139 * Self.day)
        let second = RejectionLog(options)
        #expect(second.prune())
        clock.now += 10_000
        clock.jump(-139 * Self.day)
        #expect(second.prune())
        second.close()
        #expect(try wholeLog(folder.database).totals.refused == 10)
        // The machine was off for a month: the rows are pruned once the clocks have agreed for an hour.
        clock.now += 30 * Self.day
        let third = RejectionLog(options)
        #expect(third.prune())
        clock.now += Self.hour / 2
        #expect(third.prune())
        #expect(try wholeLog(folder.database).totals.refused == 10)
        clock.now += Self.hour / 2
        #expect(third.prune())
        #expect(try wholeLog(folder.database).totals.refused == 0)
        third.close()
    }

    @Test func `a filter that restarts often prunes by the last trusted time`() throws {
        let first = RejectionLog(options)
        record(10, in: first)
        clock.now += 8 * Self.day
        #expect(first.flush())
        first.close()
        // No further run lasts an hour. The first run trusted the time and had not pruned yet.
        let second = RejectionLog(options)
        clock.now += Self.hour
        #expect(second.prune())
        second.close()
        #expect(try wholeLog(folder.database).totals.refused == 0)
        let start = clock.now
        let third = RejectionLog(options)
        record(5, in: third)
        #expect(third.flush())
        third.close()
        for _ in 0..<20 {
            clock.now += Self.day / 2
            let next = RejectionLog(options)
            #expect(next.prune())
            clock.now += Self.hour / 2
            #expect(next.prune())
            next.close()
        }
        // Twenty runs of half an hour add up to ten hours of trusted time.
        let known = try rows("SELECT value FROM state WHERE name = 'trusted_time'")
        #expect(known >= Int(start + 10 * Self.hour) && known < Int(start + Self.day))
        #expect(try wholeLog(folder.database).totals.refused == 5)
    }

    @Test func `rows with a future time do not make other rows count as pruned`() throws {
        var options = options
        options.maximumSize = 1 << 20
        let log = RejectionLog(options)
        clock.jump(139 * Self.day)
        record(10, in: log)
        clock.jump(-139 * Self.day)
        for index in 0..<4_000 {
            var sample = Sample(time: clock.now)
            sample.reply = Array(repeating: 0x78, count: 500)
            sample.record(in: log)
            if index % 500 == 499 { #expect(log.flush()) }
        }
        clock.now += 2 * Self.hour
        #expect(log.tally() && log.prune())
        #expect(try rows("SELECT value FROM state WHERE name = 'details_from'") <= Int(clock.now) + 1)
        log.close()
    }

    @Test func `the wall clock is trusted after it agrees with the steady clock for an hour`() {
        var time = TrustedTime()
        func observe(_ wall: Int64, _ steady: Int64) -> Int64? {
            time.observe(wall: wall, steady: steady)
            return time.now
        }
        #expect(observe(Sample.base, 0) == nil)
        #expect(observe(Sample.base + Self.hour - 1, Self.hour - 1) == nil)
        #expect(observe(Sample.base + Self.hour, Self.hour) == Sample.base + Self.hour)
        // The clock was slewed by a minute: the clocks still agree.
        #expect(observe(Sample.base + 2 * Self.hour + 60_000, 2 * Self.hour) == Sample.base + 2 * Self.hour + 60_000)
        // The clock jumps: the trusted time goes on by the steady clock.
        let last = Sample.base + 2 * Self.hour + 60_000
        #expect(observe(last + 139 * Self.day + 1_000, 2 * Self.hour + 1_000) == last + 1_000)
        #expect(observe(last + 12_000, 2 * Self.hour + 12_000) == last + 12_000)
        // The clock jumps back: the time isn't later than the wall clock's.
        #expect(observe(last - Self.day, 2 * Self.hour + 13_000) == last - Self.day)
        #expect(observe(last - Self.day + Self.hour, 3 * Self.hour + 13_000) == last - Self.day + Self.hour)
        // Times out of range don't trap.
        for absurd in [Int64.min, -1, 0, Int64.max] {
            _ = observe(absurd, Int64.max - 5)
            _ = observe(Sample.base, absurd)
        }
    }

    @Test func `a trusted time out of range in the database is ignored`() throws {
        RejectionLog(options).close()
        for value in [Int64.min, -1, Int64.max] {
            try DatabaseQueue(path: folder.database).write { db in
                try db.execute(sql: "INSERT OR REPLACE INTO state VALUES ('trusted_time', ?)", arguments: [value])
            }
            let log = RejectionLog(options)
            record(1, in: log)
            #expect(log.prune())
            log.close()
        }
        #expect(try wholeLog(folder.database).totals.refused == 3)
    }
}
