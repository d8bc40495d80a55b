import Foundation
import Glibc
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

@Suite struct RejectionReportTests {
    let folder: TemporaryFolder

    /// A log with the events of `report.cases`.
    init() throws {
        folder = try TemporaryFolder()
        let log = RejectionLog(.init(path: folder.database))
        for line in try caseFields("report.cases") {
            var sample = Sample(
                time: Sample.base + (try #require(Int64(line[0]))) * 60_000,
                outcome: line[2].hasPrefix("accepted")
                    ? .accepted : line[2].hasPrefix("tempfailed") ? .deferred : .rejected,
                observed: line[2].hasSuffix("*"), reason: line[3], domain: line[4].hasPrefix("~") ? nil : line[4],
                domainName: Array(line[4].dropFirst().utf8))
            sample.recipient = Array(line[5].utf8)
            sample.sender = Array(line[6].utf8)
            sample.client = Self.address(line[7])
            sample.clientName = Array(line[8].replacingOccurrences(of: "%1b", with: "\u{1b}").utf8)
            sample.helo = Array(line[9].replacingOccurrences(of: "%1b", with: "\u{1b}").utf8)
            for _ in 0..<(try #require(Int(line[1]))) { sample.record(in: log) }
        }
        log.close()
    }

    private static func address(_ text: String) -> IPAddress {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 { return IPAddress(ipv4: UInt32(bigEndian: four.s_addr)) }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return .unspecified }
        return withUnsafeBytes(of: &six) { IPAddress(stored: $0) }
    }

    private func report(
        from: Int64 = 0, to: Int64 = 2_880, top: Int = 10, domain: String? = nil, reason: String? = nil,
        redact: Bool = false
    ) throws -> RejectionReport {
        var context = ReportContext()
        context.now = Date(timeIntervalSince1970: Double(Sample.base / 1000 + 2_880 * 60))
        return try RejectionReader(path: folder.database).report(
            ReportQuery(
                LogSelection(
                    since: Date(timeIntervalSince1970: Double(Sample.base / 1000 + from * 60)),
                    until: Date(timeIntervalSince1970: Double(Sample.base / 1000 + to * 60)), domain: domain,
                    reason: reason), top: top, redact: redact), context)
    }

    @Test func theFiguresEqualTheTableOfCases() throws {
        let report = try report()
        let totals = RecipientTotals(refused: 19, accepted: 706, tempfailed: 2, observed: 5, mtaRefused: 7)
        #expect(report.figures.totals == totals)
        #expect(
            report.figures.byReason == ["unknown": 10, "mta": 7, "relay": 5, "no-index": 2, "syntax": 1, "internal": 1])
        #expect(report.figures.refusals == totals.refused + totals.tempfailed + totals.observed)
        #expect(
            report["top.domains"]?.rows == [
                .init([.count(13), .text("example.com")]), .init([.count(7), .text("example.org")]),
                .init([.count(4), .text("foreign.example")]), .init([.count(1), .text("other.example")]),
            ])
        #expect(
            report.texts("top.recipients", "recipient").prefix(2) == ["early@example.com", "dave@example.org"])
        #expect(
            report["top.clients"]?.rows.first
                == .init([.count(12), .text("192.0.2.1"), .text("mail.bulk.example")]))
    }

    @Test func aReportHoldsItsPeriodDomainAndReasonOnly() throws {
        #expect(try report(from: 0, to: 1).figures.byReason == ["unknown": 3])
        #expect(try report(from: 1, to: 62).figures.byReason == ["unknown": 2, "relay": 4])
        #expect(try report(from: 1_440, to: 1_502).figures.byReason == ["syntax": 1, "no-index": 2])
        #expect(try report(from: 2, to: 61).figures.byReason.isEmpty)
        #expect(try report(from: 100, to: 50).figures.totals == RecipientTotals())
        let domain = try report(domain: "example.org")
        #expect(domain.figures.byReason == ["unknown": 5, "no-index": 2])
        #expect(domain.figures.totals.accepted == 6)
        #expect(domain.counts("top.recipients") == [5, 2])
        let reason = try report(reason: "relay")
        #expect(reason.figures.byReason == ["relay": 5])
        #expect(reason.texts("top.domains", "domain") == ["foreign.example", "other.example"])
        #expect(try report(domain: "nowhere.example").figures.byReason.isEmpty)
        #expect(try report(top: 1)["top.recipients"]?.rows.count == 1)
        #expect(try report(top: 0).sections.allSatisfy { $0.style != .ranking || $0.rows.isEmpty })
        // Seconds within a minute belong to it.
        let reader = try RejectionReader(path: folder.database)
        let since = Date(timeIntervalSince1970: Double(Sample.base / 1000) + 30)
        #expect(
            try reader.report(ReportQuery(LogSelection(since: since, until: since.addingTimeInterval(1)))).figures
                .byReason
                == ["unknown": 3])
    }

    @Test func localPartsAreHiddenOnRequest() throws {
        let report = try report(redact: true)
        #expect(
            report["top.recipients"]?.rows.prefix(2) == [
                .init([.count(13), .text("*@example.com")]), .init([.count(7), .text("*@example.org")]),
            ])
        #expect(report["top.senders"]?.rows.first == .init([.count(12), .text("*@bulk.example")]))
        let json = try report.json()
        for name in ["bob", "alice", "carol", "dave", "spam@", "carl"] { #expect(!json.contains(name)) }
    }

    @Test func theTextEqualsTheReferenceFile() throws {
        let text = try report().text(width: 80, timeZone: .gmt)
        let reference = try testFile("report.txt")
        #expect(text == reference)
    }

    @Test func noLineIsWiderThanTheTerminal() throws {
        for width in [40, 50, 80, 200] {
            let zone = try #require(TimeZone(identifier: "Asia/Kolkata"))
            let text = try report().text(width: width, timeZone: zone)
            #expect(text.contains("+05:30"))
            for line in text.split(separator: "\n") { #expect(SafeText.width(String(line)) <= width, "\(line)") }
        }
    }

    @Test func theJSONHasTheDocumentedKeys() throws {
        let report = try report()
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(try report.json().utf8)) as? [String: Any])
        #expect(
            Set(object.keys) == [
                "schema", "period", "cut", "totals", "by_reason", "trend", "top", "near_misses", "listed_now",
                "unlisted_senders", "harvests",
                "correspondents", "observed", "mta_replies", "coverage", "findings",
            ])
        #expect(
            object["period"] as? [String: String] == ["since": "2026-11-23T00:00:00Z", "until": "2026-11-25T00:00:00Z"])
        #expect(
            object["totals"] as? [String: Int] == [
                "refused": 19, "accepted": 706, "tempfailed": 2, "observed": 5, "mta_refused": 7, "thinned": 0,
            ])
        #expect((object["by_reason"] as? [String: Int])?["unknown"] == 10)
        let top = try #require(object["top"] as? [String: [[String: Any]]])
        #expect(Set(top.keys) == ["recipients", "domains", "clients", "networks", "senders", "helos"])
        for list in top.values { #expect(list.allSatisfy { $0["count"] is Int }) }
        #expect(top["clients"]?.first?["client"] as? String == "192.0.2.1")
        for step in try #require((object["trend"] as? [String: Any])?["steps"] as? [[String: Any]]) {
            #expect(Set(step.keys) == ["start", "refused", "tempfailed", "observed", "accepted"])
        }
        #expect(object["mta_replies"] as? [NSDictionary] == [["reply": "550 5.1.1 User unknown", "count": 7]])
        #expect(object["observed"] as? [String: Int] == ["unknown": 5])
    }

    @Test func theReportOnAQuietPeriodSaysThatNothingWasRejected() throws {
        let quiet = try report(from: 1_503, to: 1_504).text(timeZone: .gmt)
        #expect(
            quiet.hasPrefix(
                """
                Rejected recipients  2026-11-24 01:03 to 2026-11-24 01:04 UTC
                Nothing was rejected in this period; 6 recipients were accepted.

                Recipients                  now   share      before     change

                """))
        #expect(try report(from: 100, to: 200).text(timeZone: .gmt).contains("No recipient was asked for"))
    }

    @Test func thinnedEntriesAreReported() throws {
        var report = try report()
        report.figures.totals.thinned = 12_345
        #expect(report.text(timeZone: .gmt).contains("12,345 log entries were not kept during a flood"))
        #expect(try report.json().contains("\"thinned\" : 12345"))
    }
}
