import Dispatch
import Foundation
import Glibc
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

/// One sync of a sync thread.
public struct SyncRun: Sendable {
    /// What came of it.
    public var result: Result<SyncReport, SyncError>
    /// The names of the sources that were due.
    public var attempted: Set<String>
    /// How long it took.
    public var seconds: Double
}

/// Keeps the index up to date: syncs once at its start, then within about a second of a change that a directory tells or a file
/// shows, and otherwise at the configured interval; after a failure sooner, with a growing pause.
public final class SyncThread: Sendable {
    private enum Phase {
        case new, running, stopped
    }

    /// How often files are looked at. A changed file must look the same twice before it is read, so that one that is being
    /// written isn't read half.
    static let poll: Int32 = 500

    private let synchronizer: Synchronizer
    private let report: @Sendable (SyncEvent) -> Void
    private let ran: @Sendable (SyncRun) -> Void
    private let phase = Mutex(Phase.new)
    private let wake = WakeUp()
    private let ended = DispatchSemaphore(value: 0)
    private let isStopping = Atomic(false)

    /// A thread that runs this synchronizer, not started yet.
    ///
    /// - Parameters:
    ///   - ran: called on the thread after every sync, for metrics.
    ///   - report: called on the thread, one event at a time.
    public init(
        _ synchronizer: Synchronizer, ran: @escaping @Sendable (SyncRun) -> Void = { _ in },
        report: @escaping @Sendable (SyncEvent) -> Void
    ) {
        self.synchronizer = synchronizer
        self.ran = ran
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
            synchronizer.sources.forEach { $0.hangUp() }
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
            if let due = schedule.due(stamps, now: .now) {
                schedule.began(stamps, now: .now)
                let began = ContinuousClock.now
                let result = sync(due)
                if isStopping.load(ordering: .acquiring) { return }
                let names = synchronizer.configuration.sources.enumerated()
                    .filter { due.places?.contains($0.offset) ?? true }.map(\.element.name)
                ran(SyncRun(result: result, attempted: Set(names), seconds: (.now - began) / .seconds(1)))
                schedule.ended(result, due, now: .now)
                failures.events(after: result).forEach(report)
                returnFreeMemory()
            }
            waitForNews(&schedule)
        }
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
                    if isStopping.load(ordering: .acquiring) {
                        throw SyncError(.cancelled, "the sync was told to stop")
                    }
                })
        } catch {
            return .failure(error)
        }
    }
}

/// Wakes a thread that waits in poll(2), through a pipe.
private final class WakeUp: Sendable {
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
