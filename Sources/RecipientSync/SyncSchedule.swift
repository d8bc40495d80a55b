import Foundation
import RecipientSources
import System

/// When a sync thread syncs next, and which sources it reads then.
struct SyncSchedule {
    /// The sources that are to be read.
    struct Due: Equatable {
        /// The indices in `configuration.sources` of the sources to read; nil for all.
        var places: Set<Int>?

        static let all = Due()
    }

    private let interval: Duration
    /// When the next sync of all sources is due though nothing has changed; nil before the first.
    private var next: ContinuousClock.Instant?
    /// When the last sync of all sources began.
    private var began: ContinuousClock.Instant?
    /// The stamps of the files as they were last synced, and as they were last looked at.
    private var synced: [FileStamp?] = []
    private var seen: [FileStamp?] = []
    /// Since when the files differ from those that were synced.
    private var changedSince: ContinuousClock.Instant?
    private var failuresInRow = 0
    /// The indices in `configuration.sources` of the sources whose directory has reported a change.
    private var news: Set<Int> = []
    /// The time from which change reports are handled again: a directory that always changes must not keep the thread
    /// busy.
    private var newsFrom: ContinuousClock.Instant?
    /// The time when the next leaving recipient is rejected; nil if none is leaving.
    private var leaves: ContinuousClock.Instant?
    /// Whether the files that a sync writes can't be used: until the next try, changes of the sources don't matter.
    private var isHeld = false

    init(interval: Duration) { self.interval = max(interval, .seconds(1)) }

    /// What to sync now; nil for nothing.
    ///
    /// All sources when their time has come. Otherwise the files that have changed and stay as they are, or go on changing for more than
    /// a second and a half, and the sources that have reported a change. None if only a leaving recipient is to be rejected.
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

    /// When all sources are read next at the latest.
    func nextSync(after now: ContinuousClock.Instant) -> ContinuousClock.Instant { max(next ?? now, now) }

    // MARK: News

    mutating func addNews(of place: Int) { news.insert(place) }

    func listensForNews(at now: ContinuousClock.Instant) -> Bool { newsFrom.map { now >= $0 } ?? true }

    /// Milliseconds until change reports are handled again.
    var pauseBeforeNews: Int32 {
        guard let newsFrom else { return 0 }
        let pause = max(.zero, newsFrom - .now) / .milliseconds(1)
        return Int32(min(500, max(1, pause.rounded(.up))))
    }

    // MARK: Syncs

    /// Records that a sync begins.
    mutating func begin(_ due: Due, _ stamps: [FileStamp?], now: ContinuousClock.Instant) {
        guard let places = due.places, synced.count == stamps.count else {
            began = now
            synced = stamps
            changedSince = nil
            news = []
            return
        }
        for place in places { synced[place] = stamps[place] }
        if synced == stamps { changedSince = nil }
        news.subtract(places)
    }

    /// Records that a sync has ended, and decides when the next one is due.
    ///
    /// - Parameter nextLeaves: after a failure, the seconds until the next leaving recipient is rejected.
    mutating func end(
        _ due: Due, with result: Result<SyncReport, SyncError>, nextLeaves: Double? = nil, now: ContinuousClock.Instant
    ) {
        newsFrom = now + .milliseconds(200)
        isHeld = false
        switch result {
        case .success(let report):
            leaves = report.nextLeaves.map { now + .seconds($0) }
            if let places = due.places, places.allSatisfy({ report.sources[$0].failure == nil }) {
                // The time of the next sync of all sources stays.
                syncAgainIfUnsettled(now)
            } else if report.failures.isEmpty {
                failuresInRow = 0
                // From beginning to beginning, so that the duration of a sync doesn't delay the next one. A sync that takes most of the
                // interval is followed by a pause all the same.
                next = max((began ?? now) + interval, now + interval / 4)
                syncAgainIfUnsettled(now)
            } else {
                next = now + min(nextPause(), interval)
            }
        case .failure(let error):
            // A rejection that can't be published now is tried again soon.
            leaves = nextLeaves.map { now + .seconds(max(5, $0)) }
            isHeld = error.kind == .state
            switch error.kind {
            case .locked: next = now + .seconds(1)
            case .guardRefused, .malformed:
                failuresInRow = 0
                next = now + interval
            default: next = now + min(nextPause(), interval)
            }
        }
    }

    /// The pause after a failure: 5 s, 10 s, 20 s and so on.
    private mutating func nextPause() -> Duration {
        defer { failuresInRow += 1 }
        return .seconds(5 << min(failuresInRow, 10))
    }

    /// Syncs once more soon after a file was written: another change within the same tick of the clock would not show in its stamp.
    private mutating func syncAgainIfUnsettled(_ now: ContinuousClock.Instant) {
        let time = Date()
        guard synced.contains(where: { $0?.isSettled(at: time) == false }) else { return }
        next = min(next ?? now + interval, now + .milliseconds(2_500))
    }
}
