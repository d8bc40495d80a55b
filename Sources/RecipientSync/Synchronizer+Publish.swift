import Foundation
import GRDB
import RecipientIndex
import RecipientSources

/// How the snapshot on disk relates to the state.
struct Baseline {
    /// A sound snapshot that this state did not make, with which a new list must be compared too: the state is new, or older than
    /// the snapshot, or another's.
    var foreign: IndexSnapshot?
    /// What the snapshot that this state made last says of itself, if it is the one on disk. The snapshot itself would be held in memory
    /// during the whole sync.
    var current: RecipientIndex.IndexInfo?
    /// Whether there is no snapshot at all.
    var isMissing = false
    /// The sources that the snapshot names.
    var sources: [IndexSource.Summary] = []

    var foreignGeneration: Int { foreign.map { Int(clamping: $0.info.generation) } ?? 0 }
}

extension IndexSource {
    /// What makes a snapshot's list of sources another one; their dates alone don't.
    struct Summary: Equatable {
        var name: String
        var type: String
        var recipients: Int
        var relayDomains: [IndexSource.RelayDomain] = []
        var aliasDomains: [IndexSource.AliasDomain] = []
    }

    var summary: Summary {
        Summary(name: name, type: type, recipients: recipients, relayDomains: relayDomains, aliasDomains: aliasDomains)
    }
}

extension Synchronizer {
    /// Finds out what is published, and publishes the state's list if a crash or a failed write left the snapshot behind it.
    func baseline(
        _ state: SyncState, _ known: inout Knowledge, dryRun: Bool, _ report: inout SyncReport,
        _ check: () throws(SyncError) -> Void
    ) throws(SyncError) -> Baseline {
        let decision = known.decision
        var fault: String?
        do throws(IndexError) {
            let info = try RecipientIndex.IndexInfo(path: configuration.indexPath)
            if Self.matches(info, decision.generation, decision.created) {
                var baseline = Baseline(current: info, sources: info.sources.map(\.summary))
                // The state has lost what it was made from.
                if !known.isSound { baseline.foreign = try IndexSnapshot(path: configuration.indexPath) }
                return baseline
            }
            if !Self.matches(info, decision.beforeGeneration, decision.beforeCreated) || !known.isSound {
                let snapshot = try IndexSnapshot(path: configuration.indexPath)
                report.notes.append(
                    "the published index was not made from this state: the new list is compared with it by fingerprint")
                return Baseline(foreign: snapshot, sources: snapshot.info.sources.map(\.summary))
            }
        } catch {
            // A state without a list has nothing else to hold a new list against.
            if decision.generation == 0, !dryRun, error.kind != .missing, error.kind != .damaged {
                throw SyncError(
                    .state, "the published index can't be read, so that a new list can't be compared with it: \(error)",
                    advice: "see to \(configuration.indexPath), or remove it if it may be made anew")
            }
            fault = "\(error)"
        }
        guard decision.generation > 0, !dryRun, known.isSound else {
            return Baseline(isMissing: decision.generation == 0 || !known.isSound)
        }
        report.notes.append(
            "the published index was \(fault.map { "unusable (\($0))" } ?? "one list behind the state"): it was made anew from the state"
        )
        try check()
        try publish(state, decision)
        let sources = try state.transaction(.deferred) { database in (try self.indexSources(database), .commit) }
        return Baseline(
            current: try? RecipientIndex.IndexInfo(path: configuration.indexPath), sources: sources.map(\.summary))
    }

    private static func matches(_ info: RecipientIndex.IndexInfo, _ generation: Int, _ created: Date) -> Bool {
        generation > 0 && info.generation == UInt64(generation) && info.created.milliseconds == created.milliseconds
    }

    /// The keys of the published snapshot, to be edited, if it is still the one that the baseline found; nil if it isn't or can't be read.
    func publishedKeys(_ baseline: Baseline) -> IndexBuilder? {
        guard let current = baseline.current, let snapshot = try? IndexSnapshot(path: configuration.indexPath),
            snapshot.info == current
        else { return nil }
        return IndexBuilder(editing: snapshot)
    }

    func indexSources(_ database: Database) throws -> [IndexSource] {
        // The keys of domains are neighbours, so that no other entry is looked at.
        let rows = try Row.fetchAll(
            database,
            sql: """
                SELECT source, substr(address, 2) AS name, object FROM entry
                WHERE address >= '@' AND address < 'A' AND flags & \(RecipientFlags.aliasDomain.rawValue)
                ORDER BY address, object
                """)
        var aliases: [Int64: [IndexSource.AliasDomain]] = [:]
        for row in rows {
            let target: Data = try row.value("object")
            aliases[try row.value("source"), default: []].append(
                .init(name: try row.value("name"), target: String(decoding: target, as: UTF8.self)))
        }
        let sources = try SyncState.sources(database).map { source in
            IndexSource(
                name: source.name, type: source.type, recipients: source.recipients, asOf: source.asOf,
                relayDomains: (source.domains ?? []).map { .init(name: $0.name, takesAll: $0.takesAll) },
                aliasDomains: aliases[source.id] ?? [])
        }
        // A filter that finds a table cut short goes on relaying for the domains that it has in the index, until the sync accepts that
        // they have gone.
        let tables = try SyncState.relayTables(database).sorted { $0.key < $1.key }.map { path, domains in
            IndexSource(
                name: path, type: IndexSource.relayTable, recipients: 0, asOf: Date(milliseconds: 0),
                relayDomains: domains.map { .init(name: $0, takesAll: false) })
        }
        return sources + tables
    }

    /// Makes the snapshot of the list in the state.
    ///
    /// - Parameter edited: the last snapshot with all that has changed since; one that doesn't come to as many recipients as the
    ///   list has (two of them may share a fingerprint) is made anew.
    /// - Throws: `SyncError`; one that says that the state isn't sound if its entries aren't those of the decision.
    func publish(_ state: SyncState, _ decision: Decision, edited: IndexBuilder? = nil) throws(SyncError) {
        let sources = try state.transaction(.deferred) { database in (try indexSources(database), .commit) }
        if let edited, edited.countAfterEdits == decision.listed + decision.leaving {
            return try write(edited, decision, sources)
        }
        let builder = try state.transaction(.deferred) { database in
            var builder = IndexBuilder()
            // A hint only, from a file: never worth more memory than a large list takes.
            builder.reserve(min(decision.listed + decision.leaving, 1 << 24))
            try Self.fill(&builder, from: EntryCursor(database))
            guard builder.count == decision.listed else {
                throw SyncState.unsound(found: builder.count, expected: decision.listed)
            }
            try SyncState.forEachLeaving(database) { key, flags in builder.add(key, flags.union(.leaving)) }
            return (builder, .commit)
        }
        try write(builder, decision, sources)
    }

    private func write(
        _ builder: IndexBuilder, _ decision: Decision, _ sources: [IndexSource]
    ) throws(SyncError) {
        var builder = builder
        do throws(IndexError) {
            _ = try builder.publish(
                to: configuration.indexPath, created: decision.created, generation: UInt64(decision.generation),
                sources: sources)
        } catch {
            throw SyncError(
                .state,
                "the new list is decided on but its index can't be written, the next sync tries again: \(error)",
                advice: "see to \(configuration.indexPath) and its folder: the filter's user writes the index there")
        }
    }

    /// Adds each address once, with the restrictions that all its entries share.
    private static func fill(
        _ builder: inout IndexBuilder, from cursor: consuming EntryCursor
    ) throws(SyncError) {
        var key: [UInt8] = []
        var flags: RecipientFlags?
        while let entry = try cursor.next() {
            let isSame = key.withUnsafeBufferPointer { $0.count == entry.key.count && $0.compare(entry.key) == 0 }
            if let known = flags, isSame {
                flags = known.merged(with: entry.flags)
                continue
            }
            if let flags { key.withUnsafeBufferPointer { builder.add($0, flags) } }
            key.removeAll(keepingCapacity: true)
            key.append(contentsOf: entry.key)
            flags = entry.flags
        }
        if let flags { key.withUnsafeBufferPointer { builder.add($0, flags) } }
    }

    /// Publishes the list without those recipients that have been leaving for the time of grace, before anything is read: reading may take
    /// long.
    func endGrace(
        _ state: SyncState, _ known: inout Knowledge, _ baseline: inout Baseline, _ report: inout SyncReport,
        _ check: () throws(SyncError) -> Void
    ) throws(SyncError) {
        // Without a snapshot of this state's, the next one shows who has left.
        guard known.isSound, baseline.foreign == nil, !baseline.isMissing else { return }
        let goneBy = graceStart(known.time)
        let isDue = try state.transaction(.deferred) { database in
            let found = try Bool.fetchOne(
                database, sql: "SELECT EXISTS (SELECT 1 FROM loss WHERE leaving = 1 AND at <= ?)", arguments: [goneBy])
            return (found ?? false, .commit)
        }
        guard isDue else { return }
        var decision = known.decision
        var edited = publishedKeys(baseline)
        let left = try state.transaction(.immediate) { database in
            var left = 0
            try SyncState.forEachLeaving(database, goneBy: goneBy) { key, _ in
                var key = key
                key.withUTF8 { edited?.set($0, nil) }
                left += 1
            }
            try SyncState.endGrace(database, goneBy: goneBy)
            _ = try SyncState.time(database, clock, isReading: false)
            decision.beforeGeneration = decision.generation
            decision.beforeCreated = decision.created
            decision.generation += 1
            decision.leaving = try SyncState.leaving(database)
            try SyncState.store(decision, database)
            return (left, .commit)
        }
        try hook(.committed)
        try check()
        try publish(state, decision, edited: edited)
        report.left = left
        report.outcome = .published
        known.decision = decision
        baseline.current = try? RecipientIndex.IndexInfo(path: configuration.indexPath)
    }
}
