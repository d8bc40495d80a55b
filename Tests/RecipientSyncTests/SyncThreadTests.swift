import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import Synchronization
import System
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct SyncThreadTests {
    private final class Events: Sendable {
        private let texts = Mutex<[String]>([])

        var all: [String] { texts.withLock { $0 } }

        func note(_ event: SyncEvent) {
            let text =
                switch event {
                case .synced(let report): "synced \(report.recipients)"
                case .failed(let error): "failed \(error.kind)"
                case .recovered(let report): "recovered \(report.recipients)"
                }
            texts.withLock { $0.append(text) }
        }
    }

    /// Waits for what will come; the limit is for a thread that hangs.
    private func wait(_ condition: () throws -> Bool) rethrows -> Bool {
        let limit = ContinuousClock.now + .seconds(60)
        while try !condition() {
            if ContinuousClock.now > limit { return false }
            usleep(20_000)
        }
        return true
    }

    @Test func aThreadPublishesAtItsStartAndAfterAChange() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let events = Events()
        let thread = SyncThread(try Synchronizer(folder.configuration()), onFileFailure: { _ in }) { events.note($0) }
        thread.start()
        thread.start()
        #expect(wait { events.all == ["synced 3"] })
        try folder.write("one.table", users(4))
        #expect(wait { events.all == ["synced 3", "synced 4"] })
        #expect(try folder.snapshot().lookup("u3@example.com") != nil)
        thread.stop()
        thread.stop()
        try folder.write("one.table", users(5))
        usleep(1_500_000)
        #expect(events.all == ["synced 3", "synced 4"])
    }

    @Test func aThreadReportsAFailureOnceAndItsEnd() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let events = Events()
        let thread = SyncThread(try Synchronizer(folder.configuration()), onFileFailure: { _ in }) { events.note($0) }
        thread.start()
        #expect(wait { events.all.count == 1 })
        try folder.write("one.table", users(3) + "broken\n")
        #expect(wait { events.all.count == 2 })
        unlink(folder("one.table"))
        #expect(wait { events.all.count == 3 })
        try folder.write("one.table", users(1))
        #expect(wait { events.all.count == 4 })
        try folder.write("one.table", users(3))
        #expect(wait { events.all.count == 5 })
        thread.stop()
        #expect(
            events.all == ["synced 3", "failed malformed", "failed unreachable", "failed guardRefused", "recovered 3"])
        #expect(try folder.snapshot().info.recipients == 3)
    }

    @Test func aThreadThatWasStoppedDoesntStart() throws {
        let folder = try TemporaryFolder()
        let thread = SyncThread(try Synchronizer(folder.configuration()), onFileFailure: { _ in }) { _ in }
        thread.stop()
        thread.start()
        usleep(100_000)
        #expect(!FileManager.default.fileExists(atPath: folder("state.sqlite")))
    }
}

/// A class, since `#expect` can't call mutating methods.
private final class Schedule {
    private var schedule: SyncSchedule

    init(interval: Duration) { schedule = SyncSchedule(interval: interval) }

    func isDue(_ stamps: [FileStamp?], now: ContinuousClock.Instant) -> Bool { schedule.due(stamps, now: now) != nil }

    func due(_ stamps: [FileStamp?], now: ContinuousClock.Instant) -> SyncSchedule.Due? {
        schedule.due(stamps, now: now)
    }

    func addNews(of place: Int) { schedule.addNews(of: place) }

    func listensForNews(at now: ContinuousClock.Instant) -> Bool { schedule.listensForNews(at: now) }

    func begin(_ stamps: [FileStamp?], _ due: SyncSchedule.Due = .all, now: ContinuousClock.Instant) {
        schedule.begin(due, stamps, now: now)
    }

    func end(
        _ result: Result<SyncReport, SyncError>, _ due: SyncSchedule.Due = .all, now: ContinuousClock.Instant
    ) {
        schedule.end(due, with: result, now: now)
    }
}

private final class FailureHistory {
    private var history = SyncFailureHistory()

    func events(after result: Result<SyncReport, SyncError>) -> [SyncEvent] { history.events(after: result) }
}

@Suite struct SyncScheduleTests {
    private let start = ContinuousClock.now
    private let success: Result<SyncReport, SyncError> = .success(SyncReport(started: Date()))

    private func stamp(_ size: Int64) -> FileStamp? {
        var status = stat()
        status.st_size = Int(size)
        return FileStamp(status)
    }

    private func at(_ seconds: Double) -> ContinuousClock.Instant { start + .milliseconds(Int(seconds * 1_000)) }

    @Test func allSourcesAreReadAtOnceThenAtTheInterval() {
        let schedule = Schedule(interval: .seconds(300))
        #expect(schedule.isDue([stamp(1)], now: at(0)))
        schedule.begin([stamp(1)], now: at(0))
        schedule.end(success, now: at(1))
        #expect(!schedule.isDue([stamp(1)], now: at(2)))
        // From beginning to beginning.
        #expect(!schedule.isDue([stamp(1)], now: at(299)))
        #expect(schedule.isDue([stamp(1)], now: at(300)))
        // A pause follows a sync that lasts long.
        schedule.begin([stamp(1)], now: at(300))
        schedule.end(success, now: at(590))
        #expect(!schedule.isDue([stamp(1)], now: at(664)))
        #expect(schedule.isDue([stamp(1)], now: at(665)))
    }

    @Test func aChangedFileIsReadOnceItStopsChanging() {
        let schedule = Schedule(interval: .seconds(300))
        _ = schedule.isDue([stamp(1)], now: at(0))
        schedule.begin([stamp(1)], now: at(0))
        schedule.end(success, now: at(0))
        #expect(!schedule.isDue([stamp(1)], now: at(10)))
        #expect(!schedule.isDue([stamp(2)], now: at(10.5)))
        #expect(schedule.isDue([stamp(2)], now: at(11)))
        schedule.begin([stamp(2)], now: at(11))
        // A file that changes all the time is read nevertheless.
        #expect(!schedule.isDue([stamp(3)], now: at(11.5)))
        #expect(!schedule.isDue([stamp(4)], now: at(12)))
        #expect(!schedule.isDue([stamp(5)], now: at(12.5)))
        #expect(schedule.isDue([stamp(6)], now: at(13)))
        // A file that is as before has not changed.
        schedule.begin([stamp(6)], now: at(13))
        #expect(!schedule.isDue([nil], now: at(14)))
        #expect(!schedule.isDue([stamp(6)], now: at(14.5)))
        #expect(!schedule.isDue([stamp(6)], now: at(20)))
    }

    @Test func onlySourcesWithChangesAreReadBetweenFullSyncs() {
        let schedule = Schedule(interval: .seconds(300))
        #expect(schedule.due([stamp(1), nil, nil], now: at(0)) == .all)
        schedule.begin([stamp(1), nil, nil], now: at(0))
        schedule.end(success, .all, now: at(0))
        #expect(schedule.due([stamp(1), nil, nil], now: at(1)) == nil)
        schedule.addNews(of: 2)
        #expect(schedule.due([stamp(1), nil, nil], now: at(1)) == .init(places: [2]))
        // A file that has changed too comes along once it holds still.
        #expect(schedule.due([stamp(2), nil, nil], now: at(1.5)) == .init(places: [2]))
        #expect(schedule.due([stamp(2), nil, nil], now: at(2)) == .init(places: [0, 2]))
        schedule.begin([stamp(2), nil, nil], .init(places: [0, 2]), now: at(2))
        // News are not listened to for a moment, and the time of everything stays.
        var report = SyncReport(started: Date())
        report.sources = ["a", "b", "c"].map { SourceState(name: $0, type: "file") }
        // Another source that still fails makes nothing due sooner.
        report.sources[1].failure = "gone"
        schedule.end(.success(report), .init(places: [0, 2]), now: at(2))
        #expect(!schedule.listensForNews(at: at(2.1)))
        #expect(schedule.listensForNews(at: at(2.2)))
        #expect(schedule.due([stamp(2), nil, nil], now: at(299)) == nil)
        #expect(schedule.due([stamp(2), nil, nil], now: at(300)) == .all)
        // A source that failed is tried again soon.
        schedule.begin([stamp(2), nil, nil], now: at(2))
        report.sources[2].failure = "gone too"
        schedule.end(.success(report), .init(places: [2]), now: at(2))
        #expect(schedule.due([stamp(2), nil, nil], now: at(6)) == nil)
        #expect(schedule.due([stamp(2), nil, nil], now: at(7)) == .all)
    }

    @Test func aFileThatStillChangesIsNotForgottenWhenOthersAreRead() {
        let schedule = Schedule(interval: .seconds(300))
        _ = schedule.due([stamp(1), nil], now: at(0))
        schedule.begin([stamp(1), nil], now: at(0))
        schedule.end(success, .all, now: at(0))
        schedule.addNews(of: 1)
        #expect(schedule.due([stamp(2), nil], now: at(1)) == .init(places: [1]))
        schedule.begin([stamp(2), nil], .init(places: [1]), now: at(1))
        var report = SyncReport(started: Date())
        report.sources = ["a", "b"].map { SourceState(name: $0, type: "file") }
        schedule.end(.success(report), .init(places: [1]), now: at(1))
        #expect(schedule.due([stamp(2), nil], now: at(1.5)) == .init(places: [0]))
    }

    @Test func leavingRecipientsAreRejectedInTime() {
        let schedule = Schedule(interval: .seconds(300))
        _ = schedule.due([stamp(1)], now: at(0))
        schedule.begin([stamp(1)], now: at(0))
        var report = SyncReport(started: Date())
        report.sources = [SourceState(name: "a", type: "file")]
        report.nextLeaves = 60
        schedule.end(.success(report), .all, now: at(0))
        #expect(schedule.due([stamp(1)], now: at(59)) == nil)
        #expect(schedule.due([stamp(1)], now: at(60)) == .init(places: []))
        schedule.begin([stamp(1)], .init(places: []), now: at(60))
        // What fails is tried again soon, though not at once.
        schedule.end(.failure(SyncError(.locked, "x")), .init(places: []), now: at(60))
        #expect(schedule.due([stamp(1)], now: at(60.5)) == nil)
        schedule.end(.success(SyncReport(started: Date())), .all, now: at(70))
        #expect(schedule.due([stamp(1)], now: at(200)) == nil)
    }

    @Test func pausesGrowAfterFailures() {
        let schedule = Schedule(interval: .seconds(60))
        var time = 0.0
        for pause in [5.0, 10, 20, 40, 60, 60] {
            schedule.begin([], now: at(time))
            schedule.end(.failure(SyncError(.unreachable, "x")), now: at(time))
            #expect(!schedule.isDue([], now: at(time + pause - 0.1)))
            #expect(schedule.isDue([], now: at(time + pause)))
            time += pause
        }
        schedule.end(success, now: at(time))
        schedule.end(.failure(SyncError(.unreachable, "x")), now: at(time))
        #expect(schedule.isDue([], now: at(time + 5)))
        schedule.end(.failure(SyncError(.guardRefused, "x")), now: at(time))
        #expect(!schedule.isDue([], now: at(time + 59)))
        schedule.end(.failure(SyncError(.locked, "x")), now: at(time))
        #expect(schedule.isDue([], now: at(time + 1)))
    }

    @Test func eachFailureIsReportedOnce() {
        let history = FailureHistory()
        let names = { (events: [SyncEvent]) in
            events.map { event in
                switch event {
                case .synced: "synced"
                case .failed(let error): "failed \(error)"
                case .recovered: "recovered"
                }
            }
        }
        var partial = SyncReport(started: Date())
        partial.sources = [SourceState(name: "one", type: "file")]
        partial.sources[0].failure = "gone"
        #expect(names(history.events(after: success)) == [])
        #expect(names(history.events(after: .failure(SyncError(.unreachable, "x")))) == ["failed x"])
        #expect(names(history.events(after: .failure(SyncError(.unreachable, "x")))) == [])
        #expect(names(history.events(after: .failure(SyncError(.unreachable, "y")))) == ["failed y"])
        #expect(names(history.events(after: .success(partial))) == ["failed gone"])
        #expect(names(history.events(after: .success(partial))) == [])
        partial.outcome = .published
        #expect(names(history.events(after: .success(partial))) == ["synced"])
        #expect(names(history.events(after: success)) == ["recovered"])
        #expect(names(history.events(after: success)) == [])
        for _ in 0..<9 { #expect(names(history.events(after: .failure(SyncError(.locked, "l")))) == []) }
        #expect(names(history.events(after: .failure(SyncError(.locked, "l")))) == ["failed l"])
    }
}
