import Foundation
import GRDB
import RecipientIndex
import RecipientSources
import System

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
    /// How each source was read, in the order of the configuration.
    var results: [SourceResult] = []
    /// The entries of all sources that were read.
    var entries = JoinedEntries([])

    var configuration: SyncConfiguration { synchronizer.configuration }
    var sources: [SourceReader] { synchronizer.sources }

    /// - Parameters:
    ///   - isSound: whether the state's entries are believed to be those of its list.
    ///   - notes: what the report says besides.
    init(
        _ synchronizer: Synchronizer, on state: SyncState, _ options: SyncOptions, isSound: Bool = true,
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
        if let leaving = synchronizer.leaving(in: state) { (report.leaving, report.nextLeaves) = leaving }
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
                let request = ReadRequest(previous: record?.previous) { () throws(SourceError) in
                    try askingSync(check)
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

    /// Why sources that have never named their relay domains couldn't be asked now, by the index in
    /// `configuration.sources`.
    private(set) var domainFailures: [Int: SyncError] = [:]

    private func readSourcesOrStoreFailures() throws(SyncError) {
        do throws(SyncError) { try readSources() } catch {
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

extension SyncPass {
    /// The names of the sources of a comparison: those of the configuration, then those that are no longer configured.
    var namesOfSources: [String] { configuration.sources.map(\.name) + previous.removedSources.map(\.name) }

    /// Compares the new list with the state's: all of it, or only the addresses that the sources' changes may concern.
    func compare(_ database: Database) throws -> ListChanges {
        let removed = previous.removedSources
        let isShort =
            removed.isEmpty && previous.isCounted && published.unknown == nil
            && results.allSatisfy { $0.reading != .full } && entries.changes.values.allSatisfy(\.isShort)
        var comparison = ListComparison(
            .init(
                entries: entries, kept: keptEntries + removed.map { _ in .none }, places: placesByID,
                names: namesOfSources, relay: previous.judgedDomains,
                canaries: synchronizer.canaries.map { Array($0.utf8) }, unknown: published.unknown,
                recorder: try LossRecorder(database),
                losesShownOnly: options.acceptsShrink && previous.list.refusal?.namesLosses == true,
                defersLost: configuration.grace > .zero, check: options.check),
            edited: isShort ? editablePublishedIndex() : nil, folder: folder(of: configuration.statePath))
        guard isShort else {
            let changes = try comparison.compare(EntryCursor(database))
            if previous.isSound, changes.sizeBefore.listed != previous.list.listed || changes.orphans > 0 {
                throw SyncState.unsound(found: changes.sizeBefore.listed, expected: previous.list.listed)
            }
            return changes
        }
        try collectAffectedAddresses(database)
        var changes = try comparison.compare(EntryCursor(database, affected: true))
        changes.extend(
            to: previous.list, sourcesBefore: configuration.sources.map { previous.records[$0.name]?.recipients ?? 0 },
            domainsBefore: previous.domainCounts, relay: previous.judgedDomains)
        return changes
    }

    /// For each configured source, which of its entries in the state stay.
    private var keptEntries: [KeptEntries] {
        results.enumerated().map { place, result in
            switch result.reading {
            case .full: .none
            case .changes: entries.changes[place].map(KeptEntries.allExcept) ?? .all
            case .unchanged, .failed: .all
            }
        }
    }

    /// The index of each source in `configuration.sources`, by its id in the state.
    private var placesByID: [Int: Int] {
        let places = namesOfSources.enumerated().compactMap { place, name in
            previous.records[name].map { (Int($0.id), place) }
        }
        return Dictionary(places, uniquingKeysWith: { $1 })
    }

    /// Collects the addresses that the changes may concern, and the canaries, which are looked for each time.
    private func collectAffectedAddresses(_ database: Database) throws {
        let affected = try AffectedAddresses(database)
        for (place, changes) in entries.changes {
            if let record = previous.records[configuration.sources[place].name] {
                for object in changes.replaced { try affected.add(object: object, source: record.id) }
            }
            try withBytes(of: changes.keys ?? []) { keys throws(SyncError) in
                for key in keys.split(separator: 0) { try affected.add(UnsafeBufferPointer(rebasing: key)) }
            }
        }
        for canary in synchronizer.canaries {
            try withBytes(of: Array(canary.utf8), affected.add)
        }
    }

    /// Puts the changes into the report.
    func describe(_ changes: ListChanges) {
        let size = changes.size
        report.recipients = size.listed - size.catchAllDomains - size.aliasDomains
        report.catchAllDomains = size.catchAllDomains
        report.aliasDomains = size.aliasDomains
        report.added = changes.added
        report.removed = changes.removed
        report.changed = changes.changed
        report.returned = changes.returned
        report.held = changes.held
        for place in report.sources.indices {
            report.sources[place].recipients = changes.sources[place].after
            guard report.sources[place].reading == .full else { continue }
            report.sources[place].report.duplicates = changes.duplicates[place]
            let unlisted = entries.unlistedTargets(ofSource: place, isAccepted: isAcceptedUnlisted)
            report.sources[place].report.unlistedTargets = unlisted.count > 0 ? unlisted : nil
        }
    }

    /// Whether the target of an alias needn't be listed.
    private func isAcceptedUnlisted(_ target: String) -> Bool {
        guard let at = target.lastIndex(of: "@") else { return false }
        return configuration.alwaysAccepted.contains(String(target[..<at]))
            || configuration.domainsWithoutList.contains(String(target[target.index(after: at)...]))
    }
}

/// The options of one sync.
struct SyncOptions {
    /// The indices in `configuration.sources` of the sources to read; nil for all.
    var due: Set<Int>?
    /// Whether a sync thread runs the sync: connections to directories stay open for the next one, and slow sources
    /// aren't waited for.
    var isThread = false
    /// Whether to read these sources in full, whatever is known of them.
    var readsAll = false
    /// Whether to write neither state nor index.
    var isDryRun = false
    /// Whether a person accepts a list that `max_shrink` refuses, and search references that are new.
    var acceptsShrink = false
    /// When the sync began.
    var started = Date()
    /// Called now and then; throws to end the sync.
    var check: () throws(SyncError) -> Void = { () throws(SyncError) in }

    func isDue(_ place: Int) -> Bool { due?.contains(place) ?? true }

    /// Whether to ask a source for its relay domains. They change seldom, so not at every change of its recipients.
    func asksForDomains(_ place: Int) -> Bool { due == nil || readsAll && isDue(place) }

    /// Whether all sources are read whose list was refused.
    func covers(_ refusal: Refusal, _ sources: [SourceConfiguration]) -> Bool {
        guard let due, let names = refusal.sources else { return due == nil }
        return sources.indices.allSatisfy { due.contains($0) || !names.contains(sources[$0].name) }
    }
}
