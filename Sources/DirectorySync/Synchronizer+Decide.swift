import Foundation
import GRDB
import RecipientIndex
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
        let nothingRead =
            known.decision.generation > 0 && gone.isEmpty
            && pulls.allSatisfy { $0.reading == .unchanged || $0.reading == .failed }
        // Something of no interest has changed in a directory, as it does all day.
        if nothingRead, scope.due != nil, baseline.foreign == nil, !baseline.isMissing {
            report.refusalStands = known.decision.refusal != nil
            return nil
        }
        var draft = report
        let outcome: (decided: Decision?, refusal: Refusal?, edited: IndexBuilder?) = try state.transaction(
            dryRun ? .deferred : .immediate
        ) {
            database in
            var comparison: Comparison?
            if !nothingRead || baseline.foreign != nil {
                let result = try compare(database, known, gone, baseline, pulls, intake, check)
                comparison = result
                self.describe(result, &draft)
                let refusal = judge(result, known, gone, baseline, pulls, &draft, acceptShrink: acceptShrink)
                if let refusal { return ((nil, refusal, nil), .rollback) }
            }
            try hook(.judged)
            if dryRun { return ((nil, nil, nil), .rollback) }
            draft.refusalStands = known.decision.refusal.map { !scope.covers($0, configuration.sources) } ?? false
            let decided = try self.commit(comparison, database, known, gone, baseline, pulls, draft, check)
            try check()
            return ((decided, nil, comparison?.edited), .commit)
        }
        report = draft
        if let refusal = outcome.refusal {
            report.refusal = refusal
            report.outcome = dryRun ? .dryRun : .refused
            if dryRun { return nil }
            try check()
            try refuse(refusal, known.decision, report, state)
        }
        if dryRun {
            report.outcome = .dryRun
        } else if let decided = outcome.decided {
            report.generation = decided.generation
            report.outcome =
                report.added.count + report.removed.count + report.changed.count > 0 ? .published : .refreshed
        }
        return outcome.decided.map { ($0, outcome.edited) }
    }

    private func compare(
        _ database: Database, _ known: Knowledge, _ gone: [SourceRecord], _ baseline: Baseline, _ pulls: [Pull],
        _ intake: EntryIntake, _ check: @escaping () throws(SyncError) -> Void
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
            folder: folder(of: configuration.statePath), check: check)
        guard isShort else { return try comparer.compare(EntryCursor(database)) }
        try collectAffected(database, known, intake)
        var comparison = try comparer.compare(EntryCursor(database, affected: true))
        comparison.widen(
            listed: known.decision.recipients + known.decision.catchAllDomains,
            catchAllDomains: known.decision.catchAllDomains,
            sourcesBefore: configuration.sources.map { known.records[$0.name]?.recipients ?? 0 },
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

    private func describe(_ comparison: Comparison, _ report: inout SyncReport) {
        report.recipients = comparison.listed - comparison.catchAllDomains
        report.catchAllDomains = comparison.catchAllDomains
        report.added = comparison.added
        report.removed = comparison.removed
        report.changed = comparison.changed
        for place in report.sources.indices {
            report.sources[place].listed = comparison.sources[place].after
            if report.sources[place].reading == .full {
                report.sources[place].duplicates = comparison.duplicates[place]
            }
        }
    }

    private func judge(
        _ comparison: Comparison, _ known: Knowledge, _ gone: [SourceRecord], _ baseline: Baseline, _ pulls: [Pull],
        _ report: inout SyncReport, acceptShrink: Bool
    ) -> Refusal? {
        let guards = Guards(
            maxShrink: configuration.maxShrink, minimum: configuration.minimum, canaries: canaries)
        let lost = known.domainsLost.map {
            Refusal.Violation(rule: .maxShrink, scope: "relay domain \($0.domain)", text: $0.text)
        }
        let found =
            lost
            + guards.violations(
                comparison, sources: configuration.sources.map(\.name) + gone.map(\.name), configured: sources.count,
                read: pulls.map { $0.reading == .full || $0.reading == .changes },
                foreign: baseline.foreign?.info.entries)
        let standing = acceptShrink ? found.filter { $0.rule != .maxShrink } : found
        if standing.isEmpty {
            report.notes += found.map { "accepted: " + $0.text }
            return nil
        }
        return Refusal(
            time: report.started, violations: standing, removed: comparison.removed.count,
            first: Array(comparison.removed.addresses.prefix(10)),
            sources: configuration.sources.indices.filter {
                pulls[$0].reading == .full || pulls[$0].reading == .changes
            }
            .map { configuration.sources[$0].name })
    }

    private func refuse(
        _ refusal: Refusal, _ decision: Decision, _ report: SyncReport, _ state: SyncState
    ) throws(SyncError) {
        var kept = decision
        kept.refusal = refusal
        let remembered = kept
        try state.transaction(.immediate) { database in
            try SyncState.store(remembered, database)
            try SyncState.store(failures: Self.failures(report), at: report.started, database)
            return ((), .commit)
        }
        throw SyncError(.guardRefused, refusal.text(inForce: decision), report: report)
    }

    /// Writes what changed. The decision is the caller's to publish; nil where the snapshot in force says it all.
    private func commit(
        _ comparison: Comparison?, _ database: Database, _ known: Knowledge, _ gone: [SourceRecord],
        _ baseline: Baseline, _ pulls: [Pull], _ report: SyncReport, _ check: () throws(SyncError) -> Void
    ) throws -> Decision? {
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
                        asOf: pull.asOf, cursor: pull.cursor,
                        report: pull.reading == .full
                            ? report.sources[place] : valid?.report?.with(faultsOf: report.sources[place]),
                        domains: known.domainsOfSources[place]), database))
        }
        if let comparison {
            try write(comparison, database, ids + gone.map(\.id), check)
            try SyncState.store(domains: comparison, database)
        }
        for record in gone {
            try database.execute(sql: "DELETE FROM source WHERE id = ?", arguments: [record.id])
        }
        try SyncState.store(failures: Self.failures(report), at: report.started, database)
        let created = Date(milliseconds: (pulls.map(\.asOf).min() ?? report.started).milliseconds)
        var decision = known.decision
        // A sync of other sources says nothing of the list that was refused.
        if !report.refusalStands { decision.refusal = nil }
        let sourcesChanged = try baseline.sources != indexSources(database)
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
                let header = try reader.next(EntryRecord.headerSize)
                let (tag, flags, keySize) = EntryRecord.fields(header)
                let entry = EntryRecord.entry(
                    tag: tag, flags: flags, keySize: keySize, body: try reader.next(EntryRecord.bodySize(header)))
                if isDeletion {
                    try writer.delete(entry, source: ids[tag])
                } else {
                    try writer.insert(entry, source: ids[tag])
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
