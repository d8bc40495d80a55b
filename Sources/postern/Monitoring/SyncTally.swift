import Foundation
import RecipientSources
import RecipientSync
import Synchronization

/// What the syncs of this process came to, over all sync threads that reloads bring.
final class SyncTally: Sendable {
    /// What became of a sync.
    enum Outcome: String, CaseIterable {
        /// A new list is in force, or the old one dated anew, or nothing has changed.
        case done
        /// A guard has refused the list.
        case refused
        /// A source, the state or the snapshot could not be read or written.
        case failed
    }

    /// One source.
    struct Source: Sendable {
        var type = ""
        /// How often it was read, or tried to be, and the seconds of that.
        var reads = 0
        var seconds = 0.0
        var failures = 0
        /// Whether the last try failed.
        var isFailing = false
        /// When it was last known to be as the state has it.
        var asOf: Date?
        /// Entries that list nobody though they seem meant to, and listed ones that are in doubt.
        var faulty = 0
        var doubtful = 0
    }

    /// All of it.
    struct Reading: Sendable {
        var outcomes: [Outcome: Int] = Dictionary(uniqueKeysWithValues: Outcome.allCases.map { ($0, 0) })
        var seconds = 0.0
        /// When the last sync ended well.
        var lastSuccess: Date?
        /// Whether the list that a guard refused is refused still.
        var isRefused = false
        var sources: [String: Source] = [:]

        var runs: Int { outcomes.values.reduce(0, +) }
    }

    private let state = Mutex(Reading())
    private let thread = Mutex<SyncThread?>(nil)

    /// The sync thread of now, if there is one.
    func watch(_ thread: SyncThread?) { self.thread.withLock { $0 = thread } }

    /// What the sync thread does now and next; nil without one.
    var outlook: SyncOutlook? { thread.withLock { $0 }?.outlook }

    /// Nothing yet; the sources are there from the beginning, so that what is counted begins at 0.
    init(_ configuration: Configuration) { expect(configuration) }

    /// Takes over the sources of a configuration that comes into force; those that are gone go.
    func expect(_ configuration: Configuration) {
        state.withLock { state in
            var sources: [String: Source] = [:]
            for source in configuration.sync.sources {
                sources[source.name] = state.sources[source.name] ?? Source()
            }
            state.sources = sources
        }
    }

    /// Counts a sync.
    func take(_ run: SyncRun) {
        state.withLock { state in
            let reports: [SourceState]
            let outcome: Outcome
            switch run.result {
            case .success(let report):
                reports = report.sources
                outcome = .done
                state.lastSuccess = Date()
                state.isRefused = report.refusalStands
            case .failure(let error):
                // Someone else is at it, or the filter ends.
                if error.kind == .locked || error.kind == .cancelled { return }
                reports = error.sources
                outcome = error.kind == .guardRefused ? .refused : .failed
                if outcome == .refused { state.isRefused = true }
            }
            state.outcomes[outcome, default: 0] += 1
            state.seconds += run.seconds
            for report in reports {
                guard var source = state.sources[report.name] else { continue }
                source.type = report.type
                source.asOf = report.lastSynced ?? source.asOf
                source.faulty = report.report.faults.count + report.report.domainFaults.count
                source.doubtful = report.report.doubts.count
                source.isFailing = report.reading == .failed
                if run.attempted.contains(report.name) {
                    source.reads += 1
                    source.seconds += report.duration
                    if source.isFailing { source.failures += 1 }
                }
                state.sources[report.name] = source
            }
        }
    }

    var reading: Reading { state.withLock { $0 } }
}
