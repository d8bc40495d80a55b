import Dispatch
import Foundation
import Synchronization

/// Keeps a ``HotSwap`` at the newest sound snapshot of a file, whoever writes it and however.
///
/// A thread of its own looks at the file's status every 200 ms (stat(2): device, inode, size, times). A new state is read and
/// verified beside the running lookups and then published. A file that can't be used leaves the snapshot in use where it is. As it may be
/// half written, it is reported only when it can't be used at two looks in a row in the same state, and then once for that state.
public final class IndexWatcher: Sendable {
    /// What became of a new file.
    public enum Event: Sendable {
        /// It is in force.
        case loaded(IndexInfo)
        /// It can't be used; the snapshot in use, if any, stays.
        case failed(IndexError)
    }

    private let poller: IndexPoller
    private let interval: Duration
    private let lifecycle = Mutex(Lifecycle.idle)
    private let stopping = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)

    private enum Lifecycle { case idle, running, stopped }

    /// A watcher that doesn't look yet.
    ///
    /// - Parameters:
    ///   - path: the snapshot file; it needn't exist.
    ///   - into: where snapshots are published.
    ///   - report: called for each event, one at a time, on the watcher's thread or in ``loadNow()``.
    public convenience init(
        path: String, into target: HotSwap<IndexSnapshot>, report: @escaping @Sendable (Event) -> Void
    ) {
        self.init(path: path, into: target, interval: .milliseconds(200), report: report)
    }

    init(
        path: String, into target: HotSwap<IndexSnapshot>, interval: Duration,
        report: @escaping @Sendable (Event) -> Void
    ) {
        poller = IndexPoller(path: path, target: target, report: report)
        self.interval = interval
    }

    deinit { if lifecycle.withLock({ $0 == .running }) { stopping.signal() } }

    /// Looks now, in the calling thread, and reports a file that can't be used at once; a missing one isn't worth a word.
    ///
    /// - Returns: whether a snapshot is in force.
    @discardableResult
    public func loadNow() -> Bool { poller.look(atOnce: true) }

    /// Starts the thread; does nothing the second time.
    public func start() {
        let isFirst = lifecycle.withLock { lifecycle in
            guard lifecycle == .idle else { return false }
            lifecycle = .running
            return true
        }
        guard isFirst else { return }
        let thread = Thread { [poller, stopping, ended, interval] in
            let pause = DispatchTimeInterval.nanoseconds(Int(interval / .nanoseconds(1)))
            while stopping.wait(timeout: .now() + pause) == .timedOut { poller.look(atOnce: false) }
            ended.signal()
        }
        thread.name = "index-watcher"
        thread.start()
    }

    /// Ends the thread and waits for it; no event comes afterwards. Not to be called from within the report.
    public func stop() {
        let wasRunning = lifecycle.withLock { lifecycle in
            defer { lifecycle = .stopped }
            return lifecycle == .running
        }
        guard wasRunning else { return }
        stopping.signal()
        ended.wait()
    }
}

/// What the watcher knows, and one look at the file.
private final class IndexPoller: Sendable {
    private let path: String
    private let target: HotSwap<IndexSnapshot>
    private let report: @Sendable (IndexWatcher.Event) -> Void
    private let progress = Mutex(Progress())

    private struct Progress {
        /// The state that is done with: in force, or reported.
        var settled: Sighting?
        /// A state that couldn't be used at the last look.
        var suspect: Sighting?
        var isLoaded = false
        /// How many looks until a settled fault is tried again, which may have nothing to do with the file: no descriptor
        /// left, no permission. Nil for a fault of the file.
        var retryIn: Int?
    }

    /// What stat(2) says.
    private enum Sighting: Equatable {
        case file(FileState)
        case missing
        case hidden(Int32)
    }

    init(path: String, target: HotSwap<IndexSnapshot>, report: @escaping @Sendable (IndexWatcher.Event) -> Void) {
        self.path = path
        self.target = target
        self.report = report
    }

    /// Returns whether a snapshot is in force.
    @discardableResult
    func look(atOnce: Bool) -> Bool {
        // The lock is only ever between the thread and `loadNow`; readers take none.
        let (event, isLoaded) = progress.withLock { progress in
            (step(&progress, atOnce: atOnce), progress.isLoaded)
        }
        if let event { report(event) }
        return isLoaded
    }

    private func step(_ progress: inout Progress, atOnce: Bool) -> IndexWatcher.Event? {
        let sighting = sight()
        let isRetry = progress.settled == sighting
        if isRetry {
            guard let left = progress.retryIn else { return nil }
            progress.retryIn = left - 1
            guard left <= 0 else { return nil }
        }
        if sighting == .missing && !progress.isLoaded {
            progress.settled = .missing
            return nil
        }
        do throws(IndexError) {
            let snapshot = try IndexSnapshot(path: path)
            target.publish(snapshot)
            progress = Progress(settled: .file(snapshot.state), isLoaded: true)
            return .loaded(snapshot.info)
        } catch {
            if !isRetry {
                guard atOnce || progress.suspect == sighting else {
                    progress.suspect = sighting
                    return nil
                }
                progress.suspect = nil
                progress.settled = sighting
            }
            if case .unreadable = error.kind { progress.retryIn = 25 } else { progress.retryIn = nil }
            return isRetry ? nil : .failed(error)
        }
    }

    private func sight() -> Sighting {
        var attributes = stat()
        guard stat(path, &attributes) == 0 else { return errno == ENOENT ? .missing : .hidden(errno) }
        return .file(FileState(attributes))
    }
}
