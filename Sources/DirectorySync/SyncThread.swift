import Dispatch
import Foundation
import Synchronization

/// What a sync thread tells of, on its own thread.
public enum SyncEvent: Sendable {
    /// A list was published, or dated anew.
    case synced(SyncReport)
    /// A sync failed, or went on without a source, in a way that the last one did not.
    case failed(SyncError)
    /// The failure told before is over.
    case recovered(SyncReport)
}

/// Keeps the index up to date: syncs once at its start, then within about a second of a change of a source's file, and
/// otherwise at the configured interval; after a failure sooner, with a growing pause.
public final class SyncThread: Sendable {
    private enum Phase {
        case new, running, stopped
    }

    /// How often files are looked at. A changed file must look the same twice before it is read, so that one that is being
    /// written isn't read half.
    static let poll = DispatchTimeInterval.milliseconds(500)

    private let synchronizer: Synchronizer
    private let report: @Sendable (SyncEvent) -> Void
    private let phase = Mutex(Phase.new)
    private let wake = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)
    private let isStopping = Atomic(false)

    /// A thread that runs this synchronizer, not started yet.
    ///
    /// - Parameter report: called on the thread, one event at a time.
    public init(_ synchronizer: Synchronizer, report: @escaping @Sendable (SyncEvent) -> Void) {
        self.synchronizer = synchronizer
        self.report = report
    }

    /// Starts the thread; without effect the second time.
    public func start() {
        let isFirst = phase.withLock { phase in
            guard phase == .new else { return false }
            phase = .running
            return true
        }
        guard isFirst else { return }
        let thread = Thread { [self] in
            run()
            ended.signal()
        }
        thread.name = "postern-sync"
        thread.stackSize = 1 << 20
        thread.start()
    }

    /// Ends the thread and waits for it; a sync in progress is given up at its next step, and leaves the old or the new index.
    public func stop() {
        let wasRunning = phase.withLock { phase in
            defer { phase = .stopped }
            return phase == .running
        }
        guard wasRunning else { return }
        isStopping.store(true, ordering: .releasing)
        wake.signal()
        ended.wait()
    }

    private func run() {
        var schedule = SyncSchedule(interval: synchronizer.configuration.interval)
        var failures = FailureMemory()
        while !isStopping.load(ordering: .acquiring) {
            let stamps = synchronizer.configuration.sources.map(\.stamp)
            if schedule.isDue(stamps, now: .now) {
                schedule.began(stamps, now: .now)
                let result = sync()
                returnFreeMemory()
                if isStopping.load(ordering: .acquiring) { return }
                schedule.ended(result, now: .now)
                failures.events(after: result).forEach(report)
            }
            _ = wake.wait(timeout: .now() + Self.poll)
        }
    }

    private func sync() -> Result<SyncReport, SyncError> {
        do throws(SyncError) {
            return .success(
                try synchronizer.run(dryRun: false, acceptShrink: false) { [self] () throws(SyncError) in
                    if isStopping.load(ordering: .acquiring) {
                        throw SyncError(.cancelled, "the sync was told to stop")
                    }
                })
        } catch {
            return .failure(error)
        }
    }
}

extension SourceConfiguration {
    /// What a change shows in; nil for sources that can't be looked at so, and for files that aren't there.
    var stamp: FileStamp? {
        switch kind {
        case .file(_, let path): FileStamp(path: path)
        }
    }
}
