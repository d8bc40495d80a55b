import Foundation
import Glibc
import System
import TestSupport
import Testing

@testable import RejectionLog

@Suite struct RejectionReportTests {
    let folder: TemporaryFolder

    /// A log with the events of `report.cases`.
    init() throws {
        folder = try TemporaryFolder()
        let log = RejectionLog(.init(path: folder.database))
        for line in try cases("report.cases") {
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
                since: Date(timeIntervalSince1970: Double(Sample.base / 1000 + from * 60)),
                until: Date(timeIntervalSince1970: Double(Sample.base / 1000 + to * 60)), top: top, domain: domain,
                reason: reason, redact: redact), context)
    }

    @Test func theFiguresAreThoseOfTheTable() throws {
        let report = try report()
        var totals = RejectionReport.Totals()
        totals.refused = 19
        totals.tempfailed = 2
        totals.observed = 5
        totals.accepted = 706
        totals.mtaRefused = 7
        #expect(report.totals == totals)
        #expect(report.byReason == ["unknown": 10, "mta": 7, "relay": 5, "no-index": 2, "syntax": 1, "internal": 1])
        #expect(report.byReason.values.reduce(0, +) == totals.refused + totals.tempfailed + totals.observed)
        #expect(
            report.top.domains == [
                .init(domain: "example.com", count: 13), .init(domain: "example.org", count: 7),
                .init(domain: "foreign.example", count: 4), .init(domain: "other.example", count: 1),
            ])
        #expect(report.top.recipients.prefix(2).map(\.recipient) == ["early@example.com", "dave@example.org"])
        #expect(
            report.top.clients.first == .init(client: "192.0.2.1", name: "mail.bulk.example", count: 12))
    }

    @Test func periodsAndCutsHoldTheirOwnOnly() throws {
        #expect(try report(from: 0, to: 1).byReason == ["unknown": 3])
        #expect(try report(from: 1, to: 62).byReason == ["unknown": 2, "relay": 4])
        #expect(try report(from: 1_440, to: 1_502).byReason == ["syntax": 1, "no-index": 2])
        #expect(try report(from: 2, to: 61).byReason.isEmpty)
        #expect(try report(from: 100, to: 50).totals == RejectionReport.Totals())
        let domain = try report(domain: "example.org")
        #expect(domain.byReason == ["unknown": 5, "no-index": 2])
        #expect(domain.totals.accepted == 6)
        #expect(domain.top.recipients.map(\.count) == [5, 2])
        let reason = try report(reason: "relay")
        #expect(reason.byReason == ["relay": 5])
        #expect(reason.top.domains.map(\.domain) == ["foreign.example", "other.example"])
        #expect(try report(domain: "nowhere.example").byReason.isEmpty)
        #expect(try report(top: 1).top.recipients.count == 1)
        #expect(try report(top: 0).top == RejectionReport.Top())
        // Seconds within a minute belong to it.
        let reader = try RejectionReader(path: folder.database)
        let since = Date(timeIntervalSince1970: Double(Sample.base / 1000) + 30)
        #expect(
            try reader.report(ReportQuery(since: since, until: since.addingTimeInterval(1))).byReason == ["unknown": 3])
    }

    @Test func localPartsAreHiddenOnRequest() throws {
        let report = try report(redact: true)
        #expect(
            report.top.recipients.prefix(2) == [
                .init(recipient: "*@example.com", count: 13), .init(recipient: "*@example.org", count: 7),
            ])
        #expect(report.top.senders.first == .init(sender: "*@bulk.example", count: 12))
        let json = try report.json()
        for name in ["bob", "alice", "carol", "dave", "spam@", "carl"] { #expect(!json.contains(name)) }
    }

    @Test func theTextIsTheReference() throws {
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

    @Test func theJSONHoldsTheDocumentedKeys() throws {
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
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        #expect(try decoder.decode(RejectionReport.self, from: Data(try report.json().utf8)) == report)
    }

    @Test func aQuietPeriodSaysSo() throws {
        let quiet = try report(from: 1_503, to: 1_504).text(timeZone: .gmt)
        #expect(
            quiet.hasPrefix(
                """
                Refused recipients  2026-11-24 01:03 to 2026-11-24 01:04 UTC
                Nothing was refused in this period; 6 recipients were accepted.

                Recipients                  now   share      before     change

                """))
        #expect(try report(from: 100, to: 200).text(timeZone: .gmt).contains("nothing was asked for"))
    }

    @Test func thinnedRowsAreSaid() throws {
        var report = try report()
        report.totals.thinned = 12_345
        #expect(report.text(timeZone: .gmt).contains("12,345 rows of the log found no room in a flood"))
        #expect(try report.json().contains("\"thinned\" : 12345"))
    }
}
