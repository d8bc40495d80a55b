import Foundation
import GRDB
import System
import TestSupport
import Testing

@testable import RejectionLog

/// From which networks something was accepted, and what the report advises.
@Suite struct AcceptedNetworkTests {
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
            ReportQuery(since: since, until: since.addingTimeInterval(86_400), timeZone: .gmt))
    }

    private func advice(_ report: RejectionReport) -> String {
        report.findings.first { $0.code == "harvest" }?.action ?? "none"
    }

    @Test func onlyNetworksFromWhichNothingWasAcceptedMayBeBlocked() throws {
        let log = RejectionLog(.init(path: folder.database))
        guess(from: 0xC000_0200, log)
        guess(from: 0xC633_6400, log)
        guess(from: 0xCB00_7100, log)
        // The day before is none of the period's.
        accept(from: 0xC633_64FE, day: -1, log)
        #expect(log.flush())
        #expect(try report().harvests.map(\.accepted) == [false, false, false])
        #expect(advice(try report()).contains("Nothing was accepted from them"))
        for _ in 0..<3 { accept(from: 0xC000_02FE, log) }
        accept(from: 0xC633_64FE, day: 1, log)
        #expect(log.flush())
        let accepted = try report().harvests.map { "\($0.network) \($0.accepted == true)" }.sorted()
        #expect(accepted == ["192.0.2.0/24 true", "198.51.100.0/24 true", "203.0.113.0/24 false"])
        #expect(advice(try report()).contains("from which nothing was accepted (1)"))
        accept(from: 0xCB00_7101, log)
        log.close()
        #expect(advice(try report()).contains("Don't block them"))
    }

    @Test func aLogOfBeforeKnowsNothing() throws {
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
        #expect(try report().harvests.map(\.accepted) == [nil])
        #expect(advice(try report()).contains("Don't block them"))
        again.close()
    }

    @Test func aNetworkIsToldOnceADay() {
        let networks = AcceptedNetworks()
        for day in 1...2 as ClosedRange<Int64> {
            for _ in 0..<5 {
                for host in 0..<200 as Range<UInt32> { networks.insert(IPAddress(ipv4: 0xC000_0200 + host), day: day) }
            }
            #expect(networks.drain() == [IPAddress(ipv4: 0xC000_0200): day])
            networks.insert(IPAddress(ipv4: 0xC000_0201), day: day)
            networks.insert(.unspecified, day: day)
            #expect(networks.drain().isEmpty)
        }
        // More than there is room for wait, and come with a later recipient.
        var seen: Set<IPAddress> = []
        for _ in 0..<3 {
            for number in 0..<25_000 as Range<UInt32> { networks.insert(IPAddress(ipv4: number << 8), day: 3) }
            let taken = networks.drain()
            #expect(taken.count <= 10_000)
            seen.formUnion(taken.keys)
        }
        #expect(seen.count == 25_000)
    }
}
