import Foundation
import RecipientSources
import System

/// When the sync thread syncs next, and what.
struct SyncSchedule {
    /// What is to be read.
    struct Due: Equatable {
        /// By place; nil for everything.
        var places: Set<Int>?

        static let all = Due(places: nil)

        var isAll: Bool { places == nil }
    }

    private let interval: Duration
    /// When the next sync of everything is due though nothing has changed; at once at the start.
    private var next: ContinuousClock.Instant?
    /// When the last sync began.
    private var began: ContinuousClock.Instant?
    /// The files as the last sync found them, and as they were last looked at.
    private var synced: [FileStamp?] = []
    private var seen: [FileStamp?] = []
    /// Since when the files differ from what was synced.
    private var changedSince: ContinuousClock.Instant?
    private var failuresInRow = 0
    /// The sources that have told of changes.
    private var news: Set<Int> = []
    /// When news are listened to again: a directory in which something always changes must not keep the thread busy.
    private var newsFrom: ContinuousClock.Instant?
    /// When the next recipient that is leaving is to be rejected; nil while none is.
    private var leaves: ContinuousClock.Instant?
    /// Whether the files that a sync writes can't be used: what changes in the sources doesn't mend them.
    private var isHeld = false

    init(interval: Duration) {
        self.interval = max(interval, .seconds(1))
    }

    /// What to sync now; nil for nothing: everything when the time has come; else the files that have changed and hold still (or won't
    /// within two seconds), and the sources that have news. Without any, recipients that are leaving may be to be rejected.
    mutating func due(_ stamps: [FileStamp?], now: ContinuousClock.Instant) -> Due? {
        defer { seen = stamps }
        guard let next, now < next else { return .all }
        guard !isHeld else { return nil }
        var places = news
        if stamps != synced {
            let since = changedSince ?? now
            changedSince = since
            if stamps == seen || now - since >= .milliseconds(1_500) {
                places.formUnion(stamps.indices.filter { synced.indices.contains($0) && stamps[$0] != synced[$0] })
            }
        } else {
            changedSince = nil
        }
        if let leaves, now >= leaves { return Due(places: places) }
        return places.isEmpty ? nil : Due(places: places)
    }

    /// When everything is read next at the latest.
    func nextSync(after now: ContinuousClock.Instant) -> ContinuousClock.Instant { max(next ?? now, now) }

    mutating func heardNews(of place: Int) { news.insert(place) }

    /// Whether news are listened to.
    func hearsNews(at now: ContinuousClock.Instant) -> Bool { newsFrom.map { now >= $0 } ?? true }

    /// In milliseconds.
    var pauseBeforeNews: Int32 {
        guard let newsFrom else { return 0 }
        let pause = max(.zero, newsFrom - .now) / .milliseconds(1)
        return Int32(min(500, max(1, pause.rounded(.up))))
    }

    mutating func began(_ stamps: [FileStamp?], _ due: Due, now: ContinuousClock.Instant) {
        guard let places = due.places, synced.count == stamps.count else {
            began = now
            synced = stamps
            changedSince = nil
            news = []
            return
        }
        // What isn't read now is still to be read.
        for place in places { synced[place] = stamps[place] }
        if synced == stamps { changedSince = nil }
        news.subtract(places)
    }

    /// - Parameter nextLeaves: after a failure, in how many seconds the next recipient that is leaving is to be rejected.
    mutating func ended(
        _ result: Result<SyncReport, SyncError>, _ due: Due, nextLeaves: Double? = nil, now: ContinuousClock.Instant
    ) {
        newsFrom = now + .milliseconds(200)
        switch result {
        case .success(let report): leaves = report.nextLeaves.map { now + .seconds($0) }
        // What can't be done now is tried again soon.
        case .failure: leaves = nextLeaves.map { now + .seconds(max(5, $0)) }
        }
        isHeld = if case .failure(let error) = result { error.kind == .state } else { false }
        if case .success(let report) = result, let places = due.places,
            places.allSatisfy({ report.sources[$0].failure == nil })
        {
            // The time of the next sync of everything stays.
            watchUnsettled(now)
            return
        }
        var pause = interval
        switch result {
        case .success(let report) where report.failures.isEmpty:
            failuresInRow = 0
            // From beginning to beginning, so that what a sync takes doesn't add to how late a change is seen; one that takes
            // most of the interval leaves a pause all the same.
            next = max((began ?? now) + interval, now + interval / 4)
            watchUnsettled(now)
            return
        case .failure(let error) where error.kind == .locked:
            pause = .seconds(1)
        case .failure(let error) where error.kind == .guardRefused || error.kind == .malformed:
            failuresInRow = 0
        default:
            // 5 s, 10 s, 20 s … up to the interval.
            pause = .seconds(5 << min(failuresInRow, 10))
            failuresInRow += 1
        }
        next = now + min(pause, interval)
    }

    /// A change within the same tick of the clock as the last would not show in the stamp: look once more.
    private mutating func watchUnsettled(_ now: ContinuousClock.Instant) {
        let time = Date()
        guard synced.contains(where: { $0?.isSettled(at: time) == false }) else { return }
        next = min(next ?? now + interval, now + .milliseconds(2_500))
    }
}

/// Turns results into events: each distinct failure once, and its end.
struct FailureMemory {
    private var last: String?
    private var lockedInRow = 0

    mutating func events(after result: Result<SyncReport, SyncError>) -> [SyncEvent] {
        switch result {
        case .success(let report):
            lockedInRow = 0
            var events: [SyncEvent] = []
            if report.outcome == .published || report.outcome == .refreshed || !report.notes.isEmpty && last == nil {
                events.append(.synced(report))
            }
            if report.failures.isEmpty, report.refusalStands {
                return events
            } else if report.failures.isEmpty {
                if last != nil { events.append(.recovered(report)) }
                last = nil
            } else {
                let text = report.failures.compactMap(\.failure).joined(separator: "\n")
                if let event = failed(SyncError(.unreachable, text, source: report.failures.first?.name)) {
                    events.append(event)
                }
            }
            return events
        case .failure(let error):
            if error.kind == .locked {
                // Someone's sync by hand is no failure unless it goes on and on.
                lockedInRow += 1
                if lockedInRow < 10 { return [] }
            }
            // Told as the thread's condition.
            if error.kind == .state { return [] }
            return failed(error).map { [$0] } ?? []
        }
    }

    private mutating func failed(_ error: SyncError) -> SyncEvent? {
        guard error.description != last else { return nil }
        last = error.description
        return .failed(error)
    }
}
