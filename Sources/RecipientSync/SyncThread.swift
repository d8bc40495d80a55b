public import Foundation
import Glibc
import RecipientSources
import Synchronization
public import System

/// What a sync thread does now and next.
public struct SyncOutlook: Sendable {
    /// Since when a sync has been running; nil between two syncs.
    public var runningSince: Date?
    /// When all sources are read next at the latest; nil while the thread doesn't run.
    public var next: Date?
    /// Why the files that a sync writes can't be used, with the time of the next try; nil if they can be used.
    public var failure: PartFailure?
    /// The sources of the configuration, in its order, as the last sync left them, with what happens to them now.
    public var sources: [SourceState] = []

    /// The sources that are being read, also if the sync has gone on without them.
    public var running: [SourceProgress] { sources.compactMap(\.progress) }
}

/// Keeps the index up to date, on a thread of its own.
///
/// It syncs once at its start, then within about a second of a change that a directory or a file shows, and otherwise at the configured
/// interval; after a failure sooner, with a growing pause. If the files that it writes can't be used, it goes on and tries again.
public final class SyncThread: Sendable {
    private enum Phase {
        case new, stopped
        case running(NamedThread)
    }

    /// How often files are looked at, in milliseconds. A changed file must look the same twice before it is read, so that no file is read
    /// while it is being written.
    static let poll: Int32 = 500

    private let synchronizer: Synchronizer
    private let onFileFailure: @Sendable (PartFailure?) -> Void
    private let onSync: @Sendable (SyncRun) -> Void
    private let onEvent: @Sendable (SyncEvent) -> Void
    private let phase = Mutex(Phase.new)
    private let wake = WakeUp()
    private let isStopping = Atomic(false)
    private let shown: Mutex<SyncOutlook>

    /// Creates a thread that runs a synchronizer; it isn't started yet.
    ///
    /// - Parameters:
    ///   - onFileFailure: called on the thread with the reason why a sync can't use the files that it writes (state, lock, index,
    ///     temporary files), once for each new reason, and with nil when it can use them again.
    ///   - onSync: called on the thread after every sync.
    ///   - onEvent: called on the thread, one event at a time; failures of those files aren't among the events.
    public init(
        _ synchronizer: Synchronizer, onFileFailure: @escaping @Sendable (PartFailure?) -> Void,
        onSync: @escaping @Sendable (SyncRun) -> Void = { _ in }, onEvent: @escaping @Sendable (SyncEvent) -> Void
    ) {
        self.synchronizer = synchronizer
        self.onFileFailure = onFileFailure
        self.onSync = onSync
        self.onEvent = onEvent
        let sources = synchronizer.configuration.sources.map { SourceState(name: $0.name, type: $0.type) }
        shown = Mutex(SyncOutlook(sources: sources))
    }

    /// What the thread does now and next; on any thread, without waiting for a sync.
    public var outlook: SyncOutlook {
        var outlook = shown.withLock { $0 }
        for place in outlook.sources.indices { outlook.sources[place].progress = synchronizer.sources[place].progress }
        return outlook
    }

    /// Starts the thread; further calls do nothing.
    public func start() {
        phase.withLock { phase in
            guard case .new = phase else { return }
            phase = .running(
                NamedThread.start("sync", stackSize: 1 << 20) { [self] in
                    run()
                    synchronizer.sources.forEach { $0.closeConnections() }
                    shown.withLock { $0 = SyncOutlook(sources: $0.sources) }
                })
        }
    }

    /// Ends the thread and waits until it has ended, but not longer than the limit; may be called again.
    ///
    /// Connections of a sync in progress are cut, its programs are killed, and it ends at its next step; it leaves the old or the new
    /// index. A thread that hangs all the same, for example in a file system that doesn't answer, is left behind: it publishes and
    /// reports nothing any more, but it holds the sync's lock until it comes back. Until then other syncs on the same state find it
    /// locked.
    ///
    /// - Returns: whether the thread has ended.
    @discardableResult
    public func stop(within limit: Duration = .seconds(3)) -> Bool {
        let running = phase.withLock { phase -> NamedThread? in
            switch phase {
            case .running(let thread): return thread
            case .new, .stopped:
                phase = .stopped
                return nil
            }
        }
        guard let running else { return true }
        isStopping.store(true, ordering: .sequentiallyConsistent)
        wake.signal()
        synchronizer.sources.forEach { $0.interrupt() }
        return running.waitForEnd(within: limit)
    }

    private var mustStop: Bool { isStopping.load(ordering: .sequentiallyConsistent) }

    private func run() {
        var schedule = SyncSchedule(interval: synchronizer.configuration.interval)
        var failures = SyncFailureHistory()
        var fileFailures = FileFailureHistory()
        while !mustStop {
            let stamps = synchronizer.configuration.sources.map(\.stamp)
            if let due = schedule.due(stamps, now: .now) {
                schedule.begin(due, stamps, now: .now)
                shown.withLock { $0.runningSince = Date() }
                let began = ContinuousClock.now
                let result = sync(due)
                if mustStop { return }
                let names = synchronizer.configuration.sources.enumerated()
                    .filter { due.places?.contains($0.offset) ?? true }.map(\.element.name)
                let leaves: Double? = if case .failure = result { synchronizer.nextLeaves() } else { nil }
                schedule.end(due, with: result, nextLeaves: leaves, now: .now)
                let next = schedule.nextSync(after: .now)
                let changes = fileFailures.changes(after: result, nextTry: date(next))
                show(result.sources, next: next, failure: fileFailures.failure)
                onSync(SyncRun(result: result, attempted: Set(names), seconds: (.now - began) / .seconds(1)))
                changes.forEach(onFileFailure)
                failures.events(after: result).forEach(onEvent)
                returnFreeMemory()
            }
            waitForNews(&schedule)
        }
    }

    private func sync(_ due: SyncSchedule.Due) -> Result<SyncReport, SyncError> {
        let options = SyncOptions(due: due.places, isThread: true) { [self] () throws(SyncError) in
            if mustStop { throw SyncError(.cancelled, "the sync was stopped") }
        }
        return Result { () throws(SyncError) in try synchronizer.run(options) }
    }

    private func show(_ sources: [SourceState], next: ContinuousClock.Instant, failure: PartFailure?) {
        shown.withLock { shown in
            var outlook = SyncOutlook(next: date(next), failure: failure, sources: sources)
            if sources.isEmpty {
                // A sync that didn't get to its sources leaves them as they were.
                outlook.sources = shown.sources
                for place in outlook.sources.indices {
                    outlook.sources[place].nextTry = outlook.sources[place].nextTry.map { max($0, date(next)) }
                }
            } else {
                for place in sources.indices where sources[place].failure != nil {
                    outlook.sources[place].nextTry = date(
                        max(next, synchronizer.sources[place].source.earliestRetry ?? next))
                }
            }
            shown = outlook
        }
    }

    private func date(_ instant: ContinuousClock.Instant) -> Date {
        Date(timeIntervalSinceNow: (instant - .now) / .seconds(1))
    }

    /// Waits until a directory reports a change, the thread is woken, or files are to be looked at.
    private func waitForNews(_ schedule: inout SyncSchedule) {
        let sources = synchronizer.sources
        let places = schedule.listensForNews(at: .now) ? Array(sources.indices) : []
        // News that were received together with the end of a reading don't show on the socket any more.
        let known = places.filter { sources[$0].hasReportedChanges() }
        guard known.isEmpty else { return known.forEach { schedule.addNews(of: $0) } }
        let listening = places.compactMap { place in sources[place].changeDescriptor.map { (place, $0) } }
        var entries = [pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)]
        entries += listening.map { pollfd(fd: $0.1, events: Int16(POLLIN), revents: 0) }
        let pause = places.isEmpty ? schedule.pauseBeforeNews : Self.poll
        guard Glibc.poll(&entries, nfds_t(entries.count), pause) > 0 else { return }
        for (number, listener) in listening.enumerated() where entries[number + 1].revents != 0 {
            if sources[listener.0].hasReportedChanges() { schedule.addNews(of: listener.0) }
        }
    }
}

/// Gives the system back what the allocator keeps after a sync, some tens of megabytes; malloc_trim(3), which Swift's module of
/// the C library doesn't have.
private func returnFreeMemory() {
    typealias Trim = @convention(c) (Int) -> Int32
    guard let symbol = dlsym(nil, "malloc_trim") else { return }
    _ = unsafeBitCast(symbol, to: Trim.self)(0)
}

extension SourceConfiguration {
    /// The stamp of the source's file; nil for other sources, and if there is no file.
    fileprivate var stamp: FileStamp? {
        switch kind {
        case .file(_, let path): FileStamp(path: path)
        case .command, .directory: nil
        }
    }
}

/// An event of a sync thread, for a log.
public enum SyncEvent: Sendable {
    /// A list was published, or written again with a new date.
    case synced(SyncReport)
    /// A sync failed or left out a source, for another reason than the sync before.
    case failed(SyncError)
    /// The last failure is over.
    case recovered(SyncReport)
}

/// One sync of a sync thread, for metrics.
public struct SyncRun: Sendable {
    /// The report of the sync, or why it failed.
    public var result: Result<SyncReport, SyncError>
    /// The names of the sources that were due.
    public var attempted: Set<String>
    /// The duration of the sync.
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
            if error.kind == .locked { lockedInRow += 1 }
            let isTolerated = error.kind == .locked && lockedInRow <= Self.toleratedLocks
            // A failure of the files, see FileFailureHistory.
            return isTolerated || error.kind == .state ? [] : failure(error)
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
        let before = failure
        switch result {
        // Neither says anything about the files.
        case .failure(let error) where error.kind == .locked || error.kind == .cancelled: return []
        case .failure(let error) where error.kind == .state:
            failure = PartFailure(
                reason: error.description.replacingOccurrences(of: "\n", with: "; "),
                advice: error.advice ?? "the sync tries again by itself", since: before?.since ?? Date(),
                nextTry: nextTry)
        default: failure = nil
        }
        return before?.reason == failure?.reason ? [] : [failure]
    }
}
