import Foundation
import GRDB
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

    /// Random events over some days; few values, so that they come again.
    private func events(_ count: Int, days: Int64, _ random: inout SeededGenerator) -> [Sample] {
        let domains: [String?] = ["example.com", "example.org", nil]
        let reasons = ["unknown", "unknown", "unknown", "relay", "harvest", "mta", "disabled"]
        return (0..<count).map { _ in
            let domain = domains.randomElement(using: &random) ?? nil
            var sample = Sample(
                time: Sample.base + Int64.random(in: 0..<(days * Self.day), using: &random),
                outcome: Int.random(in: 0..<5, using: &random) == 0 ? .deferred : .rejected,
                observed: Int.random(in: 0..<6, using: &random) == 0,
                reason: reasons.randomElement(using: &random) ?? "unknown", domain: domain)
            if domain == nil { sample.domainName = Array("foreign.example".utf8) }
            let user = Int.random(in: 0..<40, using: &random)
            sample.recipient = Array("user\(user)@\(domain ?? "foreign.example")".utf8)
            sample.sender = Array("sender\(Int.random(in: 0..<30, using: &random))@example.net".utf8)
            let host = UInt32.random(in: 0..<6, using: &random)
            sample.client =
                Int.random(in: 0..<9, using: &random) == 0
                ? IPAddress(high: 0x2001_0db8_0000_0000, low: UInt64(host))
                : IPAddress(ipv4: 0xC000_0200 + host * 128)
            sample.helo = Array("helo\(host)".utf8)
            sample.mta = Array("mx\(host % 2)".utf8)
            return sample
        }
        .sorted { $0.time < $1.time }
    }

    /// What a report should say, counted one by one.
    private struct Recount {
        var refused = 0
        var byReason: [String: Int] = [:]
        var recipients: [String: Int] = [:]
        var senders: [String: Int] = [:]
        var clients: [String: Int] = [:]
        var networks: [String: Int] = [:]
        var helos: [String: Int] = [:]
        var hosts: [String: Int] = [:]

        init(_ events: [Sample], _ query: ReportQuery) {
            let (from, to) = (query.minutes.from * 60_000, query.minutes.to * 60_000)
            for event in events where event.time >= from && event.time < to {
                let domain = event.domain ?? "foreign.example"
                if let wanted = query.domain, wanted != domain { continue }
                if let wanted = query.reason, wanted != event.reason { continue }
                if let wanted = query.client, !wanted.contains(event.client) { continue }
                if event.outcome == .rejected, !event.observed { refused += 1 }
                byReason[event.reason, default: 0] += 1
                recipients[String(decoding: event.recipient, as: UTF8.self), default: 0] += 1
                senders[String(decoding: event.sender, as: UTF8.self), default: 0] += 1
                clients["\(event.client)", default: 0] += 1
                networks[event.client.clientNetwork.clientNetworkText, default: 0] += 1
                helos[String(decoding: event.helo, as: UTF8.self), default: 0] += 1
                hosts[String(decoding: event.mta, as: UTF8.self), default: 0] += 1
            }
        }
    }

    private func check(_ events: [Sample], _ query: ReportQuery, largeEdge: Int, _ comment: Comment) throws {
        var context = ReportContext()
        context.largeEdge = largeEdge
        let report = try RejectionReader(path: folder.database).report(query, context)
        let recount = Recount(events, query)
        #expect(report.totals.refused == recount.refused, comment)
        #expect(report.byReason == recount.byReason, comment)
        func same<Row>(_ rows: [Row], _ counts: [String: Int], _ pair: (Row) -> (String, Int)) {
            #expect(Dictionary(rows.map(pair)) { $0 + $1 } == counts, comment)
        }
        same(report.top.recipients, recount.recipients) { ($0.recipient, $0.count) }
        same(report.top.senders, recount.senders) { ($0.sender, $0.count) }
        same(report.top.clients, recount.clients) { ($0.client, $0.count) }
        same(report.top.networks, recount.networks) { ($0.network, $0.count) }
        same(report.top.helos, recount.helos) { ($0.helo, $0.count) }
        let steps = report.trend.steps
        #expect(
            steps.reduce(0) { $0 + $1.refused + $1.tempfailed + $1.observed } == recount.byReason.values.reduce(0, +),
            comment)
        #expect(zip(steps, steps.dropFirst()).allSatisfy { $0.start < $1.start })
        let table = try #require(report.table)
        if table.key == .host { same(table.rows, recount.hosts) { ($0.value, $0.count) } }
        #expect(table.rows.reduce(table.others) { $0 + $1.count } == recount.byReason.values.reduce(0, +), comment)
    }

    @Test func talliesAndRowsEqualARecount() throws {
        try Effort.forEachSeed { seed in
            var random = SeededGenerator(seed: seed)
            let events = events(3_000, days: 5, &random)
            let clock = TestClock(Sample.base)
            var options = RejectionLog.Options(path: folder.database)
            options.clocks = clock.clocks
            let log = RejectionLog(options)
            // Some are written and tallied day by day, some are still rows when the report is made.
            let parts = stride(from: 0, to: events.count, by: 500).map { events[$0..<min($0 + 500, events.count)] }
            for (number, part) in parts.enumerated() {
                for event in part { event.record(in: log) }
                clock.now = part.last?.time ?? clock.now
                if number == 4 { clock.now += Self.day }
                #expect(log.flush())
                if number < 5 { #expect(log.tally()) }
                for turn in 0..<6 {
                    let hours = [1, 5, 24, 48, 120].randomElement(using: &random) ?? 24
                    let since = Sample.base / 1000 + Int64.random(in: 0..<(5 * 86_400), using: &random)
                    let start = turn == 0 ? Sample.base / 1000 : since
                    let length = turn == 0 ? 10 * 86_400 : hours * 3_600
                    let query = ReportQuery(
                        since: Date(timeIntervalSince1970: Double(start)),
                        until: Date(timeIntervalSince1970: Double(start + Int64(length))), top: 1_000,
                        domain: turn % 3 == 1 ? ["example.com", "foreign.example"].randomElement(using: &random) : nil,
                        reason: turn % 3 == 2 ? ["unknown", "mta", "relay"].randomElement(using: &random) : nil,
                        client: turn == 5
                            ? IPNetwork(of: IPAddress(ipv4: 0xC000_0200), ipv4Prefix: 24, ipv6Prefix: 64) : nil,
                        key: RejectionReport.Table.Key.allCases.randomElement(using: &random),
                        timeZone: TimeZone(secondsFromGMT: [0, 3_600, -18_000].randomElement(using: &random) ?? 0)
                            ?? .gmt)
                    let known = parts[...number].flatMap { $0 }
                    try check(
                        known, query, largeEdge: turn % 2 == 0 ? 0 : 100_000, "seed \(seed), part \(number), \(query)")
                }
            }
            log.close()
            for suffix in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: folder.database + suffix) }
        }
    }

    private func rows(_ sql: String) throws -> Int {
        try DatabaseQueue(path: folder.database).read { try Int.fetchOne($0, sql: sql) ?? 0 }
    }

    @Test func aDayThatIsOverKeepsItsMostFrequentValuesAndTheSums() throws {
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
        // Without its rows the day is still told.
        try DatabaseQueue(path: folder.database).write { try $0.execute(sql: "DELETE FROM detail") }
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000)
        let report = try RejectionReader(path: folder.database).report(
            ReportQuery(since: since, until: since.addingTimeInterval(86_400), top: 5_000, key: .recipient))
        #expect(report.totals.refused == 3_020)
        #expect(report.top.recipients.prefix(10).map(\.count) == Array(repeating: 3, count: 10))
        #expect(report.table?.rows.count == 2_000)
        #expect(report.table?.others == 3_020 - 30 - 1_990)
        #expect(report.coverage.folded == 1_000)
        log.close()
    }

    @Test func aSenderToManyDomainsIsOne() throws {
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
        #expect(try wholeReport(folder.database).top.senders.map(\.count) == [200])
        #expect(try wholeReport(folder.database, reason: "relay").top.senders.map(\.count) == [200])
        log.close()
    }

    @Test func anOldDatabaseIsCaughtUpWith() throws {
        // What a Postern of schema 1 left: rows and counters, no tallies.
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
        let before = try wholeReport(folder.database, top: 200)
        #expect(before.totals.refused == 5_000)
        #expect(before.top.recipients.count == 100)
        #expect(again.tally())
        #expect(try rows("SELECT value FROM state WHERE name = 'tallied'") == 5_000)
        #expect(try wholeReport(folder.database, top: 200).top == before.top)
        again.close()
    }

    @Test func whatWasTalliedIsTalliedOnceAfterACrash() throws {
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
        #expect(try wholeReport(crashed).top.recipients.map(\.count) == [4_000])
    }

    @Test func aDatabaseThatIsTooLargeLosesItsOldestRowsThenItsOldestTallies() throws {
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
        // Two that are written at once may change places.
        #expect(left.map(\.id).max() == 10_000)
        let report = try wholeReport(folder.database)
        #expect(report.totals.refused == 10_000)
        #expect(report.top.recipients.map(\.count) == [10_000])
        #expect(report.coverage.detailsSince != nil)
        log.close()
    }

    @Test func detailRowsGoBeforeTheCounts() throws {
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
        let report = try wholeReport(folder.database)
        #expect(report.totals.refused == 50)
        #expect(report.top.senders.map(\.count) == [50])
        // A period that begins within a day whose rows are gone: the day is in it if most of it is.
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000 + 3_600)
        let cut = try RejectionReader(path: folder.database).report(
            ReportQuery(since: since, until: since.addingTimeInterval(10 * 86_400)))
        #expect(cut.totals.refused == 40)
        #expect(cut.coverage.wholeDays)
        log.close()
    }

    @Test func openDaysStaySmallInAFloodOfNames() throws {
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
        let report = try wholeReport(folder.database)
        #expect(report.totals.refused == 230_000)
        #expect(report.top.clients.first?.count == 230_000 - report.totals.thinned)
        log.close()
    }

    @Test func sketchesCountExactlyUpToTheirLimit() {
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
