import Foundation
import LogTestSupport
import System
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

@Suite struct LogFuzzTests {
    /// A database of a few hundred rejections over some days.
    private func sample(_ folder: TemporaryFolder) throws -> [UInt8] {
        let log = RejectionLog(.init(path: folder.database))
        for number in 0..<300 {
            var sample = Sample()
            sample.time += Int64(number) * 1_000_000
            sample.recipient = Array("user\(number % 37)@example.com".utf8)
            sample.client = IPAddress(ipv4: 0xC000_0200 + UInt32(number % 50))
            sample.reason = ["unknown", "relay", "harvest", "mta"][number % 4]
            sample.record(in: log)
        }
        #expect(log.flush())
        log.recordIndex(generation: 3, recipients: 100, created: Date(timeIntervalSince1970: 1_795_392_000))
        log.close()
        return [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder.database)))
    }

    private func readAll(_ path: String) throws {
        let reader = try RejectionReader(path: path)
        _ = Result { try wholeReport(path).json() }
        _ = Result { try reader.entries().prefix(1_000).map { try $0.get() } }
        _ = Result { try reader.newestEntries(20) }
        _ = Result { try reader.lastEntryID() }
        _ = Result { try reader.verdicts(since: allTime.since, until: allTime.until) }
        _ = Result { try reader.verdictsByMinute(60, now: Date(timeIntervalSince1970: 1_795_400_000)) }
    }

    @Test func aLogOfAnyBytesGivesAReportOrAnError() throws {
        let folder = try TemporaryFolder()
        let sample = try sample(folder)
        let path = folder.database
        var read = 0
        try Effort.forEachInput("log", 150, samples: [sample], keepsLength: true) { input in
            for side in ["-wal", "-shm"] { try? FileManager.default.removeItem(atPath: path + side) }
            try Data(input).write(to: URL(fileURLWithPath: path))
            if (try? readAll(path)) != nil { read += 1 }
        }
        #expect(read > 20, "\(read)")
    }
}
