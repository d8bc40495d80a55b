import Foundation
import RecipientSources
package import RecipientSync
import Synchronization

/// The syncs of this process, over all sync threads that reloads bring, and what the present thread does.
package final class SyncCounters: Sendable {
    /// What became of a sync.
    enum Result: String, CaseIterable {
        /// A new list is in force, or the old one was dated anew, or nothing has changed.
        case done
        /// A guard has refused the list.
        case refused
        /// A source, the state or the index file could not be read or written.
        case failed
    }

    /// A source, and how often it was read.
    struct Source: Sendable {
        /// The source as the last sync left it; nil before the first.
        var state: SourceState?
        /// The readings, failed ones included.
        var reads = 0
        /// How long they took in all, in seconds.
        var seconds = 0.0
        /// The failed readings.
        var failures = 0
    }

    /// The numbers at a moment.
    struct Reading: Sendable {
        /// The syncs by what became of them.
        var results: [Result: Int] = Dictionary(uniqueKeysWithValues: Result.allCases.map { ($0, 0) })
        /// How long they took in all.
        var seconds = 0.0
        /// When a sync was last done.
        var lastSuccess: Date?
        /// Whether the newest list is refused.
        var isRefused = false
        /// The sources by name.
        var sources: [String: Source] = [:]

        /// All syncs.
        var runs: Int { results.values.reduce(0, +) }
    }

    private let state = Mutex(Reading())
    private let thread = Mutex<SyncThread?>(nil)

    /// No sync yet. The sources are there from the beginning, so that their metrics begin at 0.
    package init(sources: [String]) { setSources(sources) }

    /// What the sync thread does now and next; nil without one.
    package var outlook: SyncOutlook? { thread.withLock { $0 }?.outlook }

    /// The numbers of now.
    var reading: Reading { state.withLock { $0 } }

    /// Names the present sync thread; nil if there is none any more.
    package func setThread(_ thread: SyncThread?) { self.thread.withLock { $0 = thread } }

    /// Names the sources of the configuration that comes into force; the numbers of others go.
    package func setSources(_ names: [String]) {
        state.withLock { state in
            state.sources = Dictionary(names.map { ($0, state.sources[$0] ?? Source()) }) { first, _ in first }
        }
    }

    /// Counts a sync.
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
                // Another sync is at work, or the filter ends.
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
