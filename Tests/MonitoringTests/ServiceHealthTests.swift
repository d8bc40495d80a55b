import Foundation
import Synchronization
import System
import Testing

@testable import Monitoring

@Suite struct ServiceHealthTests {
    /// A clock that the test sets, and the announcements.
    private final class Setting: Sendable {
        let now = Mutex(Date(timeIntervalSince1970: 1_000))
        let announcements = Mutex<[String]>([])

        func health() -> ServiceHealth {
            ServiceHealth(clock: { self.now.withLock { $0 } }) { part, change in
                let line =
                    switch change {
                    case .failed(let failure): "\(part.rawValue) \(failure.reason)"
                    case .recovered(let seconds): "\(part.rawValue) again after \(seconds)"
                    }
                self.announcements.withLock { $0.append(line) }
            }
        }

        func wait(_ seconds: TimeInterval) { now.withLock { $0 += seconds } }

        func failure(_ reason: String, nextTry: TimeInterval? = nil) -> PartFailure {
            PartFailure(
                reason: reason, advice: "mend it", since: now.withLock { $0 },
                nextTry: nextTry.map { Date(timeIntervalSince1970: $0) })
        }
    }

    @Test func eachChangeIsAnnouncedOnce() {
        let setting = Setting()
        let health = setting.health()
        health.expect(.log)
        health.report(.log, nil)
        health.report(.log, nil)
        #expect(setting.announcements.withLock { $0 } == [])
        for _ in 0..<3 {
            setting.wait(1)
            health.report(.log, setting.failure("full"))
        }
        health.report(.log, setting.failure("gone"))
        setting.wait(7)
        health.report(.log, nil)
        health.report(.log, nil)
        #expect(setting.announcements.withLock { $0 } == ["log full", "log gone", "log again after 9"])
    }

    @Test func reportsHaveTheReasonTheRemedyAndTheTimeOfTheNextTry() {
        let setting = Setting()
        let health = setting.health()
        health.expect(.http)
        health.expect(.index)
        setting.wait(5)
        health.report(.http, setting.failure("port taken", nextTry: 1_020))
        setting.wait(5)
        health.report(.http, setting.failure("port taken", nextTry: 1_030))
        #expect(
            health.reports == [
                .init(part: .index, works: true, since: Date(timeIntervalSince1970: 1_000)),
                .init(
                    part: .http, works: false, since: Date(timeIntervalSince1970: 1_005), reason: "port taken",
                    advice: "mend it", nextTry: Date(timeIntervalSince1970: 1_030)),
            ])
        health.report(.http, nil)
        #expect(health.reports.last == .init(part: .http, works: true, since: Date(timeIntervalSince1970: 1_010)))
        health.forget(.http)
        #expect(health.reports.map(\.part) == [.index])
    }

    @Test func aFailureAtTheStartIsAnnouncedAndCountsFromItsBeginning() {
        let setting = Setting()
        let health = setting.health()
        let failure = setting.failure("damaged")
        setting.wait(60)
        health.report(.state, failure)
        #expect(setting.announcements.withLock { $0 } == ["state damaged"])
        #expect(health.reports.first?.since == Date(timeIntervalSince1970: 1_000))
    }
}
