import Foundation
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

@Suite struct ReportAnalysisTests {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private static let day: Int64 = 86_400_000
    private static let listed: Set<String> = [
        "john.smith@example.com", "anna.mueller@example.com", "jdoe@example.com", "support@example.com",
        "max@example.com", "info2024@example.com", "maria.garcia@example.org",
    ]

    private func context(_ listed: Set<String> = Self.listed) -> ReportContext {
        var context = ReportContext()
        context.relayDomains = ["example.com", "example.org"]
        context.isListed = { listed.contains(String(decoding: $0, as: UTF8.self).lowercased()) }
        return context
    }

    private func report(
        _ context: ReportContext? = nil, days: Double = 7, top: Int = 50, redact: Bool = false, foldVERP: Bool = false
    ) throws -> RejectionReport {
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000)
        return try RejectionReader(path: folder.database).report(
            ReportQuery(
                LogSelection(since: since, until: since.addingTimeInterval(days * 86_400)), top: top,
                foldVERP: foldVERP, redact: redact, timeZone: .gmt), context ?? self.context())
    }

    private func record(_ samples: [Sample]) throws {
        let log = RejectionLog(.init(path: folder.database))
        for sample in samples { sample.record(in: log) }
        log.close()
    }

    private func sample(
        _ recipient: String, from sender: String = "joe@partner.example", day: Int64 = 0, minute: Int64 = 0,
        reason: String = "unknown", client: UInt32 = 0xC633_6401
    ) -> Sample {
        var sample = Sample(time: Sample.base + day * Self.day + minute * 60_000, reason: reason)
        if !recipient.lowercased().hasSuffix("@example.com") { (sample.domain, sample.domainName) = (nil, []) }
        sample.recipient = Array(recipient.utf8)
        sample.sender = Array(sender.utf8)
        sample.client = IPAddress(ipv4: client)
        return sample
    }

    @Test func nearMissesEqualTheTableOfCases() throws {
        let lines = try caseFields("nearmisses.cases")
        for line in lines {
            var search = NearMissSearch(
                budget: 1_000_000, relayDomains: ["example.com", "example.org"],
                isListed: { Self.listed.contains(String(decoding: $0, as: UTF8.self)) })
            let foreign = !line[0].lowercased().contains("@example.com")
            let hit = foreign ? search.domainSlip(line[0]) : search.oneSlip(line[0]) ?? search.twoSlips(line[0])
            // The filter itself looks up a recipient with a detail without it; this search doesn't.
            if line[2] == "-", line[0].contains("+") { continue }
            #expect(hit?.resembles ?? "-" == line[2], "\(line)")
            #expect(hit?.difference ?? "" == line[3], "\(line)")
            #expect(!search.isExhausted)
        }
    }

    @Test func nearMissesHaveCountsOfAttemptsAndSenders() throws {
        var samples = (0..<5).map { sample("jonh.smith@example.com", from: "a\($0)@partner.example", minute: $0) }
        samples += (0..<2).map { sample("jdoee@example.com", minute: $0) }
        samples += [sample("john.smith@exmaple.com", reason: "relay")]
        try record(samples)
        let report = try report()
        #expect(
            report.texts("near_misses", "recipient") == [
                "jonh.smith@example.com", "jdoee@example.com", "john.smith@exmaple.com",
            ])
        let first = Date(timeIntervalSince1970: Double(Sample.base) / 1000)
        #expect(
            report["near_misses"]?.rows.first
                == .init([
                    .count(5), .text("jonh.smith@example.com"), .text("john.smith@example.com"),
                    .text("2 letters swapped"), .estimate(5, false), .span(first, first.addingTimeInterval(240)),
                ]))
        #expect(report.codes.contains("near-misses"))
        #expect(try self.report(top: 1)["near_misses"]?.rows.count == 1)
        #expect(
            try self.report(top: 1).findings.first { $0.code == .nearMisses }?.text.contains("3 rejected") == true)
        let json = try self.report(redact: true).json()
        for name in ["jonh", "john", "jdoe", "joe", "a1@"] { #expect(!json.contains(name)) }
    }

    @Test func aSearchThatWasCutShortIsReported() throws {
        try record((0..<50).map { sample("somebody.else\($0)@example.com", client: 0xC633_6401 + UInt32($0) * 256) })
        var context = context()
        context.lookups = 5_000
        let bounded = try report(context)
        #expect(bounded.coverage.lookupsExhausted)
        context.lookups = 10_000_000
        #expect(try !report(context).coverage.lookupsExhausted)
        #expect(try report(ReportContext()).counts("near_misses").isEmpty)
    }

    @Test func guessesOfANetworkAreAHarvestAndNotNearMisses() throws {
        var samples = (0..<30).map {
            sample("guess\($0)@example.com", minute: $0, client: 0xC000_0200 + UInt32($0 % 3))
        }
        // A guess that is close to a listed recipient by accident.
        samples += [sample("suport@example.com", minute: 40, client: 0xC000_0201)]
        samples += (0..<7).map { sample("x\($0)@example.com", minute: 50, reason: "harvest", client: 0xC000_0202) }
        samples += [sample("jdoee@example.com", client: 0xC633_6401)]
        try record(samples)
        let report = try report()
        let first = Date(timeIntervalSince1970: Double(Sample.base) / 1000)
        #expect(
            report["harvests"]?.rows == [
                .init([
                    .count(38), .text("192.0.2.0/24"), .text("mail.example.net"), .estimate(31, false), .count(3),
                    .count(7), .flag(false), .span(first, first.addingTimeInterval(3_000)),
                ])
            ])
        #expect(report.texts("near_misses", "recipient") == ["jdoee@example.com"])
        #expect(report.codes.contains("harvest"))
    }

    @Test func recipientsThatAreListedNowShowHowLateTheIndexWas() throws {
        let log = RejectionLog(.init(path: folder.database))
        sample("new.hire@example.com", minute: 10).record(in: log)
        sample("new.hire@example.com", minute: 70).record(in: log)
        for (generation, minute) in [(1, 0), (2, 60), (3, 130), (3, 140), (4, 200)] {
            log.recordIndex(
                generation: UInt64(generation), recipients: 100 + generation, created: Date(timeIntervalSince1970: 0),
                time: Date(timeIntervalSince1970: Double(Sample.base / 1000 + Int64(minute) * 60)))
        }
        #expect(log.flush())
        log.close()
        var context = context(["new.hire@example.com"])
        context.sync = .init()
        let report = try report(context)
        #expect(report.counts("listed_now") == [2])
        #expect(
            report.cells("listed_now", "listed") == [
                .time(Date(timeIntervalSince1970: Double(Sample.base / 1000 + 130 * 60)))
            ])
        #expect(report.cells("listed_now", "late") == [.duration(120 * 60)])
        #expect(report.findings.first?.code == .lateSync)
        #expect(report.counts("near_misses").isEmpty)
        // The same index again, as at a restart, is no change.
        #expect(report.counts("sync.changes", "generation") == [1, 2, 3, 4])
        #expect(report.counts("sync.changes", "recipients").last == 104)
    }

    @Test func sendersWhoKeepWritingToAnUnknownRecipientAreReported() throws {
        var samples: [Sample] = []
        for day in 0..<4 {
            samples += [sample("left@example.com", from: "friend@partner.example", day: Int64(day))]
            samples += [sample("left@example.com", from: "bounces+x=y@lists.example", day: Int64(day))]
            samples += [sample("left@example.com", from: "", day: Int64(day))]
            samples += [sample("left@example.com", from: "newsletter@shop.example", day: Int64(day))]
            samples += (0..<20).map {
                sample("left@example.com", from: "spam@bulk.example", day: Int64(day), minute: Int64($0))
            }
            samples += (0..<5).map { sample("u\($0)@example.com", from: "list@many.example", day: Int64(day)) }
        }
        samples += [sample("left@example.com", from: "once@partner.example")]
        try record(samples)
        let report = try report()
        #expect(report.texts("correspondents", "sender") == ["friend@partner.example"])
        #expect(report.counts("correspondents", "days") == [4])
        #expect(report.counts("correspondents") == [4])
        #expect(report.codes.contains("correspondents"))
        #expect(try self.report(days: 1).counts("correspondents").isEmpty)
        #expect(try self.report(foldVERP: true).texts("top.senders", "sender").contains("bounces+*@lists.example"))
    }

    @Test func thePeriodBeforeIsReportedIfTheLogReachesBack() throws {
        try record(
            (0..<4).map { sample("a@example.com", day: 0, minute: Int64($0)) }
                + (0..<6).map { sample("b@example.com", day: 1, minute: Int64($0)) })
        let reader = try RejectionReader(path: folder.database)
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000 + 86_400)
        let second = try reader.report(
            ReportQuery(LogSelection(since: since, until: since.addingTimeInterval(86_400))))
        #expect(second.previous?.totals.refused == 4)
        #expect(second.previous?.byReason == ["unknown": 4])
        #expect(second.previous?.period.until == second.figures.period.since)
        #expect(try report(days: 1).previous == nil)
    }

    @Test(arguments: [
        (0.05, "minute", 72), (1, "hour", 24), (3, "hour", 72), (7, "day", 7), (92, "day", 92), (364, "week", 52),
    ])
    func theTrendHasNoGaps(days: Double, unit: String, steps: Int) throws {
        try record([sample("a@example.com"), sample("b@example.com", day: 360)])
        let trend = try report(days: days).trend
        #expect(trend.unit.rawValue == unit)
        #expect(trend.steps.count == steps)
        #expect(trend.steps.first?.verdicts.refused == 1)
    }

    @Test func aReportOnAnEmptyLogHasEmptySections() throws {
        try record([])
        let report = try report()
        #expect(report.findings.isEmpty)
        #expect(report.previous == nil)
        #expect(report.trend.steps.allSatisfy { $0.verdicts.refused == 0 })
        #expect(report["sync"] == nil && report.sections.allSatisfy(\.rows.isEmpty))
    }
}
