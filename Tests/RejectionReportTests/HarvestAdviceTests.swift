import Foundation
import GRDB
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

/// The networks from which a recipient was accepted, and the advice of the report.
@Suite struct HarvestAdviceTests {
    private static let guesses: UInt32 = 40

    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func guess(from network: UInt32, _ log: RejectionLog) {
        for number in 0..<Self.guesses {
            var sample = Sample(client: IPAddress(ipv4: network + number))
            sample.recipient = Array("guess\(number)@example.com".utf8)
            sample.record(in: log)
        }
    }

    private func accept(from client: UInt32, day: Int64 = 0, _ log: RejectionLog) {
        Sample(
            time: Sample.base + day * 86_400_000, outcome: .accepted, reason: "listed", client: IPAddress(ipv4: client)
        ).record(in: log)
    }

    private func report() throws -> RejectionReport {
        let since = Date(timeIntervalSince1970: Double(Sample.base) / 1000)
        return try RejectionReader(path: folder.database).report(
            ReportQuery(
                LogSelection(since: since, until: since.addingTimeInterval(86_400)), timeZone: .gmt))
    }

    private func advice(_ report: RejectionReport) -> String {
        report.findings.first { $0.code == .harvest }?.action ?? "none"
    }

    @Test func theAdviceIsToBlockOnlyNetworksWithoutAcceptedRecipients() throws {
        let log = RejectionLog(.init(path: folder.database))
        guess(from: 0xC000_0200, log)
        guess(from: 0xC633_6400, log)
        guess(from: 0xCB00_7100, log)
        // The day before isn't in the period.
        accept(from: 0xC633_64FE, day: -1, log)
        #expect(log.flush())
        #expect(try report().cells("harvests", "accepted") == [.flag(false), .flag(false), .flag(false)])
        #expect(advice(try report()).contains("No recipient was accepted from these networks"))
        for _ in 0..<3 { accept(from: 0xC000_02FE, log) }
        accept(from: 0xC633_64FE, day: 1, log)
        #expect(log.flush())
        let mixed = try report()
        let accepted = zip(mixed.texts("harvests", "network"), mixed.cells("harvests", "accepted"))
            .map { "\($0) \($1 == .flag(true))" }.sorted()
        #expect(accepted == ["192.0.2.0/24 true", "198.51.100.0/24 true", "203.0.113.0/24 false"])
        #expect(advice(mixed).contains("No recipient was accepted from 1 of these networks"))
        accept(from: 0xCB00_7101, log)
        log.close()
        #expect(advice(try report()).contains("Don't block these networks"))
    }

    @Test func aLogOfAnOlderVersionDoesNotKnowWhichNetworksHadAcceptedRecipients() throws {
        let log = RejectionLog(.init(path: folder.database))
        guess(from: 0xC000_0200, log)
        log.close()
        try DatabaseQueue(path: folder.database).write { db in
            for table in ["unlisted_sender", "accepted_network"] { try db.execute(sql: "DROP TABLE \(table)") }
            try db.execute(sql: "DELETE FROM state WHERE name = 'accepted_since'")
            try db.execute(sql: "PRAGMA user_version = 2")
        }
        let again = RejectionLog(.init(path: folder.database))
        #expect(again.flush())
        #expect(try report().cells("harvests", "accepted") == [.none])
        #expect(advice(try report()).contains("Don't block these networks"))
        again.close()
    }
}
