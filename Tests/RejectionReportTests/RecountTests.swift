import Foundation
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

/// Reports of random events, compared with a recount of the events.
@Suite struct RecountTests {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private static let day: Int64 = 86_400_000

    /// Random events over some days, with few values, so that each value occurs often.
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

    /// The figures of a report, counted event by event.
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
            let (from, to) = (query.selection.minutes.from * 60_000, query.selection.minutes.to * 60_000)
            for event in events where event.time >= from && event.time < to {
                let domain = event.domain ?? "foreign.example"
                if let wanted = query.selection.domain, wanted != domain { continue }
                if let wanted = query.selection.reason, wanted != event.reason { continue }
                if let wanted = query.selection.client, !wanted.contains(event.client) { continue }
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

    private func check(_ events: [Sample], _ query: ReportQuery, threshold: Int, comment: Comment) throws {
        var context = ReportContext()
        context.subtractionThreshold = threshold
        let report = try RejectionReader(path: folder.database).report(query, context)
        let recount = Recount(events, query)
        #expect(report.figures.totals.refused == recount.refused, comment)
        #expect(report.figures.byReason == recount.byReason, comment)
        #expect(report.countsByKey("top.recipients") == recount.recipients, comment)
        #expect(report.countsByKey("top.senders") == recount.senders, comment)
        #expect(report.countsByKey("top.clients") == recount.clients, comment)
        #expect(report.countsByKey("top.networks") == recount.networks, comment)
        #expect(report.countsByKey("top.helos") == recount.helos, comment)
        let steps = report.trend.steps
        #expect(
            steps.reduce(0) { $0 + $1.refusals } == recount.byReason.values.reduce(0, +),
            comment)
        #expect(zip(steps, steps.dropFirst()).allSatisfy { $0.start < $1.start })
        let table = try #require(report.table)
        guard case .table(let key, let others) = table.form else { throw TestFailure("\(table.form)") }
        #expect(key == query.key?.rawValue)
        if query.key == .host { #expect(report.countsByKey("table") == recount.hosts, comment) }
        #expect(table.bars.reduce(others, +) == recount.byReason.values.reduce(0, +), comment)
    }

    @Test func reportsEqualARecountOfTheEvents() throws {
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
                    let selection = LogSelection(
                        since: Date(timeIntervalSince1970: Double(start)),
                        until: Date(timeIntervalSince1970: Double(start + Int64(length))),
                        domain: turn % 3 == 1 ? ["example.com", "foreign.example"].randomElement(using: &random) : nil,
                        reason: turn % 3 == 2 ? ["unknown", "mta", "relay"].randomElement(using: &random) : nil,
                        client: turn == 5
                            ? IPNetwork(of: IPAddress(ipv4: 0xC000_0200), ipv4Prefix: 24, ipv6Prefix: 64) : nil)
                    let query = ReportQuery(
                        selection, top: 1_000,
                        key: ReportQuery.Key.allCases.randomElement(using: &random),
                        timeZone: TimeZone(secondsFromGMT: [0, 3_600, -18_000].randomElement(using: &random) ?? 0)
                            ?? .gmt)
                    let known = parts[...number].flatMap { $0 }
                    try check(
                        known, query, threshold: turn % 2 == 0 ? 0 : 100_000,
                        comment: "seed \(seed), part \(number), \(query)")
                }
            }
            log.close()
            for suffix in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: folder.database + suffix) }
        }
    }
}
