import Foundation
import GRDB
import RecipientIndex
import RecipientSources

/// How the published recipient index relates to the state.
struct PublishedIndex {
    /// A sound snapshot that this state did not make: the state is new, older than the snapshot, or another one. A new list is compared
    /// with it, too.
    var unknown: IndexSnapshot?
    /// The header of the published snapshot, if this state made it last. The snapshot itself would take memory during the whole sync.
    var info: RecipientIndex.IndexInfo?
    /// Whether there is no snapshot at all.
    var isMissing = false
    /// The sources that the snapshot names.
    var sources: [IndexSource.Summary] = []

    var unknownGeneration: Int { unknown.map { Int(clamping: $0.info.generation) } ?? 0 }
}

extension IndexSource {
    /// The fields of a snapshot's source whose change calls for a new snapshot: all but the date.
    struct Summary: Equatable {
        var name: String
        var type: String
        var recipients: Int
        var relayDomains: [RelayDomain] = []
        var aliasDomains: [AliasDomain] = []
    }

    var summary: Summary {
        Summary(name: name, type: type, recipients: recipients, relayDomains: relayDomains, aliasDomains: aliasDomains)
    }
}

extension SyncPass {
    /// Finds the published index. If a crash or a failed write left it behind the state, the state's list is published first.
    func findPublishedIndex() throws(SyncError) -> PublishedIndex {
        let list = previous.list
        var fault: String?
        do throws(IndexError) {
            let info = try RecipientIndex.IndexInfo(path: configuration.indexPath)
            if isIndex(info, of: list.generation, list.created) {
                var published = PublishedIndex(info: info, sources: info.sources.map(\.summary))
                // The state has lost some of the entries that the snapshot was made from.
                if !previous.isSound { published.unknown = try IndexSnapshot(path: configuration.indexPath) }
                return published
            }
            if !isIndex(info, of: list.beforeGeneration, list.beforeCreated) || !previous.isSound {
                let snapshot = try IndexSnapshot(path: configuration.indexPath)
                report.notes.append(
                    "the published index was made from another sync state; Postern compares the new list with it by "
                        + "fingerprint, so it can't name the removed addresses")
                return PublishedIndex(unknown: snapshot, sources: snapshot.info.sources.map(\.summary))
            }
        } catch {
            // A state without a list has nothing else to compare a new list with.
            if list.generation == 0, !options.isDryRun, error.kind != .missing, error.kind != .damaged {
                throw SyncError(
                    .state, "the published index can't be read, so no new list can be compared with it: \(error)",
                    advice:
                        "check the permissions of \(configuration.indexPath), or remove it to have a new recipient index made"
                )
            }
            fault = "\(error)"
        }
        guard list.generation > 0, !options.isDryRun, previous.isSound else {
            return PublishedIndex(isMissing: list.generation == 0 || !previous.isSound)
        }
        report.notes.append(
            "the published index was \(fault.map { "unusable (\($0))" } ?? "older than the sync state"); "
                + "Postern wrote it again from the state")
        try options.check()
        try publish(list)
        let sources = try state.transaction(.deferred) { database in (try self.indexSources(database), .commit) }
        return PublishedIndex(
            info: try? RecipientIndex.IndexInfo(path: configuration.indexPath), sources: sources.map(\.summary))
    }

    private func isIndex(_ info: RecipientIndex.IndexInfo, of generation: Int, _ created: Date) -> Bool {
        generation > 0 && info.generation == UInt64(generation) && info.created.milliseconds == created.milliseconds
    }

    /// A builder with the published snapshot's entries; nil if the file has changed since the sync began, or can't be
    /// read.
    func editablePublishedIndex() -> IndexBuilder? {
        guard let info = published.info, let snapshot = try? IndexSnapshot(path: configuration.indexPath),
            snapshot.info == info
        else { return nil }
        return IndexBuilder(editing: snapshot)
    }

    /// The sources and relay tables of the state, as a snapshot names them.
    func indexSources(_ database: Database) throws -> [IndexSource] {
        // The keys of domains are neighbours: no other entries are read.
        let rows = try Row.fetchAll(
            database,
            sql: """
                SELECT source, substr(address, 2) AS name, object FROM entry
                WHERE address >= '@' AND address < 'A' AND flags & \(RecipientFlags.aliasDomain.rawValue)
                ORDER BY address, object
                """)
        var aliases: [Int64: [AliasDomain]] = [:]
        for row in rows {
            let target: Data = try row.value("object")
            aliases[try row.value("source"), default: []].append(
                .init(name: try row.value("name"), target: String(decoding: target, as: UTF8.self)))
        }
        let sources = try SyncState.sources(database).map { source in
            IndexSource(
                name: source.name, type: source.type, recipients: source.recipients, asOf: source.lastSynced,
                relayDomains: source.domains ?? [], aliasDomains: aliases[source.id] ?? [])
        }
        // A filter that finds a table cut short goes on relaying for the domains in the index until a sync approves their loss.
        let tables = try SyncState.relayTables(database).sorted { $0.key < $1.key }.map { path, domains in
            IndexSource(
                name: path, type: IndexSource.relayTable, recipients: 0, asOf: Date(milliseconds: 0),
                relayDomains: domains.map { .init(name: $0, takesAll: false) })
        }
        return sources + tables
    }

    /// Publishes the snapshot of the state's list.
    ///
    /// - Parameter edited: the last snapshot with all changes since. If it doesn't have as many recipients as the list (two of them may
    ///   share a fingerprint), the snapshot is made from the state.
    /// - Throws: `SyncError`; one that says unsound if the state's entries aren't those of the list.
    func publish(_ list: ApprovedList, edited: IndexBuilder? = nil) throws(SyncError) {
        let sources = try state.transaction(.deferred) { database in (try indexSources(database), .commit) }
        if let edited, edited.countAfterEdits == list.listed + list.leaving {
            return try write(edited, of: list, sources)
        }
        let builder = try state.transaction(.deferred) { database in
            var builder = IndexBuilder()
            // A number from a file: never worth more memory than a large list takes.
            builder.reserve(min(list.listed + list.leaving, 1 << 24))
            try Self.fill(&builder, from: EntryCursor(database))
            guard builder.count == list.listed else {
                throw SyncState.unsound(found: builder.count, expected: list.listed)
            }
            try SyncState.forEachLeaving(database) { key, flags in builder.add(key, flags.union(.leaving)) }
            return (builder, .commit)
        }
        try write(builder, of: list, sources)
    }

    private func write(
        _ builder: consuming IndexBuilder, of list: ApprovedList, _ sources: [IndexSource]
    ) throws(SyncError) {
        do throws(IndexError) {
            _ = try builder.publish(
                to: configuration.indexPath, created: list.created, generation: UInt64(list.generation),
                sources: sources)
        } catch {
            throw SyncError(
                .state, "the new list is approved, but its index can't be written; the next sync tries again: \(error)",
                advice: "make \(configuration.indexPath) and its folder writable for the filter's user")
        }
    }

    /// Adds each address once, with the restrictions that all its entries share.
    private static func fill(_ builder: inout IndexBuilder, from cursor: consuming EntryCursor) throws(SyncError) {
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
}
