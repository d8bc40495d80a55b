import GRDB
import RecipientIndex
import RecipientSources
import System

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
                canaries: synchronizer.canaries.map { Array($0.utf8) }, unknown: published.unknown),
            recorder: try LossRecorder(database),
            losesShownOnly: options.acceptsShrink && previous.list.refusal?.namesLosses == true,
            defersLost: configuration.grace > .zero, edited: isShort ? editablePublishedIndex() : nil,
            folder: folder(of: configuration.statePath), check: options.check)
        guard isShort else {
            let changes = try comparison.compare(EntryCursor(database))
            if previous.isSound, changes.listedBefore != previous.list.listed || changes.orphans > 0 {
                throw SyncState.unsound(found: changes.listedBefore, expected: previous.list.listed)
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
        results.indices.map { place in
            switch results[place].reading {
            case .full: .none
            case .changes: entries.changes[place].map(KeptEntries.allExcept) ?? .all
            case .unchanged, .failed: .all
            }
        }
    }

    /// The places of the sources by their ids in the state.
    private var placesByID: [Int: Int] {
        var places: [Int: Int] = [:]
        for (place, name) in namesOfSources.enumerated() {
            if let record = previous.records[name] { places[Int(record.id)] = place }
        }
        return places
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
            try withBytes(of: Array(canary.utf8)) { key throws(SyncError) in try affected.add(key) }
        }
    }

    /// Puts the changes into the report.
    func describe(_ changes: ListChanges) {
        report.recipients = changes.listed - changes.catchAllDomains - changes.aliasDomains
        report.catchAllDomains = changes.catchAllDomains
        report.aliasDomains = changes.aliasDomains
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
