import Foundation
import GRDB
import RecipientIndex
import RecipientSources
import System

extension Synchronizer {
    /// Compares, judges and commits, in one transaction.
    ///
    /// - Returns: the decision to publish, and its snapshot if that is the one in force with some changes; nil if the one in
    ///   force stays.
    func decide(
        _ state: SyncState, _ known: Knowledge, _ baseline: Baseline, _ pulls: [Pull], _ intake: EntryIntake,
        _ scope: Scope, dryRun: Bool, acceptShrink: Bool, _ report: inout SyncReport,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> (decision: Decision, edited: IndexBuilder?)? {
        let gone = known.records.values.filter { record in !configuration.sources.contains { $0.name == record.name } }
            .sorted { $0.id < $1.id }
        for record in gone {
            report.notes.append(
                "source \"\(record.name)\" is no longer configured: its \(record.recipients) recipients go unless another source lists them"
            )
        }
        report.generation = known.decision.generation
        report.recipients = known.decision.recipients
        report.catchAllDomains = known.decision.catchAllDomains
        report.aliasDomains = known.decision.aliasDomains
        let nothingRead =
            known.decision.generation > 0 && gone.isEmpty && known.isSound
            && pulls.allSatisfy { $0.reading == .unchanged || $0.reading == .failed }
        // Something of no interest has changed in a directory, as it does all day.
        let isFailureNews = Set(report.failures.map(\.name)) != Set(known.failures.keys)
        if nothingRead, scope.due != nil, baseline.foreign == nil, !baseline.isMissing, !isFailureNews {
            report.refusalStands = known.decision.refusal != nil
            return nil
        }
        var draft = report
        let outcome: (decided: Decision?, refusal: Refusal?, edited: IndexBuilder?) = try state.transaction(
            dryRun ? .deferred : .immediate
        ) {
            database in
            var comparison: Comparison?
            var isAccepted = false
            if dryRun {
                // Nothing keeps another sync from publishing while this one reads.
                guard try SyncState.decision(database).generation == known.decision.generation else {
                    throw SyncError(
                        .locked, "another sync published a list while this one read its sources; try it again")
                }
            } else {
                try SyncState.forgetLosses(database, from: self.windowStart(known.time))
                if !known.isSound { try SyncState.deleteOrphans(database) }
            }
            if !nothingRead || baseline.foreign != nil {
                let result = try compare(
                    database, known, gone, baseline, pulls, intake,
                    acceptsShown: acceptShrink && known.decision.refusal?.restricted != nil, check)
                comparison = result
                self.describe(result, &draft)
                self.describe(intake.targets, &draft)
                let losses =
                    result.losesAny
                    ? try SyncState.windowLosses(database, from: self.windowStart(known.time)) : WindowLosses()
                let verdict = judge(result, known, gone, baseline, pulls, losses, &draft, acceptShrink: acceptShrink)
                isAccepted = verdict.isAccepted
                if let refusal = verdict.refusal {
                    if dryRun { return ((nil, refusal, nil), .rollback) }
                    return ((nil, try self.record(refusal, database, known, scope, draft), nil), .commit)
                }
            }
            try hook(.judged)
            if dryRun { return ((nil, nil, nil), .rollback) }
            draft.refusalStands = refusalStands(known.decision.refusal, scope, pulls)
            let decided = try self.commit(
                comparison, database, known, gone, baseline, pulls, draft, isAccepted: isAccepted, check)
            try check()
            return ((decided, nil, comparison?.edited), .commit)
        }
        report = draft
        if let refusal = outcome.refusal {
            report.refusal = refusal
            report.outcome = dryRun ? .dryRun : .refused
            if dryRun { return nil }
            try check()
            throw SyncError(
                .guardRefused, refusal.text(inForce: known.decision, baseline.foreign?.info), report: report)
        }
        if dryRun {
            report.outcome = .dryRun
        } else if let decided = outcome.decided {
            report.generation = decided.generation
            report.outcome =
                report.left + report.added.count + report.removed.count + report.changed.count + report.returned.count
                    > 0
                ? .published : .refreshed
        }
        return outcome.decided.map { ($0, outcome.edited) }
    }

    /// Whether a list that was refused still is: this sync read other sources, or one of its sources couldn't be read.
    private func refusalStands(_ refusal: Refusal?, _ scope: Scope, _ pulls: [Pull]) -> Bool {
        guard let refusal else { return false }
        guard scope.covers(refusal, configuration.sources) else { return true }
        return pulls.indices.contains { place in
            pulls[place].reading == .failed && refusal.sources?.contains(configuration.sources[place].name) ?? true
        }
    }

    private func compare(
        _ database: Database, _ known: Knowledge, _ gone: [SourceRecord], _ baseline: Baseline, _ pulls: [Pull],
        _ intake: EntryIntake, acceptsShown: Bool, _ check: @escaping () throws(SyncError) -> Void
    ) throws -> Comparison {
        var places: [Int: Int] = [:]
        for (place, source) in configuration.sources.enumerated() {
            if let record = known.records[source.name] { places[Int(record.id)] = place }
        }
        for (offset, record) in gone.enumerated() { places[Int(record.id)] = sources.count + offset }
        let retained = pulls.indices.map { place -> Retention in
            switch pulls[place].reading {
            case .full: .none
            case .changes: intake.changes[place].map(Retention.unless) ?? .all
            case .unchanged, .failed: .all
            }
        }
        let isShort =
            gone.isEmpty && known.isCounted && baseline.foreign == nil
            && pulls.allSatisfy { $0.reading != .full } && intake.changes.values.allSatisfy(\.isShort)
        let edited = isShort ? publishedKeys(baseline) : nil
        var comparer = Comparer(
            intake: intake, retained: retained + gone.map { _ in .none }, places: places,
            relay: known.relay, canaries: canaries.map { Array($0.utf8) }, foreign: baseline.foreign, edited: edited,
            losses: LossPolicy(
                recorder: try LossRecorder(database), acceptsShown: acceptsShown, defers: configuration.grace > .zero,
                sources: configuration.sources.map(\.name) + gone.map(\.name)),
            folder: folder(of: configuration.statePath), check: check)
        guard isShort else {
            let comparison = try comparer.compare(EntryCursor(database))
            if known.isSound, comparison.listedBefore != known.decision.listed || comparison.orphans > 0 {
                throw SyncState.unsound(found: comparison.listedBefore, expected: known.decision.listed)
            }
            return comparison
        }
        try collectAffected(database, known, intake)
        var comparison = try comparer.compare(EntryCursor(database, affected: true))
        comparison.widen(
            known.decision, sourcesBefore: configuration.sources.map { known.records[$0.name]?.recipients ?? 0 },
            domainsBefore: known.domains, relay: known.relay)
        return comparison
    }

    /// Puts together the addresses that changes may concern, and the canaries, which are looked at each time.
    private func collectAffected(_ database: Database, _ known: Knowledge, _ intake: EntryIntake) throws {
        let affected = try AffectedAddresses(database)
        for (place, changes) in intake.changes {
            if let record = known.records[configuration.sources[place].name] {
                for object in changes.replaced { try affected.add(object: object, source: record.id) }
            }
            var failure: SyncError?
            (changes.keys ?? []).withUnsafeBufferPointer { keys in
                for key in keys.split(separator: 0) where failure == nil {
                    do throws(SyncError) {
                        try affected.add(UnsafeBufferPointer(rebasing: key))
                    } catch { failure = error }
                }
            }
            if let failure { throw failure }
        }
        for canary in canaries {
            let key = Array(canary.utf8)
            try key.withUnsafeBufferPointer { key in
                Result { () throws(SyncError) in try affected.add(key) }
            }.get()
        }
    }

    /// Names the aliases of the tables that were read now whose target no source lists.
    private func describe(_ targets: AliasTargets, _ report: inout SyncReport) {
        for place in report.sources.indices where report.sources[place].reading == .full {
            let unlisted = targets.unlisted(source: place) { target in
                guard let at = target.lastIndex(of: "@") else { return false }
                return configuration.alwaysAccepted.contains(String(target[..<at]))
                    || configuration.domainsWithoutList.contains(String(target[target.index(after: at)...]))
            }
            report.sources[place].report.unlistedTargets = unlisted.count > 0 ? unlisted : nil
        }
    }

    private func describe(_ comparison: Comparison, _ report: inout SyncReport) {
        report.recipients = comparison.listed - comparison.catchAllDomains - comparison.aliasDomains
        report.catchAllDomains = comparison.catchAllDomains
        report.aliasDomains = comparison.aliasDomains
        report.returned = comparison.returned
        report.held = comparison.held
        report.added = comparison.added
        report.removed = comparison.removed
        report.changed = comparison.changed
        for place in report.sources.indices {
            report.sources[place].recipients = comparison.sources[place].after
            if report.sources[place].reading == .full {
                report.sources[place].report.duplicates = comparison.duplicates[place]
            }
        }
    }

    /// - Returns: why the list is refused, or whether it passes only because a person accepts it.
    private func judge(
        _ comparison: Comparison, _ known: Knowledge, _ gone: [SourceRecord], _ baseline: Baseline, _ pulls: [Pull],
        _ losses: WindowLosses, _ report: inout SyncReport, acceptShrink: Bool
    ) -> (refusal: Refusal?, isAccepted: Bool) {
        let guards = Guards(
            maxShrink: configuration.maxShrink, minimum: configuration.minimum, canaries: canaries)
        let domainsLost = known.domainsLost + comparison.redirected
        let lost = domainsLost.map {
            Refusal.Violation(rule: .maxShrink, scope: "relay domain \($0.domain)", text: $0.text)
        }
        let found =
            lost
            // A list that was there before is judged by what it was.
            + (baseline.foreign == nil
                ? guards.firstLists(report.sources, isFirst: { known.records[$0] == nil }) : [])
            + guards.fewer(than: known.isSound ? nil : known.decision.listed, comparison.listed)
            + guards.violations(
                comparison, sources: configuration.sources.map(\.name) + gone.map(\.name), configured: sources.count,
                read: pulls.map { $0.reading == .full || $0.reading == .changes },
                foreign: baseline.foreign.map { $0.info.entries - $0.info.leaving }, before: losses)
        let standing = acceptShrink ? found.filter { !isAccepted($0, shown: known.decision.refusal) } : found
        if standing.isEmpty {
            report.notes += found.map { "accepted: " + $0.text }
            // What was lost before is accepted with what is lost now.
            return (nil, found.contains { $0.rule == .maxShrink && !$0.scope.hasPrefix("relay domain ") })
        }
        let refusal = Refusal(
            time: report.started, violations: found, removed: comparison.removed.count,
            first: Array(comparison.removed.addresses.prefix(10)),
            sources: configuration.sources.indices.filter {
                pulls[$0].reading == .full || pulls[$0].reading == .changes
            }
            .map { configuration.sources[$0].name },
            restricted: comparison.total.restricted, domains: domainsLost.isEmpty ? nil : domainsLost.map(\.domain))
        return (refusal, false)
    }

    /// Whether a person who accepts a list accepts this: what can be overruled, and of that which isn't held back address by address only
    /// what was shown.
    private func isAccepted(_ violation: Refusal.Violation, shown: Refusal?) -> Bool {
        guard violation.isAcceptable else { return false }
        guard let shown, shown.restricted != nil else { return true }
        let same = shown.violations.filter { $0.rule == violation.rule && $0.scope == violation.scope }
        if let count = violation.count { return same.contains { $0.count.map { count <= $0 } ?? false } }
        return violation.scope.hasPrefix("relay domain ") || violation.rule == .faulty ? !same.isEmpty : true
    }

    /// The sync's time at which the window of the guard begins.
    func windowStart(_ now: Int64) -> Int64 { Self.time(now, before: configuration.shrinkWindow) }

    /// The sync's time before which those have gone whose time of grace is over.
    func graceStart(_ now: Int64) -> Int64 { Self.time(now, before: configuration.grace) }

    private static func time(_ now: Int64, before duration: Duration) -> Int64 {
        let length = Int64(exactly: (max(.zero, duration) / .milliseconds(1)).rounded()) ?? .max
        let (time, overflow) = now.subtractingReportingOverflow(length)
        return overflow ? .min : time
    }

    /// Keeps a refusal for a person to accept. A thread that meets the same refusal again, for the same reasons and with more that would
    /// go, keeps the one that was shown: only that can be accepted.
    ///
    /// - Returns: the one that is kept.
    private func record(
        _ refusal: Refusal, _ database: Database, _ known: Knowledge, _ scope: Scope, _ report: SyncReport
    ) throws -> Refusal {
        var decision = known.decision
        decision.refusal = refusal
        if scope.isStaying, var shown = known.decision.refusal, shown.restricted != nil,
            Set(shown.violations.map(\.scope)).isSubset(of: refusal.violations.map(\.scope)),
            try SyncState.losesAllRefused(database)
        {
            shown.waiting = refusal.removed > shown.removed ? refusal.removed : nil
            decision.refusal = shown
        } else {
            try SyncState.storeRefused(database)
        }
        try SyncState.store(decision, database)
        try SyncState.store(failures: Self.failures(report), at: report.started, database)
        _ = try SyncState.time(database, clock, isReading: false)
        return decision.refusal ?? refusal
    }

    /// Writes what changed. The decision is the caller's to publish; nil where the snapshot in force says it all.
    private func commit(
        _ comparison: Comparison?, _ database: Database, _ known: Knowledge, _ gone: [SourceRecord],
        _ baseline: Baseline, _ pulls: [Pull], _ report: SyncReport, isAccepted: Bool,
        _ check: () throws(SyncError) -> Void
    ) throws -> Decision? {
        let now = try SyncState.time(database, clock, isReading: false)
        var ids: [Int64] = []
        for (place, source) in configuration.sources.enumerated() {
            let pull = pulls[place]
            let valid = known.valid(source)
            ids.append(
                try SyncState.store(
                    SourceRecord(
                        id: 0, name: source.name, type: source.type, configuration: source,
                        fingerprint: known.fingerprint(of: source),
                        recipients: comparison?.sources[place].after ?? valid?.recipients ?? 0,
                        asOf: pull.asOf,
                        // What the state has of it isn't what it lists: it is read in full the next time.
                        cursor: comparison?.heldSources.contains(place) == true ? nil : pull.cursor,
                        state: pull.reading == .full
                            ? report.sources[place] : valid?.state?.with(faultsOf: report.sources[place]),
                        domains: known.domainsOfSources[place]), database))
        }
        if let comparison {
            try write(comparison, database, ids + gone.map(\.id), check)
            try SyncState.store(domains: comparison, database)
            try SyncState.keepLosses(
                database, now: now, wall: report.started, isAccepted: isAccepted,
                isDeferred: configuration.grace > .zero)
        }
        try SyncState.store(relayTables: configuration.relayTables, database)
        for (offset, record) in gone.enumerated() {
            // Its recipients that were held back are still its own.
            if comparison?.heldSources.contains(sources.count + offset) == true { continue }
            try database.execute(sql: "DELETE FROM source WHERE id = ?", arguments: [record.id])
        }
        try SyncState.store(failures: Self.failures(report), at: report.started, database)
        let created = Date(milliseconds: (pulls.map(\.asOf).min() ?? report.started).milliseconds)
        var decision = known.decision
        // A sync of other sources says nothing of the list that was refused.
        if !report.refusalStands {
            decision.refusal = nil
            try database.execute(sql: "DELETE FROM refused")
        }
        let sourcesChanged = try baseline.sources != indexSources(database).map(\.summary)
        guard
            comparison?.changesRecipients == true || baseline.foreign != nil || baseline.isMissing || sourcesChanged
                || isDue(created, since: decision.created)
        else {
            try SyncState.store(decision, database)
            return nil
        }
        decision.beforeGeneration = decision.generation
        decision.beforeCreated = decision.created
        decision.generation = max(decision.generation, baseline.foreignGeneration) + 1
        decision.created = created
        decision.recipients = report.recipients
        decision.catchAllDomains = report.catchAllDomains
        decision.aliasDomains = report.aliasDomains
        decision.leaving = try SyncState.leaving(database)
        try SyncState.store(decision, database)
        return decision
    }

    private func write(
        _ comparison: Comparison, _ database: Database, _ ids: [Int64], _ check: () throws(SyncError) -> Void
    ) throws(SyncError) {
        let writer = try EntryWriter(database)
        let files = [(comparison.deletions, true), (comparison.upserts, false)]
        for (file, isDeletion) in files {
            let reader = SpillReader(file, 0..<file.count)
            var count = 0
            while !reader.atEnd {
                let entry = try translatingErrors { () throws(SourceError) in
                    let header = try reader.next(EntryRecord.headerSize)
                    let (tag, flags, keySize) = EntryRecord.fields(header)
                    return EntryRecord.entry(
                        tag: tag, flags: flags, keySize: keySize, body: try reader.next(EntryRecord.bodySize(header)))
                }
                if isDeletion {
                    try writer.delete(entry, source: ids[entry.tag])
                } else {
                    try writer.insert(entry, source: ids[entry.tag])
                }
                count += 1
                if count & 0x1fff == 0 { try check() }
            }
        }
    }

    /// Whether a healthy list has become old enough to be dated anew, well before readers take it for stale; or was dated by
    /// a clock that ran ahead.
    private func isDue(_ created: Date, since last: Date) -> Bool {
        let limit = min(3_600, configuration.maxAge / .seconds(1) / 4)
        return abs(created.timeIntervalSince(last)) >= limit
    }
}
