import Foundation
import GRDB
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

/// Reading and writing a damaged database gives a result or an error.
@Suite struct DamagedLogTests {
    private static let day: Int64 = 86_400_000
    private static let tables = [
        "domain", "reason", "counter", "thinned", "detail", "state", "tally", "open_tally", "folded", "generation",
    ]

    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// A log of six days with something in every table and every section of a report, in one file.
    private func makeLog() throws -> String {
        let clock = TestClock(Sample.base)
        var options = RejectionLog.Options(path: folder.database)
        options.clocks = clock.clocks
        let log = RejectionLog(options)
        for day in 0..<6 {
            clock.now = Sample.base + Int64(day) * Self.day
            log.recordIndex(
                generation: UInt64(day), recipients: 100 + day, created: Timestamp.date(milliseconds: clock.now),
                time: Timestamp.date(milliseconds: clock.now))
            for index in 0..<60 {
                var sample = Sample(time: clock.now + Int64(index) * 60_000)
                sample.recipient = Array("user\(index % 25)@example.com".utf8)
                sample.client = IPAddress(ipv4: 0xC000_0200 + UInt32(index % 5))
                switch index % 6 {
                case 0:
                    (sample.reason, sample.domain, sample.domainName) = ("relay", nil, Array("f\(day).example".utf8))
                case 1: sample.reason = "mta"
                case 2: (sample.outcome, sample.reason) = (.accepted, "listed")
                case 3: sample.observed = true
                case 4: (sample.outcome, sample.reason) = (.deferred, "no-index")
                default: break
                }
                sample.record(in: log)
            }
            #expect(log.flush())
            if day < 5 { #expect(log.tally()) }
        }
        clock.now += Self.day
        Sample(time: clock.now).record(in: log)
        #expect(log.flush())
        log.close()
        let base = folder.file("base.sqlite")
        try DatabaseQueue(path: folder.database).inDatabase { db in
            try db.execute(sql: "INSERT INTO thinned VALUES (0, 29923200, 5), (1, 29923200, 5), (2, 29923200, 5)")
            try db.execute(sql: "INSERT INTO folded VALUES (0, 20780, 17)")
            try db.execute(sql: "INSERT INTO state VALUES ('details_from', \(Sample.base)), ('trusted_time', 1)")
            // A damaged file breaks the schema's rules, too.
            try db.execute(sql: "PRAGMA writable_schema = ON")
            try db.execute(sql: "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '')")
            try db.execute(sql: "PRAGMA writable_schema = RESET")
            try db.execute(sql: "VACUUM INTO '\(base)'")
        }
        return base
    }

    private func put(_ bytes: Data) throws -> String {
        let path = folder.file("damaged.sqlite")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        for name in names where name.hasPrefix("damaged.sqlite") {
            try FileManager.default.removeItem(atPath: folder.file(name))
        }
        try bytes.write(to: URL(fileURLWithPath: path))
        return path
    }

    // MARK: Use

    /// Reads everything in every form, then writes.
    ///
    /// - Returns: the number of steps that gave a result.
    private func use(
        _ path: String, keys: [ReportQuery.Key] = ReportQuery.Key.allCases,
        _ random: inout SeededGenerator
    ) -> Int {
        var results = 0
        func attempt(_ body: () throws -> Void) {
            do {
                try body()
                results += 1
            } catch let error as LogError {
                #expect(!error.reason.isEmpty && error.description.contains(path), "\(error)")
            } catch {
                Issue.record("\(error)")
            }
        }
        attempt {
            let reader = try RejectionReader(path: path)
            for key in keys { attempt { try report(reader, by: key, &random) } }
            attempt {
                let entries = try reader.entries(after: 0, limit: 50) + reader.newestEntries(20)
                for entry in entries {
                    #expect(!entry.redacted().textLine().isEmpty && !entry.visible().jsonLine().isEmpty)
                    #expect(!entry.mailLogLine().isEmpty)
                }
            }
            attempt { for entry in try reader.entries().prefix(30) { _ = try entry.get() } }
            let now = Timestamp.date(milliseconds: Sample.base + Self.day)
            attempt { _ = try reader.verdictsByMinute(60, now: now) }
            attempt { _ = try reader.verdicts(since: allTime.since, until: now) }
        }
        let clock = TestClock(Sample.base + 7 * Self.day)
        var options = RejectionLog.Options(path: path, retention: 3 * 86_400)
        options.clocks = clock.clocks
        options.maximumSize = 1 << 17
        let log = RejectionLog(options)
        Sample(time: clock.now).record(in: log)
        Sample(time: clock.now, reason: "relay", domain: nil, domainName: Array("f1.example".utf8)).record(in: log)
        let isStored = log.flush()
        #expect(isStored == (log.failure == nil))
        clock.now += 2 * Self.day
        if log.tally() { results += 1 }
        if log.prune() { results += 1 }
        Sample(time: clock.now).record(in: log)
        _ = log.flush()
        log.close()
        return results
    }

    private func report(
        _ reader: RejectionReader, by key: ReportQuery.Key, _ random: inout SeededGenerator
    ) throws {
        var context = ReportContext()
        context.isListed = { _ in false }
        context.relayDomains = ["example.com", "example.org"]
        context.lookups = 500
        context.sync = ReportContext.Sync()
        context.now = Timestamp.date(milliseconds: Sample.base + 7 * Self.day)
        context.subtractionThreshold = Bool.random(using: &random) ? 0 : 100_000
        // All days and hours since 1970 would only take long.
        let isWhole = key != .hour && key != .day && Bool.random(using: &random)
        let start = isWhole ? 0 : Sample.base + Int64.random(in: 0...Self.day, using: &random)
        let selection = LogSelection(
            since: Timestamp.date(milliseconds: start),
            until: Timestamp.date(milliseconds: Sample.base + Int64.random(in: 1...9, using: &random) * Self.day),
            domain: Int.random(in: 0..<5, using: &random) == 0 ? "example.com" : nil,
            reason: Int.random(in: 0..<5, using: &random) == 0 ? "unknown" : nil,
            client: Int.random(in: 0..<6, using: &random) == 0
                ? IPNetwork(of: IPAddress(ipv4: 0xC000_0200), ipv4Prefix: 24, ipv6Prefix: 64) : nil)
        let query = ReportQuery(
            selection, top: 7, key: key, foldVERP: Bool.random(using: &random), redact: Bool.random(using: &random),
            timeZone: .gmt)
        let report = try reader.report(query, context)
        let isRedacted = Bool.random(using: &random)
        let shown = isRedacted ? report.redacted : report
        let width = [40, 80, 200].randomElement(using: &random) ?? 80
        let text = shown.text(.init(width: width, isUnicode: Bool.random(using: &random)), timeZone: .gmt)
        #expect(!text.isEmpty && !shown.csv().isEmpty)
        do {
            #expect(try !shown.json().isEmpty)
            if key == .recipient || key == .hour {
                let mail = try ReportMail(from: "postern@example.com", to: ["root"], host: "mx.example.com")
                #expect(try !mail.message(shown, timeZone: .gmt).isEmpty)
            }
        } catch {
            Issue.record("\(error)")
        }
    }

    // MARK: Damage

    @Test func anUndamagedLogGivesAResultForEveryQuery() throws {
        var random = SeededGenerator(seed: 1)
        let path = try put(Data(contentsOf: URL(fileURLWithPath: makeLog())))
        #expect(use(path, &random) == ReportQuery.Key.allCases.count + 7)
    }

    @Test func impossibleValuesGiveAResultOrAnError() throws {
        let base = try Data(contentsOf: URL(fileURLWithPath: makeLog()))
        try Effort.forEachSeed { seed in
            var random = SeededGenerator(seed: seed)
            for _ in 0..<Effort.value("POSTERN_TEST_DAMAGES", usually: 15) {
                let path = try put(base)
                let queue = try DatabaseQueue(path: path)
                try queue.inDatabase { db in
                    for _ in 0..<Int.random(in: 1...4, using: &random) {
                        let table = Self.tables.randomElement(using: &random) ?? "counter"
                        let columns = try db.columns(in: table).map(\.name)
                        let column = columns.randomElement(using: &random) ?? "count"
                        let value = Self.values.randomElement(using: &random) ?? "0"
                        let some = Bool.random(using: &random) ? "" : " WHERE abs(random()) % 4 = 0"
                        let change = "UPDATE OR REPLACE \(table) SET \(column) = \(value)\(some)"
                        // A key that doesn't accept the value stays as it is.
                        try? db.execute(sql: change)
                    }
                }
                try queue.close()
                _ = use(path, keys: Self.some(&random), &random)
            }
        }
    }

    @Test func flippedBytesGiveAResultOrAnError() throws {
        let base = try Data(contentsOf: URL(fileURLWithPath: makeLog()))
        try Effort.forEachSeed { seed in
            var random = SeededGenerator(seed: seed)
            for round in 0..<Effort.value("POSTERN_TEST_DAMAGES", usually: 15) {
                var bytes = base
                let isBlock = round % 5 == 4
                for _ in 0..<(isBlock ? 1 : Int.random(in: 1...24, using: &random)) {
                    let place = Int.random(in: 0..<bytes.count, using: &random)
                    let length = isBlock ? Int.random(in: 1...8_192, using: &random) : 1
                    for index in place..<min(bytes.count, place + length) {
                        bytes[index] = UInt8.random(in: 0...255, using: &random)
                    }
                }
                if round % 9 == 8 { bytes = bytes.prefix(Int.random(in: 0..<bytes.count, using: &random)) }
                _ = use(try put(bytes), keys: Self.some(&random), &random)
            }
        }
    }

    private static func some(_ random: inout SeededGenerator) -> [ReportQuery.Key] {
        Array(ReportQuery.Key.allCases.shuffled(using: &random).prefix(3))
    }

    private static let values = [
        "-1", "0", "1", "-9223372036854775808", "9223372036854775807", "4611686018427387904", "-count", "255", "256",
        "1e300", "-1e300", "9e18", "NULL", "''", "'x'", "'9223372036854775808'", "x''", "x'ff'", "x'00'", "x'c328'",
        "zeroblob(5000)", "CAST(x'ff00fe' AS TEXT)", "random()", "abs(random()) % 100", "'2026-11-23'", "3.5",
        "hex(randomblob(3000))", "char(10)",
    ]
}
