import Dispatch
import Foundation
import Synchronization
import System

/// Keeps a ``HotSwap`` at the newest sound snapshot of a file, whoever writes it and however.
///
/// A thread of its own looks at the file's status every 200 ms (stat(2): device, inode, size, times). A file in a new state is read whole and
/// verified beside the running lookups, and then published. A file that can't be used leaves the snapshot in use where it is. As it
/// may be half written, it is reported only when it can't be used at two looks in a row in the same state, and then once for that state.
/// A snapshot of an older generation than that of the one in use is refused, unless ``loadNow(acceptsOlder:)`` asks for it; where none is in
/// use, every sound one is taken. One of a later date is taken too where there was no file for a moment: its publisher counts anew.
/// There are never more than two snapshots in memory: the one in use, and the one that is read or has just been replaced.
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
    private let stopping = SteadySemaphore()
    private let ended = SteadySemaphore()

    private enum Lifecycle { case idle, running, stopped }

    /// A watcher that doesn't look yet.
    ///
    /// - Parameters:
    ///   - path: the snapshot file; it needn't exist.
    ///   - into: where snapshots are published.
    ///   - report: called for each event, on the watcher's thread or in ``loadNow()``.
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
    /// - Parameter acceptsOlder: whether a snapshot of an older generation than the one in use is taken, too: for a person who says so.
    /// - Returns: whether a snapshot is in force.
    @discardableResult
    public func loadNow(acceptsOlder: Bool = false) -> Bool { poller.look(atOnce: true, acceptsOlder: acceptsOlder) }

    /// Starts the thread; does nothing the second time.
    public func start() {
        let isFirst = lifecycle.withLock { lifecycle in
            guard lifecycle == .idle else { return false }
            lifecycle = .running
            return true
        }
        guard isFirst else { return }
        NamedThread.start("index") { [poller, stopping, ended, interval] in
            while !stopping.wait(within: interval) { poller.look(atOnce: false) }
            ended.signal()
        }
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
