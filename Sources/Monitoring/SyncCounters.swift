import Foundation
package import RecipientIndex
import RecipientSources
package import RecipientSync
import Synchronization

/// Counts the syncs of this process. A reload replaces the sync thread, and the counts go on.
package final class SyncCounters: Sendable {
    /// The result of a sync.
    enum Result: String, CaseIterable {
        /// A new list is in use, or the old one is still current.
        case done
        /// A guard refused the list.
        case refused
        /// A source could not be read, or the state or the index file not be used.
        case failed
    }

    /// A source and its readings.
    struct Source: Sendable {
        /// The state after the last sync; nil before the first.
        var state: SourceState?
        /// The readings, failed ones included.
        var reads = 0
        /// Their total time.
        var seconds = 0.0
        var failures = 0
    }

    /// The counts at a moment.
    struct Reading: Sendable {
        var results: [Result: Int] = Dictionary(uniqueKeysWithValues: Result.allCases.map { ($0, 0) })
        /// The total time of the syncs.
        var seconds = 0.0
        /// The end of the last sync with the result `done`.
        var lastSuccess: Date?
        /// Whether a guard refuses the newest list.
        var isRefused = false
        var sources: [String: Source] = [:]

        /// The number of syncs.
        var runs: Int { results.values.reduce(0, +) }
    }

    private let state = Mutex(Reading())
    private let thread = Mutex<SyncThread?>(nil)

    /// Counters without a sync. The metrics of these sources begin at 0.
    package init(sources: [String]) { setSources(sources) }

    /// What the sync thread does now and next; nil without a sync thread.
    package var outlook: SyncOutlook? { thread.withLock { $0 }?.outlook }

    var reading: Reading { state.withLock { $0 } }

    /// Sets the sync thread, whose ``outlook`` is asked; nil if the filter has no sources any more.
    package func setThread(_ thread: SyncThread?) { self.thread.withLock { $0 = thread } }

    /// Sets the sources of a reloaded configuration; the counts of other sources are dropped.
    package func setSources(_ names: [String]) {
        state.withLock { state in
            state.sources = Dictionary(names.map { ($0, state.sources[$0] ?? Source()) }) { first, _ in first }
        }
    }

    /// Counts a sync that has ended.
    package func count(_ run: SyncRun) {
        state.withLock { state in
            let sources: [SourceState]
            let result: Result
            switch run.result {
            case .success(let report):
                sources = report.sources
                result = .done
                state.lastSuccess = Date()
                state.isRefused = report.refusalStands
            case .failure(let error):
                // Another sync is running, or the filter is stopping.
                if error.kind == .locked || error.kind == .cancelled { return }
                sources = error.sources
                result = error.kind == .guardRefused ? .refused : .failed
                if result == .refused { state.isRefused = true }
            }
            state.results[result, default: 0] += 1
            state.seconds += run.seconds
            for new in sources {
                guard var source = state.sources[new.name] else { continue }
                let lastSynced = new.lastSynced ?? source.state?.lastSynced
                source.state = new
                source.state?.lastSynced = lastSynced
                if run.attempted.contains(new.name) {
                    source.reads += 1
                    source.seconds += new.duration
                    if new.reading == .failed { source.failures += 1 }
                }
                state.sources[new.name] = source
            }
        }
    }
}

/// Counts the index files that were taken over or could not be used.
package final class IndexCounters: Sendable {
    private let loaded = Atomic<Int>(0)
    private let failed = Atomic<Int>(0)

    /// Counters at 0.
    package init() {}

    var loads: Int { loaded.load(ordering: .relaxed) }
    var failures: Int { failed.load(ordering: .relaxed) }

    /// Counts an event of the index file.
    package func count(_ event: IndexWatcher.Event) {
        switch event {
        case .loaded: loaded.add(1, ordering: .relaxed)
        case .failed: failed.add(1, ordering: .relaxed)
        }
    }
}
