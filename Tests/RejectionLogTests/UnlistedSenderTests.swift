import Foundation
import GRDB
import LogTestSupport
import Synchronization
import TestSupport
import Testing

@testable import RejectionLog

/// Senders in relay domains that aren't in the index, in the log.
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

    private func stored() throws -> [UnlistedSender] {
        try RejectionReader(path: folder.database).unlistedSenders(since: .min)
    }

    @Test func `an unlisted sender is stored with its last day and its number of messages`() throws {
        let log = log()
        recordUnlistedSender("joe@example.com", in: log, times: 3)
        recordUnlistedSender("ann@example.com", in: log, day: 2)
        #expect(log.flush())
        recordUnlistedSender("joe@example.com", in: log, day: 1)
        recordUnlistedSender("joe@example.com", in: log, day: -1)
        #expect(log.flush())
        log.close()
        #expect(
            try stored() == [
                .init(address: "ann@example.com", lastDay: Self.day + 2, count: 1),
                .init(address: "joe@example.com", lastDay: Self.day + 1, count: 5),
            ])
    }

    @Test func `a log that is opened again passes on its unlisted senders`() throws {
        let first = log()
        recordUnlistedSender("joe@example.com", in: first)
        first.close()
        let found = Mutex<[UnlistedSender]>([])
        let again = log { $0.unlistedSenders = { senders in found.withLock { $0 = senders } } }
        #expect(again.waitForOpening(within: .seconds(60)))
        #expect(found.withLock { $0.map(\.address) } == ["joe@example.com"])
        #expect(again.waitForOpening(within: .zero))
        again.close()
    }

    @Test func `the ten thousand latest unlisted senders are kept`() throws {
        let log = log()
        for number in 0..<12_000 {
            recordUnlistedSender("u\(number)@example.com", in: log, day: Int64(number / 1_000))
            if number % 4_000 == 3_999 { #expect(log.flush()) }
        }
        log.close()
        let kept = try stored()
        #expect(kept.count == 10_000)
        #expect(kept.first?.lastDay == Self.day + 11 && kept.last?.lastDay == Self.day + 2)
    }

    @Test func `an unlisted sender is removed ninety days after its last message`() throws {
        let log = log()
        recordUnlistedSender("joe@example.com", in: log)
        recordUnlistedSender("ann@example.com", in: log, day: 5)
        #expect(log.flush())
        // The clock is trusted after the first day.
        for _ in 0..<91 {
            clock.now += 86_400_000
            #expect(log.flush())
        }
        #expect(log.prune())
        log.close()
        #expect(try stored().map(\.address) == ["ann@example.com"])
    }

    @Test func `the filter gets the present day only after the wall clock is trusted`() throws {
        let days = Mutex<[Int64]>([])
        let log = log { $0.day = { day in days.withLock { $0.append(day) } } }
        #expect(log.flush())
        #expect(days.withLock { $0 }.isEmpty)
        for _ in 0..<3 {
            clock.now += 3_600_000
            #expect(log.flush())
        }
        clock.jump(139 * 86_400_000)
        #expect(log.flush())
        #expect(Set(days.withLock { $0 }) == [Self.day])
        log.close()
    }

    @Test func `unlisted senders wait in memory while the log cannot be written`() throws {
        try FileManager.default.createDirectory(atPath: folder.database, withIntermediateDirectories: false)
        let log = log { $0.retryPause = 1...1 }
        recordUnlistedSender("joe@example.com", in: log)
        #expect(!log.flush())
        try FileManager.default.removeItem(atPath: folder.database)
        #expect(log.flush())
        log.close()
        #expect(try stored().map(\.address) == ["joe@example.com"])
    }
}
