import Dispatch
import Foundation
import Glibc
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

/// What an ``IndexWatcher`` knows of its file, and how it looks at it.
final class IndexPoller: Sendable {
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
        /// Whether the settled state is a sound snapshot that is refused for its generation.
        var isOlder = false
        /// How many looks until a settled fault is tried again, which may have nothing to do with the file: no descriptor
        /// left, no permission. Nil for a fault of the file.
        var retryIn: Int?
    }

    /// What stat(2) says.
    private enum Sighting: Equatable {
        case file(FileStamp)
        case missing
        case hidden(Int32)
    }

    init(path: String, target: HotSwap<IndexSnapshot>, report: @escaping @Sendable (IndexWatcher.Event) -> Void) {
        self.path = path
        self.target = target
        self.report = report
    }

    /// Looks at the file once and returns whether a snapshot is in force.
    ///
    /// - Parameters:
    ///   - atOnce: to report a file that can't be used at the first look.
    ///   - acceptsOlder: whether a snapshot of an older generation than the one in use is taken, too.
    @discardableResult
    func look(atOnce: Bool, acceptsOlder: Bool = false) -> Bool {
        // The lock is only ever between the thread and `loadNow`; readers take none.
        let (event, isLoaded) = progress.withLock { progress in
            (step(&progress, atOnce: atOnce, acceptsOlder: acceptsOlder), progress.isLoaded)
        }
        if let event { report(event) }
        return isLoaded
    }

    private func step(_ progress: inout Progress, atOnce: Bool, acceptsOlder: Bool) -> IndexWatcher.Event? {
        let sighting = sight()
        let isRetry = progress.settled == sighting && !(acceptsOlder && progress.isOlder)
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
            if !acceptsOlder, let inUse = target.current?.info, snapshot.info.generation < inUse.generation,
                // Who removes index and state begins to count anew; an old copy is of an earlier date.
                progress.settled != .missing || snapshot.info.created <= inUse.created
            {
                progress.settled = .file(snapshot.state)
                progress.suspect = nil
                progress.retryIn = nil
                progress.isOlder = true
                return .failed(IndexError(.older(snapshot.info, than: inUse), path: path))
            }
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
                progress.isOlder = false
            }
            if case .unreadable = error.kind {
                // Without a snapshot every recipient is deferred meanwhile.
                progress.retryIn = progress.isLoaded ? 25 : 5
            } else {
                progress.retryIn = nil
            }
            return isRetry ? nil : .failed(error)
        }
    }

    private func sight() -> Sighting {
        var attributes = stat()
        guard stat(path, &attributes) == 0 else { return errno == ENOENT ? .missing : .hidden(errno) }
        return .file(FileStamp(attributes))
    }
}

extension IndexFault {
    /// Of a snapshot that would bring back what was so before.
    fileprivate static func older(_ snapshot: IndexInfo, than inUse: IndexInfo) -> IndexFault {
        IndexFault(
            .older,
            "it is of generation \(snapshot.generation), made \(snapshot.created.formatted(.iso8601)), and older than "
                + "generation \(inUse.generation), made \(inUse.created.formatted(.iso8601)), which is in use")
    }
}
