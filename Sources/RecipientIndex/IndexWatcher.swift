import Dispatch
import Foundation
import Glibc
import Synchronization
import System

/// Watches a snapshot file, and publishes each new sound snapshot in a ``HotSwap``.
///
/// A thread examines the file's ``FileStamp`` at each interval. If it has changed, the thread reads and verifies the whole
/// file while lookups go on, and then publishes the snapshot.
///
/// If the file can't be used, the snapshot in use stays. As the file may be half written, the fault is reported only if
/// the file is still the same at the next look, and then once.
///
/// A snapshot of an older generation than the one in use is rejected, unless ``loadNow(acceptsOlder:)`` asks for it. It
/// is accepted if it has a later date and the file was missing for a moment: then its publisher counts from 1 again.
///
/// At most two snapshots are in memory.
public final class IndexWatcher: Sendable {
    /// The result of reading a new file.
    public enum Event: Sendable {
        /// The snapshot is in use.
        case loaded(IndexInfo)
        /// The file can't be used; the snapshot in use, if any, stays.
        case failed(IndexError)
    }

    private let path: String
    private let target: HotSwap<IndexSnapshot>
    private let interval: Duration
    private let report: @Sendable (Event) -> Void
    private let progress = Mutex(Progress())
    private let lifecycle = Mutex(Lifecycle.idle)
    private let stopping = SteadySemaphore()

    private enum Lifecycle { case idle, running(NamedThread), stopped }

    /// A watcher, not started yet.
    ///
    /// - Parameters:
    ///   - path: the snapshot file, which needn't exist.
    ///   - target: gets the snapshots.
    ///   - interval: the time between two looks at the file.
    ///   - report: called for each event, on the watcher's thread or in ``loadNow(acceptsOlder:)``.
    public init(
        path: String, into target: HotSwap<IndexSnapshot>, interval: Duration = .milliseconds(200),
        report: @escaping @Sendable (Event) -> Void
    ) {
        self.path = path
        self.target = target
        self.interval = interval
        self.report = report
    }

    deinit { stopping.signal() }

    /// Examines the file now, on the calling thread, and reports at once if it can't be used; a missing file isn't
    /// reported.
    ///
    /// - Parameter acceptsOlder: whether to accept a snapshot of an older generation than the one in use, because an
    ///   administrator asks for it.
    /// - Returns: whether a snapshot is in use.
    @discardableResult
    public func loadNow(acceptsOlder: Bool = false) -> Bool { look(atOnce: true, acceptsOlder: acceptsOlder) }

    /// Starts the thread; further calls do nothing.
    public func start() {
        lifecycle.withLock { lifecycle in
            guard case .idle = lifecycle else { return }
            lifecycle = .running(
                NamedThread.start("index") { [weak self, stopping, interval] in
                    while !stopping.wait(within: interval) { self?.look(atOnce: false) }
                })
        }
    }

    /// Ends the thread and waits for its end; no event comes afterwards. Must not be called within `report`.
    public func stop() {
        let state = lifecycle.withLock { lifecycle in
            defer { lifecycle = .stopped }
            return lifecycle
        }
        guard case .running(let thread) = state else { return }
        stopping.signal()
        thread.waitForEnd()
    }

    // MARK: Looks at the file

    private struct Progress {
        /// The last state of the file that was dealt with: loaded or reported.
        var settled: Sighting?
        /// A state that couldn't be used at the last look, and isn't reported yet.
        var suspect: Sighting?
        var isLoaded = false
        /// Whether the settled state is a sound snapshot that was rejected for its older generation.
        var isOlder = false
        /// The number of looks until the file is read again after a fault that may not be the file's, such as missing
        /// permission or no descriptor left. Nil for a fault of the file.
        var retryIn: Int?
    }

    /// The result of `stat(2)`.
    private enum Sighting: Equatable {
        case file(FileStamp)
        case missing
        case hidden(Int32)
    }

    /// Examines the file once; returns whether a snapshot is in use.
    ///
    /// - Parameters:
    ///   - atOnce: whether to report a file that can't be used at the first look.
    ///   - acceptsOlder: whether to accept a snapshot of an older generation than the one in use.
    @discardableResult
    func look(atOnce: Bool, acceptsOlder: Bool = false) -> Bool {
        // Only the thread and `loadNow` take the lock; readers of the snapshot take none.
        let (event, isLoaded) = progress.withLock { progress in
            (step(&progress, atOnce: atOnce, acceptsOlder: acceptsOlder), progress.isLoaded)
        }
        if let event { report(event) }
        return isLoaded
    }

    private func step(_ progress: inout Progress, atOnce: Bool, acceptsOlder: Bool) -> Event? {
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
                // An administrator who removes index and state makes the publisher count anew; an old copy has an
                // earlier date.
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
            // Sooner without a snapshot, as every recipient is deferred meanwhile.
            let isUnreadable = if case .unreadable = error.kind { true } else { false }
            progress.retryIn = !isUnreadable ? nil : progress.isLoaded ? 25 : 5
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
    /// The fault of a snapshot that is older than the one in use.
    fileprivate static func older(_ snapshot: IndexInfo, than inUse: IndexInfo) -> IndexFault {
        IndexFault(
            .older,
            "is of generation \(snapshot.generation), made \(snapshot.created.formatted(.iso8601)), and older than "
                + "generation \(inUse.generation), made \(inUse.created.formatted(.iso8601)), which is in use")
    }
}
