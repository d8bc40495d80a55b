import Foundation
import GRDB
import RecipientIndex
import RecipientSources

/// One pass of a sync over the sources, with its steps in order: see ``run()``.
///
/// For one thread. Sources are read by threads of their own, see ``SourceReader``.
final class SyncPass {
    let synchronizer: Synchronizer
    let state: SyncState
    var options: SyncOptions
    var report: SyncReport
    var previous: PreviousState
    /// The published index, as far as the steps have found or made it.
    var published = PublishedIndex()
    /// What reading each source came to, in the order of the configuration.
    var results: [SourceResult] = []
    /// The entries of all sources that were read.
    var entries = JoinedEntries([])

    var configuration: SyncConfiguration { synchronizer.configuration }
    var sources: [SourceReader] { synchronizer.sources }

    /// - Parameters:
    ///   - isSound: whether the state's entries are believed to be those of its list.
    ///   - notes: what the report says besides.
    init(
        _ synchronizer: Synchronizer, _ state: SyncState, _ options: SyncOptions, isSound: Bool = true,
        notes: [String] = []
    ) throws(SyncError) {
        self.synchronizer = synchronizer
        self.state = state
        self.options = options
        report = SyncReport(started: options.started)
        report.notes = notes
        previous = try PreviousState(
            state, synchronizer.configuration, canaries: synchronizer.canaries, clock: synchronizer.clock,
            isSound: isSound)
    }

    /// Reads the sources, compares their list with the last one, has the guards judge it, commits it and publishes its index.
    ///
    /// - Throws: `SyncError`; one that says unsound if the state's entries turn out not to be those of its list.
    func run() throws(SyncError) -> SyncReport {
        published = try findPublishedIndex()
        try synchronizer.hook(.opened)
        previous.adoptRelayTables(of: published.sources)
        if !options.isDryRun { try endGrace() }
        try readRelayDomains()
        try readSourcesOrStoreFailures()
        try synchronizer.hook(.read)
        if let approved = try approve() {
            try synchronizer.hook(.committed)
            // A cancelled sync publishes nothing.
            try options.check()
            try publish(approved.list, edited: approved.edited)
            try synchronizer.hook(.published)
        }
        if let leaving = synchronizer.leaving(in: state) {
            report.leaving = leaving.count
            report.nextLeaves = leaving.next
        }
        return report
    }

    /// Rejects the recipients whose grace is over: publishes the list without them. Before anything is read, since that may take long.
    private func endGrace() throws(SyncError) {
        // If this state didn't make the snapshot, comparing with the next list shows who has left.
        guard previous.isSound, published.unknown == nil, !published.isMissing else { return }
        let goneBy = synchronizer.graceStart(previous.time)
        let isDue = try state.transaction(.deferred) { database in
            (try SyncState.firstLeaving(database).map { $0 <= goneBy } ?? false, .commit)
        }
        guard isDue else { return }
        var list = previous.list
        var edited = editablePublishedIndex()
        try state.transaction(.immediate) { database in
            try SyncState.forEachLeaving(database, goneBy: goneBy) { key, _ in
                var key = key
                key.withUTF8 { edited?.set($0, nil) }
                report.left += 1
            }
            try SyncState.endGrace(database, goneBy: goneBy)
            _ = try SyncState.storeTime(database, synchronizer.clock)
            list.advance(created: list.created)
            list.leaving = try SyncState.leavingCount(database)
            try SyncState.store(list, database)
            return ((), .commit)
        }
        try synchronizer.hook(.committed)
        try options.check()
        try publish(list, edited: edited)
        report.outcome = .published
        previous.list = list
        published.info = try? RecipientIndex.IndexInfo(path: configuration.indexPath)
    }

    /// Asks the sources that are due for the relay domains that they name. The others, and those that don't answer, keep those that they
    /// named before. A source that has never answered isn't read: all its recipients would count as foreign.
    private func readRelayDomains() throws(SyncError) {
        var domains: [[RelayDomain]?] = []
        for (place, source) in sources.enumerated() {
            let record = previous.records[source.configuration.name]
            let before = record?.domains
            guard options.asksForDomains(place) && !source.isBusy || before == nil else {
                domains.append(before)
                continue
            }
            do throws(SyncError) {
                let check = options.check
                let request = ReadRequest(previous: record?.previous) { () throws(SourceError) in try askingSync(check)
                }
                domains.append(try source.relayDomains(request))
            } catch {
                if error.kind == .cancelled { throw error }
                try options.check()
                domains.append(before)
                if before == nil {
                    domainFailures[place] = error
                } else {
                    report.notes.append("the relay domains that the source named before stay: \(error)")
                }
            }
        }
        previous.setDomainsOfSources(domains)
    }

    /// Why sources that have never named their relay domains couldn't be asked now, by place.
    private(set) var domainFailures: [Int: SyncError] = [:]

    private func readSourcesOrStoreFailures() throws(SyncError) {
        do throws(SyncError) {
            try readSources()
        } catch {
            try options.check()
            if !options.isDryRun, error.kind != .cancelled {
                try? state.transaction(.immediate) { database in
                    try SyncState.store(failuresOf: report, database)
                    _ = try SyncState.storeTime(database, synchronizer.clock)
                    return ((), .commit)
                }
            }
            throw error
        }
    }
}
