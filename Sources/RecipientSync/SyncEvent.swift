import Foundation
import RecipientSources
import System

/// An event of a sync thread, for a log.
public enum SyncEvent: Sendable {
    /// A list was published, or dated anew.
    case synced(SyncReport)
    /// A sync failed, or went on without a source, in another way than the last one.
    case failed(SyncError)
    /// The last failure is over.
    case recovered(SyncReport)
}

/// One sync of a sync thread, for metrics.
public struct SyncRun: Sendable {
    /// Its report, or why it failed.
    public var result: Result<SyncReport, SyncError>
    /// The names of the sources that were due.
    public var attempted: Set<String>
    /// How long it took.
    public var seconds: Double

    /// The sources, as far as the sync got to them; empty if it failed before.
    public var sources: [SourceState] { result.sources }
}

extension Result<SyncReport, SyncError> {
    var sources: [SourceState] {
        switch self {
        case .success(let report): report.sources
        case .failure(let error): error.sources
        }
    }
}

/// Turns the results of syncs into events: each new failure once, and its end.
struct SyncFailureHistory {
    /// How many syncs in a row may find the state locked before that is a failure: a sync by hand takes a while.
    private static let toleratedLocks = 9

    private var last: String?
    private var lockedInRow = 0

    mutating func events(after result: Result<SyncReport, SyncError>) -> [SyncEvent] {
        switch result {
        case .success(let report): return events(after: report)
        case .failure(let error):
            if error.kind == .locked {
                lockedInRow += 1
                if lockedInRow <= Self.toleratedLocks { return [] }
            }
            // A failure of the files, see FileFailureHistory.
            if error.kind == .state { return [] }
            return failure(error)
        }
    }

    private mutating func events(after report: SyncReport) -> [SyncEvent] {
        lockedInRow = 0
        var events: [SyncEvent] = []
        if report.outcome == .published || report.outcome == .refreshed || !report.notes.isEmpty && last == nil {
            events.append(.synced(report))
        }
        if !report.failures.isEmpty {
            let text = report.failures.compactMap(\.failure).joined(separator: "\n")
            return events + failure(SyncError(.unreachable, text, source: report.failures.first?.name))
        }
        if report.refusalStands { return events }
        if last != nil { events.append(.recovered(report)) }
        last = nil
        return events
    }

    private mutating func failure(_ error: SyncError) -> [SyncEvent] {
        guard error.description != last else { return [] }
        last = error.description
        return [.failed(error)]
    }
}

/// Turns the results of syncs into changes of the files that a sync writes: each failure with a new reason, and its end.
struct FileFailureHistory {
    /// Why the files can't be used now; nil if they can.
    private(set) var failure: PartFailure?

    /// The changes to report: a failure, nil for its end, or nothing.
    mutating func changes(after result: Result<SyncReport, SyncError>, nextTry: Date) -> [PartFailure?] {
        if case .failure(let error) = result {
            // Neither says anything about the files.
            if error.kind == .locked || error.kind == .cancelled { return [] }
            if error.kind == .state {
                let reason = error.description.replacingOccurrences(of: "\n", with: "; ")
                let now = PartFailure(
                    reason: reason, advice: error.advice ?? "the sync tries again by itself",
                    since: failure?.since ?? Date(), nextTry: nextTry)
                let isNew = failure?.reason != reason
                failure = now
                return isNew ? [now] : []
            }
        }
        guard failure != nil else { return [] }
        failure = nil
        return [nil]
    }
}
