import Foundation

/// When the sync thread syncs next.
struct SyncSchedule {
    private let interval: Duration
    /// When the next sync is due though nothing has changed; at once at the start.
    private var due: ContinuousClock.Instant?
    /// The files as the last sync found them, and as they were last looked at.
    private var synced: [FileStamp?] = []
    private var seen: [FileStamp?] = []
    /// Since when the files differ from what was synced.
    private var changedSince: ContinuousClock.Instant?
    private var failuresInRow = 0

    init(interval: Duration) {
        self.interval = max(interval, .seconds(1))
    }

    /// Whether to sync now: the time has come, or the files have changed and hold still (or won't within two seconds).
    mutating func isDue(_ stamps: [FileStamp?], now: ContinuousClock.Instant) -> Bool {
        defer { seen = stamps }
        guard let due, now < due else { return true }
        guard stamps != synced else {
            changedSince = nil
            return false
        }
        let since = changedSince ?? now
        changedSince = since
        return stamps == seen || now - since >= .milliseconds(1_500)
    }

    mutating func began(_ stamps: [FileStamp?], now: ContinuousClock.Instant) {
        synced = stamps
        changedSince = nil
    }

    mutating func ended(_ result: Result<SyncReport, SyncError>, now: ContinuousClock.Instant) {
        var pause = interval
        switch result {
        case .success(let report) where report.failures.isEmpty:
            failuresInRow = 0
            // A change within the same tick of the clock as the last would not show in the stamp: look once more.
            let time = Date()
            if synced.contains(where: { $0?.isSettled(at: time) == false }) { pause = .milliseconds(2_500) }
        case .failure(let error) where error.kind == .locked:
            pause = .seconds(1)
        case .failure(let error) where error.kind == .guardRefused || error.kind == .malformed:
            failuresInRow = 0
        default:
            // 5 s, 10 s, 20 s … up to the interval.
            pause = .seconds(5 << min(failuresInRow, 10))
            failuresInRow += 1
        }
        due = now + min(pause, interval)
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
            if report.failures.isEmpty {
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
            return failed(error).map { [$0] } ?? []
        }
    }

    private mutating func failed(_ error: SyncError) -> SyncEvent? {
        guard error.description != last else { return nil }
        last = error.description
        return .failed(error)
    }
}
