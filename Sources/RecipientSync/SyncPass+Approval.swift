import Foundation
import GRDB
import RecipientIndex
import RecipientSources

extension SyncPass {
    /// The outcome for a new list.
    private enum Decision {
        /// The guards refused it.
        case refused(Refusal)
        /// The guards approved it, and its snapshot is to be published: made from the state, or by editing the published one.
        case approved(ApprovedList, edited: IndexBuilder?)
        /// The published snapshot stays: it has the same list and is recent enough, or this is a dry run.
        case unchanged
    }

    /// Compares the new list with the state's, has the guards judge it and commits it, in one transaction.
    ///
    /// - Returns: the list to publish, and its snapshot if that is the published one with some changes; nil if the published one stays.
    /// - Throws: `SyncError` of kind `guardRefused` if the guards refuse the list, unless this is a dry run.
    func approve() throws(SyncError) -> (list: ApprovedList, edited: IndexBuilder?)? {
        report.notes += previous.removedSources.map {
            "source \"\($0.name)\" is no longer configured: its \($0.recipients) recipients go unless another source lists them"
        }
        let list = previous.list
        (report.generation, report.recipients) = (list.generation, list.recipients)
        (report.catchAllDomains, report.aliasDomains) = (list.catchAllDomains, list.aliasDomains)
        let hasNewFailures = Set(report.failures.map(\.name)) != Set(previous.failures.keys)
        if !hasNewList, options.due != nil, published.unknown == nil, !published.isMissing, !hasNewFailures {
            // A directory changes all day in ways that don't concern recipients.
            report.refusalStands = list.refusal != nil
            return nil
        }
        let decision = try state.transaction(options.isDryRun ? .deferred : .immediate) { database in
            let decision = try decide(database)
            return (decision, options.isDryRun ? .rollback : .commit)
        }
        switch decision {
        case .refused(let refusal):
            report.refusal = refusal
            report.outcome = options.isDryRun ? .dryRun : .refused
            if options.isDryRun { return nil }
            try options.check()
            throw SyncError(
                .guardRefused, refusal.text(inForce: list, unknown: published.unknown?.info), report: report)
        case .approved(let list, let edited):
            report.generation = list.generation
            report.outcome = report.differences > 0 ? .published : .refreshed
            return (list, edited)
        case .unchanged:
            if options.isDryRun { report.outcome = .dryRun }
            return nil
        }
    }

    /// Whether a source was read, or one of the state isn't configured any more.
    private var hasNewList: Bool {
        previous.list.generation == 0 || !previous.removedSources.isEmpty || !previous.isSound
            || results.contains(where: \.isNew)
    }

    private func decide(_ database: Database) throws -> Decision {
        let windowStart = synchronizer.windowStart(previous.time)
        if options.isDryRun {
            // Nothing keeps another sync from publishing while this one reads.
            guard try SyncState.approvedList(database).generation == previous.list.generation else {
                throw SyncError(.locked, "another sync published a list while this one read its sources; try again")
            }
        } else {
            try SyncState.deleteLosses(database, before: windowStart)
            if !previous.isSound { try SyncState.deleteOrphans(database) }
        }
        var changes: ListChanges?
        var isAccepted = false
        if hasNewList || published.unknown != nil {
            let found = try compare(database)
            changes = found
            describe(found)
            let losses = found.losesAny ? try SyncState.windowLosses(database, since: windowStart) : WindowLosses()
            let refusal: Refusal?
            (refusal, isAccepted) = judge(found, before: losses)
            if let refusal { return .refused(options.isDryRun ? refusal : try store(refusal, database)) }
        }
        try synchronizer.hook(.judged)
        if options.isDryRun { return .unchanged }
        report.refusalStands = refusalStands
        let list = try commit(changes, database, isAccepted: isAccepted)
        try options.check()
        return list.map { .approved($0, edited: changes?.edited) } ?? .unchanged
    }

    // MARK: The guards

    /// - Returns: why the guards refuse the list, or whether they approve it only because a person accepts it.
    private func judge(
        _ changes: ListChanges, before losses: WindowLosses
    ) -> (refusal: Refusal?, isAccepted: Bool) {
        let guards = Guards(
            maxShrink: configuration.maxShrink, minimum: configuration.minimum, canaries: synchronizer.canaries)
        let domainChanges = previous.relayDomainChanges + changes.redirected
        var found = domainChanges.map(Refusal.Violation.relayDomain)
        if published.unknown == nil {
            // With another state's snapshot, a list that is new to this state isn't the first one.
            found += guards.violations(ofFirstLists: report.sources) { previous.records[$0] == nil }
        }
        if !previous.isSound {
            found += guards.violations(listed: changes.size.listed, insteadOf: previous.list.listed)
        }
        found += guards.violations(
            changes, sources: namesOfSources, configured: sources.count, read: results.map(\.isNew),
            unknown: published.unknown.map { $0.info.entries - $0.info.leaving }, before: losses)
        let shown = previous.list.refusal
        let standing = options.acceptsShrink ? found.filter { !isAccepted($0, shown: shown) } : found
        if standing.isEmpty {
            report.notes += found.map { "accepted: " + $0.text }
            // The earlier losses of the window are accepted together with those of now.
            return (nil, found.contains { $0.rule == .maxShrink && !$0.concernsRelayDomain })
        }
        let refusal = Refusal(
            time: report.started, violations: found, removed: changes.removed.count,
            first: Array(changes.removed.addresses.prefix(10)),
            sources: configuration.sources.indices.filter { results[$0].isNew }.map { configuration.sources[$0].name },
            restricted: changes.total.losses.restricted,
            domains: domainChanges.isEmpty ? nil : domainChanges.map(\.domain))
        return (refusal, false)
    }

    /// Whether a person who accepts a list accepts this violation. Losses without known addresses must be among those that were shown.
    private func isAccepted(_ violation: Refusal.Violation, shown: Refusal?) -> Bool {
        guard violation.isAcceptable else { return false }
        guard let shown, shown.namesLosses else { return true }
        let same = shown.violations.filter { $0.rule == violation.rule && $0.scope == violation.scope }
        if let count = violation.count { return same.contains { $0.count.map { count <= $0 } ?? false } }
        return violation.concernsRelayDomain || violation.rule == .faulty ? !same.isEmpty : true
    }

    /// Stores a refusal for a person to accept.
    ///
    /// If a sync thread's list is refused again for the same reasons and with more losses, the refusal that was shown stays: a person can
    /// accept its losses only.
    ///
    /// - Returns: the refusal that is stored.
    private func store(_ refusal: Refusal, _ database: Database) throws -> Refusal {
        var list = previous.list
        list.refusal = refusal
        if options.isThread, var shown = previous.list.refusal, shown.namesLosses,
            Set(shown.violations.map(\.scope)).isSubset(of: refusal.violations.map(\.scope)),
            try SyncState.losesAllRefused(database)
        {
            shown.waiting = refusal.removed > shown.removed ? refusal.removed : nil
            list.refusal = shown
        } else {
            try SyncState.storeRefused(database)
        }
        try SyncState.store(list, database)
        try SyncState.store(failuresOf: report, database)
        _ = try SyncState.storeTime(database, synchronizer.clock)
        return list.refusal ?? refusal
    }

    /// Whether an earlier list is still refused, because this pass didn't read all of its sources.
    private var refusalStands: Bool {
        guard let refusal = previous.list.refusal else { return false }
        guard options.covers(refusal, configuration.sources) else { return true }
        return results.indices.contains { place in
            results[place].reading == .failed && refusal.sources?.contains(configuration.sources[place].name) ?? true
        }
    }

    // MARK: The state

    /// Writes the new list to the state.
    ///
    /// - Returns: the list to publish; nil if the published snapshot has the same list and is recent enough.
    private func commit(_ changes: ListChanges?, _ database: Database, isAccepted: Bool) throws -> ApprovedList? {
        let now = try SyncState.storeTime(database, synchronizer.clock)
        let ids = try storeSources(changes, database)
        if let changes {
            try write(changes, database, ids: ids + previous.removedSources.map(\.id))
            try SyncState.store(domains: changes, database)
            try SyncState.keepLosses(
                database, now: now, wall: report.started, isAccepted: isAccepted,
                isDeferred: configuration.grace > .zero)
        }
        try SyncState.store(relayTables: configuration.relayTables, database)
        for (offset, record) in previous.removedSources.enumerated() {
            // A source some of whose losses are held back still has entries.
            if changes?.heldSources.contains(sources.count + offset) == true { continue }
            try SyncState.deleteSource(record.id, database)
        }
        try SyncState.store(failuresOf: report, database)
        var list = previous.list
        if !report.refusalStands {
            list.refusal = nil
            try SyncState.deleteRefused(database)
        }
        let created = Date(milliseconds: (results.map(\.asOf).min() ?? report.started).milliseconds)
        let sourcesChanged = try published.sources != indexSources(database).map(\.summary)
        guard
            changes?.changesRecipients == true || published.unknown != nil || published.isMissing || sourcesChanged
                || isRefreshDue(created, after: list.created)
        else {
            try SyncState.store(list, database)
            return nil
        }
        list.advance(created: created, after: published.unknownGeneration)
        list.recipients = report.recipients
        (list.catchAllDomains, list.aliasDomains) = (report.catchAllDomains, report.aliasDomains)
        list.leaving = try SyncState.leavingCount(database)
        try SyncState.store(list, database)
        return list
    }

    /// - Returns: the ids of the configured sources.
    private func storeSources(_ changes: ListChanges?, _ database: Database) throws -> [Int64] {
        try configuration.sources.enumerated().map { place, source in
            let valid = previous.validRecord(of: source)
            let described = report.sources[place]
            return try SyncState.store(
                SourceRecord(
                    name: source.name, type: source.type, configuration: source,
                    fingerprint: previous.fingerprint(of: source),
                    recipients: changes?.sources[place].after ?? valid?.recipients ?? 0,
                    lastSynced: results[place].asOf,
                    // A source some of whose losses are held back is read in full the next time.
                    cursor: changes?.heldSources.contains(place) == true ? nil : results[place].cursor,
                    state: results[place].reading == .full ? described : valid?.state?.with(faultsOf: described),
                    domains: previous.domainsOfSources[place]), database)
        }
    }

    /// Writes the changed entries.
    ///
    /// - Parameter ids: the ids of the sources in the state, in the order of `configuration.sources`.
    private func write(_ changes: ListChanges, _ database: Database, ids: [Int64]) throws(SyncError) {
        let writer = try EntryWriter(database)
        for (file, write) in [(changes.deletions, writer.delete), (changes.upserts, writer.insert)] {
            let reader = EntryFile.Reader(file)
            var count = 0
            while let entry = try translatingErrors({ () throws(SourceError) in try reader.next() }) {
                try write(entry, ids[entry.tag])
                count += 1
                if count & 0x1fff == 0 { try options.check() }
            }
        }
    }

    /// Whether an unchanged list gets a new date: long before readers take it for stale, or because a clock that was ahead dated it.
    private func isRefreshDue(_ created: Date, after last: Date) -> Bool {
        let limit = min(3_600, configuration.maxAge / .seconds(1) / 4)
        return abs(created.timeIntervalSince(last)) >= limit
    }
}

extension SourceResult {
    /// Whether it gave entries: all of them, or those that have changed.
    var isNew: Bool { reading == .full || reading == .changes }
}
