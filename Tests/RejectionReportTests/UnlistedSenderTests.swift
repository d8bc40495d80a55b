import Foundation
import GRDB
import LogTestSupport
import Synchronization
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

/// Senders of relay domains that the index doesn't list, in the report.
@Suite struct UnlistedSenderTests {
    private static let day = Sample.base / 86_400_000

    let folder: TemporaryFolder
    let clock = TestClock(Sample.base)

    init() throws {
        folder = try TemporaryFolder()
    }

    private func log(_ adjust: (inout RejectionLog.Options) -> Void = { _ in }) -> RejectionLog {
        var options = RejectionLog.Options(path: folder.database)
        options.clocks = clock.clocks
        adjust(&options)
        return RejectionLog(options)
    }

    private func report(
        from day: Int, to end: Int, _ adjust: (inout ReportQuery, inout ReportContext) -> Void = { _, _ in }
    ) throws -> RejectionReport {
        func date(_ day: Int) -> Date { Date(timeIntervalSince1970: Double((Self.day + Int64(day)) * 86_400)) }
        var query = ReportQuery(LogSelection(since: date(day), until: date(end)), timeZone: .gmt)
        var context = ReportContext()
        adjust(&query, &context)
        return try RejectionReader(path: folder.database).report(query, context)
    }

    @Test func aQuietPeriodHasNoRejectionsAndNoProblems() throws {
        let log = log()
        Sample(outcome: .accepted, reason: "listed").record(in: log)
        recordUnlistedSender("joe@example.com", in: log)
        log.close()
        #expect(try report(from: 1, to: 2).isQuiet)
        #expect(try !report(from: 0, to: 1).isQuiet)
        #expect(try report(from: 0, to: 1) { _, context in context.isUnknown = { _ in false } }.isQuiet)
    }

    @Test func unlistedSendersAreTheFirstFinding() throws {
        let log = log()
        recordUnlistedSender("joe@example.com", in: log, times: 2)
        recordUnlistedSender("ann@example.com", in: log, day: 3)
        recordUnlistedSender("listed@example.com", in: log, day: 3)
        recordUnlistedSender("zoe@example.org", in: log, day: 3)
        Sample(outcome: .deferred, reason: "no-index").record(in: log)
        log.close()
        let isUnknown: @Sendable (UnsafeBufferPointer<UInt8>) -> Bool = { !$0.elementsEqual("listed@example.com".utf8) }
        let report = try report(from: 0, to: 1) { _, context in context.isUnknown = isUnknown }
        #expect(report.codes == ["unlisted-senders", "tempfailed"])
        #expect(
            report.findings.first?.text.hasPrefix(
                "3 addresses of yours send mail without being listed: answers to them are rejected")
                == true)
        #expect(
            report["unlisted_senders"]?.rows == [
                .init([.count(1), .text("ann@example.com"), .text("2026-11-26")]),
                .init([.count(1), .text("zoe@example.org"), .text("2026-11-26")]),
                .init([.count(2), .text("joe@example.com"), .text("2026-11-23")]),
            ])
        #expect(
            try self.report(from: 1, to: 2) { _, context in context.isUnknown = isUnknown }
                .counts("unlisted_senders").count == 2)
        let cut = try self.report(from: 0, to: 5) { query, _ in
            query.selection.domain = "example.org"
            query.redact = true
        }
        #expect(cut.texts("unlisted_senders", "address") == ["*@example.org"])
        #expect(
            cut.findings.first?.text
                == "1 address of yours sends mail without being listed: answers to it are rejected."
        )
        #expect(report.redacted.texts("unlisted_senders", "address").allSatisfy { $0.hasPrefix("*@") })
        #expect(
            try self.report(from: 0, to: 1) { query, _ in query.selection.reason = "relay" }
                .counts("unlisted_senders").isEmpty)
        #expect(try self.report(from: 6, to: 7).findings.isEmpty)
    }
}
