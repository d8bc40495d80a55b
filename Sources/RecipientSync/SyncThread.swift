import Dispatch
public import Foundation
import Glibc
import RecipientSources
import Synchronization
public import System

/// What a sync thread tells of, on its own thread.
public enum SyncEvent: Sendable {
    /// A list was published, or dated anew.
    case synced(SyncReport)
    /// A sync failed, or went on without a source, in a way that the last one did not.
    case failed(SyncError)
    /// The failure told before is over.
    case recovered(SyncReport)
}

/// One sync of a sync thread.
public struct SyncRun: Sendable {
    /// What came of it.
    public var result: Result<SyncReport, SyncError>
    /// The names of the sources that were due.
    public var attempted: Set<String>
    /// How long it took.
    public var seconds: Double
}

/// What a sync thread does now and next.
public struct SyncOutlook: Sendable {
    /// Since when a sync has been running; nil between two.
    public var runningSince: Date?
    /// When all sources are read next at the latest; nil while the thread doesn't run.
    public var next: Date?
    /// Why the files that a sync writes can't be used, with the time of the next try; nil while they can.
    public var failure: PartFailure?
    /// The sources of the configuration, in its order, as the last sync left them, with what happens to them now.
    public var sources: [SourceState] = []

    /// The sources that are being read, also if the sync has gone on without them.
    public var running: [SourceProgress] { sources.compactMap(\.progress) }
}

/// Keeps the index up to date: syncs once at its start, then within about a second of a change that a directory tells or a file
/// shows, and otherwise at the configured interval; after a failure sooner, with a growing pause.
///
/// Whatever state its files are in, the thread goes on and tries again: see `condition`.
public final class SyncThread: Sendable {
    private enum Phase {
        case new, running, stopped
    }

    /// How often files are looked at. A changed file must look the same twice before it is read, so that one that is being
    /// written isn't read half.
    static let poll: Int32 = 500

    private let synchronizer: Synchronizer
    private let report: @Sendable (SyncEvent) -> Void
    private let condition: @Sendable (PartFailure?) -> Void
    private let ran: @Sendable (SyncRun) -> Void
    private let phase = Mutex(Phase.new)
    private let wake = WakeUp()
    private let ended = SteadySemaphore()
    private let isStopping = Atomic(false)
    private let shown: Mutex<SyncOutlook>

    /// A thread that runs this synchronizer, not started yet.
    ///
    /// - Parameters:
    ///   - condition: called on the thread with the reason why a sync can't use the files that it writes (state, lock, index,
    ///     temporary files), once for each reason in turn, and with nil when it can again.
    ///   - ran: called on the thread after every sync, for metrics.
    ///   - report: called on the thread, one event at a time; what `condition` tells is not among the events.
    public init(
        _ synchronizer: Synchronizer, condition: @escaping @Sendable (PartFailure?) -> Void,
        ran: @escaping @Sendable (SyncRun) -> Void = { _ in }, report: @escaping @Sendable (SyncEvent) -> Void
    ) {
        self.synchronizer = synchronizer
        self.condition = condition
        self.ran = ran
        self.report = report
        shown = Mutex(
            SyncOutlook(
                sources: synchronizer.configuration.sources.map { SourceState(name: $0.name, type: $0.type) }))
    }

    /// What the thread does now and next; may be asked for on any thread, and never waits for a sync.
    public var outlook: SyncOutlook {
        var outlook = shown.withLock { $0 }
        for place in outlook.sources.indices { outlook.sources[place].progress = synchronizer.sources[place].progress }
        return outlook
    }

    /// Starts the thread; without effect the second time.
    public func start() {
        let isFirst = phase.withLock { phase in
            guard phase == .new else { return false }
            phase = .running
            return true
        }
        guard isFirst else { return }
        NamedThread.start("sync", stackSize: 1 << 20) { [self] in
            run()
            synchronizer.sources.forEach { $0.hangUp() }
            shown.withLock { $0 = SyncOutlook(sources: $0.sources) }
            ended.signal()
        }
    }

    /// Ends the thread and waits for it, but not longer than this, whatever it does; may be called again.
    ///
    /// Connections of a sync in progress are cut, its program is killed, and it is given up at its next step; it leaves the old or
    /// the new index. A thread that hangs all the same, such as in a file system that doesn't answer, is left behind: it publishes
    /// and tells nothing any more, and holds the sync's lock until it comes back. Until then other syncs on the same state are told that one
    /// is at work.
    ///
    /// - Returns: whether the thread has ended.
    @discardableResult
    public func stop(within limit: Duration = .seconds(3)) -> Bool {
        let wasRunning = phase.withLock { phase in
            defer { if phase == .new { phase = .stopped } }
            return phase == .running
        }
        guard wasRunning else { return true }
        isStopping.store(true, ordering: .sequentiallyConsistent)
        wake.signal()
        synchronizer.sources.forEach { $0.interrupt() }
        guard ended.wait(within: limit) else { return false }
        // For those who ask again.
        ended.signal()
        return true
    }

    private func run() {
        var schedule = SyncSchedule(interval: synchronizer.configuration.interval)
        var failures = FailureMemory()
        var files = FilesMemory()
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            let stamps = synchronizer.configuration.sources.map(\.stamp)
            if let due = schedule.due(stamps, now: .now) {
                schedule.began(stamps, due, now: .now)
                shown.withLock { $0.runningSince = Date() }
                let began = ContinuousClock.now
                let result = sync(due)
                if isStopping.load(ordering: .sequentiallyConsistent) { return }
                let names = synchronizer.configuration.sources.enumerated()
                    .filter { due.places?.contains($0.offset) ?? true }.map(\.element.name)
                let leaves: Double? = if case .failure = result { synchronizer.nextLeaves() } else { nil }
                schedule.ended(result, due, nextLeaves: leaves, now: .now)
                let news = files.news(after: result, nextTry: date(schedule.nextSync(after: .now)))
                show(result, schedule, files.failure)
                ran(SyncRun(result: result, attempted: Set(names), seconds: (.now - began) / .seconds(1)))
                news.forEach(condition)
                failures.events(after: result).forEach(report)
                returnFreeMemory()
            }
            waitForNews(&schedule)
        }
    }

    private func show(
        _ result: Result<SyncReport, SyncError>, _ schedule: SyncSchedule, _ failure: PartFailure?
    ) {
        let next = schedule.nextSync(after: .now)
        let sources: [SourceState] =
            switch result {
            case .success(let report): report.sources
            case .failure(let error): error.sources
            }
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
                    outlook.sources[place].nextTry = date(max(next, synchronizer.sources[place].restsUntil ?? next))
                }
            }
            shown = outlook
        }
    }

    private func date(_ instant: ContinuousClock.Instant) -> Date {
        Date(timeIntervalSinceNow: (instant - .now) / .seconds(1))
    }

    /// Waits until a directory tells something, the thread is woken, or files are to be looked at.
    private func waitForNews(_ schedule: inout SyncSchedule) {
        let sources = synchronizer.sources
        let places = schedule.hearsNews(at: .now) ? Array(sources.indices) : []
        // What was read together with the end of a pull doesn't show on the socket any more.
        let heard = places.filter { sources[$0].hasNews() }
        guard heard.isEmpty else { return heard.forEach { schedule.heardNews(of: $0) } }
        let listening = places.compactMap { place in sources[place].newsDescriptor.map { (place, $0) } }
        var entries = [pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)]
        entries += listening.map { pollfd(fd: $0.1, events: Int16(POLLIN), revents: 0) }
        let pause = places.isEmpty ? schedule.pauseBeforeNews : Self.poll
        guard Glibc.poll(&entries, nfds_t(entries.count), pause) > 0 else { return }
        for (number, listener) in listening.enumerated() where entries[number + 1].revents != 0 {
            if sources[listener.0].hasNews() { schedule.heardNews(of: listener.0) }
        }
    }

    private func sync(_ due: SyncSchedule.Due) -> Result<SyncReport, SyncError> {
        let scope = Synchronizer.Scope(due: due.places, isStaying: true)
        do throws(SyncError) {
            return .success(
                try synchronizer.run(dryRun: false, acceptShrink: false, scope: scope) { [self] () throws(SyncError) in
                    if isStopping.load(ordering: .sequentiallyConsistent) {
                        throw SyncError(.cancelled, "the sync was told to stop")
                    }
                })
        } catch {
            return .failure(error)
        }
    }
}

/// Turns results into reports on the files that a sync writes: each failure with a new reason, and its end.
struct FilesMemory {
    /// What holds now.
    private(set) var failure: PartFailure?

    /// What is to be told, if anything: a failure, or nil for its end.
    mutating func news(after result: Result<SyncReport, SyncError>, nextTry: Date) -> [PartFailure?] {
        if case .failure(let error) = result {
            // Neither says anything of the files.
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

/// Wakes a thread that waits in poll(2), through a pipe.
final class WakeUp: Sendable {
    /// Readable once it was signalled.
    let descriptor: Int32
    private let writing: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        _ = pipe(&ends)
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        (descriptor, writing) = (ends[0], ends[1])
    }

    deinit {
        close(descriptor)
        close(writing)
    }

    func signal() { _ = write(writing, [0], 1) }

    /// Has it unreadable again.
    func clear() {
        var bytes: [UInt8] = [0, 0, 0, 0]
        while read(descriptor, &bytes, bytes.count) > 0 {}
    }
}

extension SourceConfiguration {
    /// What a change shows in; nil for sources that can't be looked at so, and for files that aren't there.
    var stamp: FileStamp? {
        switch kind {
        case .file(_, let path): FileStamp(path: path)
        case .command, .directory: nil
        }
    }
}
