import Synchronization

/// Collects the entries of a source's pulls, or joins those of several sources. For one thread at a time.
package final class EntryIntake {
    private let sorter: EntrySorter?
    /// The source of each tag; nil for a pull that was given up, whose entries are passed over.
    private var owners: [Int?] = []
    /// The domains that each source may feed.
    private let filters: [DomainFilter]
    /// The objects that each pull of changes replaces, by source.
    package private(set) var changes: [Int: ObjectChanges] = [:]
    /// The intakes that are joined, by source.
    private let parts: [(source: Int, intake: EntryIntake)]
    private let progress: PullProgress
    /// Where the aliases of tables lead.
    package let targets: AliasTargets

    package init(
        folder: String, filters: [DomainFilter], capacity: Int = 8 << 20, progress: PullProgress = PullProgress()
    ) {
        sorter = EntrySorter(folder: folder, capacity: capacity)
        self.filters = filters
        self.progress = progress
        targets = AliasTargets()
        parts = []
    }

    /// Joins what several sources have given, each into an intake of its own; nothing is added afterwards. Its tags are the sources.
    package init(joining parts: [(source: Int, intake: EntryIntake)]) {
        sorter = nil
        filters = []
        progress = PullProgress()
        targets = AliasTargets(joining: parts.map(\.intake.targets))
        self.parts = parts
        for part in parts { changes[part.source] = part.intake.changes[part.source] }
    }

    package var failure: SourceError? { sorter?.failure ?? parts.lazy.compactMap(\.intake.failure).first }

    /// Begins a pull of a source; entries of an earlier one of the same source no longer count.
    ///
    /// - Parameter changes: whether the entries replace some objects only.
    package func begin(source: Int, changes: Bool = false) -> Int {
        void(source: source)
        owners.append(source)
        if changes { self.changes[source] = ObjectChanges() }
        return owners.count - 1
    }

    package func void(source: Int) {
        for tag in owners.indices where owners[tag] == source { owners[tag] = nil }
        targets.forget(source: source)
        changes[source] = nil
    }

    /// Notes that an object has changed or gone: of its entries in the state only those stay that come again.
    package func replace(_ object: [UInt8], source: Int) {
        changes[source]?.replaced.insert(object)
    }

    /// Notes that of the objects whose names begin so only those are still there that are in the set or are replaced.
    package func keepOnly(_ present: Set<ObjectID>, prefix: UInt8, source: Int) {
        changes[source]?.present[prefix] = present
    }

    package func owner(of tag: Int) -> Int? {
        if sorter == nil { return tag }
        return owners.indices.contains(tag) ? owners[tag] : nil
    }

    /// Whether a source may list recipients of a domain.
    package func admits(_ domain: UnsafeBufferPointer<UInt8>, source: Int) -> Bool {
        filters[source].admits(domain)
    }

    /// Whether a domain is relayed for, whichever source may list its recipients.
    func relays(_ domain: UnsafeBufferPointer<UInt8>) -> Bool { filters.first?.relays(domain) ?? false }

    func relays(_ domain: String) -> Bool {
        var domain = domain
        return domain.withUTF8 { relays($0) }
    }

    /// Tells those who look on that reading waits for something, or no longer does.
    package func wait(for reason: String?) { progress.waitsFor = reason }

    /// Counts an entry that was read, for those who look on.
    package func countEntry() { progress.countEntry() }

    package func add(_ entry: Entry) {
        if let owner = owner(of: entry.tag) { changes[owner]?.note(entry.key) }
        sorter?.add(entry)
    }

    package func finish() throws(SourceError) -> SortedEntries {
        if let sorter { return try sorter.finish() }
        var sorted: [SortedEntries.Part] = []
        for (source, intake) in parts {
            sorted.append(
                SortedEntries.Part(
                    entries: try intake.finish(), tag: { intake.owner(of: $0) == nil ? nil : source }))
        }
        return try SortedEntries(joining: sorted)
    }
}

/// How far a pull is, for other threads to look at.
package final class PullProgress: Sendable {
    package init() {}

    private let count = Atomic(0)
    private let reason = Mutex<String?>(nil)

    /// How many entries were read.
    package var entries: Int { count.load(ordering: .relaxed) }

    /// Why reading hasn't begun; nil where it has.
    package var waitsFor: String? {
        get { reason.withLock { $0 } }
        set { reason.withLock { $0 = newValue } }
    }

    func countEntry() { count.wrappingAdd(1, ordering: .relaxed) }
}
