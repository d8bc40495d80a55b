package import RecipientIndex
import Synchronization
import System

/// One listing of a recipient by an object of a source. The bytes are borrowed.
package struct SourceEntry {
    /// The recipient's canonical key.
    package var key: UnsafeBufferPointer<UInt8>
    /// Among the entries of one source, the reading that gave it; in the state, the id of its source; among those of
    /// several sources, the index of its source in the configuration.
    package var tag: Int
    /// Whether the recipient is internal-only, disabled, a catch-all domain or an alias domain.
    package var flags: RecipientFlags
    /// The object that lists the recipient, such as a directory entry's GUID; empty for a line of a table.
    package var object: UnsafeBufferPointer<UInt8>

    package init(
        key: UnsafeBufferPointer<UInt8>, tag: Int, flags: RecipientFlags, object: UnsafeBufferPointer<UInt8>
    ) {
        self.key = key
        self.tag = tag
        self.flags = flags
        self.object = object
    }

    /// The order of the state's entries: by key, source, object.
    package func precedes(_ other: SourceEntry) -> Bool {
        let order = key.compare(other.key)
        if order != 0 { return order < 0 }
        return tag == other.tag ? object.precedes(other.object) : tag < other.tag
    }
}

/// Collects the entries of a source while it is read, and sorts them in bounded memory. For one thread at a time.
///
/// A source calls ``begin(changesOnly:)``, then ``add(key:flags:object:)`` for each recipient in a domain that it may
/// list (``admits(_:)``). It may begin again at any time, such as on another server: entries of earlier beginnings are
/// ignored.
package final class SourceEntries {
    private let sorter: EntrySorter
    private let domains: DomainFilter
    private let progress: ReadingProgress
    /// The number of the current beginning, which is the tag of its entries.
    private var beginning = 0
    /// The objects that the entries replace; nil where the entries are the whole list.
    package private(set) var changes: ObjectChanges?
    /// Where the aliases of a table lead.
    var aliasTargets = AliasTargets()

    /// - Parameters:
    ///   - folder: where entries are kept that exceed the capacity.
    ///   - domains: the domains that the source may list.
    ///   - capacity: how many bytes of entries are kept in memory.
    package init(
        folder: String, domains: DomainFilter, capacity: Int = 8 << 20, progress: ReadingProgress = ReadingProgress()
    ) {
        sorter = EntrySorter(folder: folder, capacity: capacity)
        self.domains = domains
        self.progress = progress
    }

    /// The error that keeps entries from being stored; a source ends its reading with it.
    package var failure: SourceError? { sorter.failure }

    /// Begins a reading.
    ///
    /// - Parameter changesOnly: whether the entries replace some objects of the list (see ``replace(_:)``) instead of
    ///   the whole list.
    package func begin(changesOnly: Bool = false) {
        discard()
        if changesOnly { changes = ObjectChanges() }
    }

    /// Discards all entries so far.
    package func discard() {
        beginning += 1
        changes = nil
        aliasTargets = AliasTargets()
    }

    /// Notes that an object was changed or deleted: its earlier entries are dropped.
    package func replace(_ object: [UInt8]) { changes?.replaced.insert(object) }

    /// Notes that, of the objects with this prefix, only those in the set and those replaced still exist.
    package func keepOnly(_ present: Set<ObjectID>, prefix: UInt8) { changes?.present[prefix] = present }

    /// Whether the source may list recipients of a domain.
    package func admits(_ domain: UnsafeBufferPointer<UInt8>) -> Bool { domains.admits(domain) }

    /// Whether a domain is a relay domain, whichever source may list its recipients.
    func relays(_ domain: UnsafeBufferPointer<UInt8>) -> Bool { domains.relays(domain) }

    func relays(_ domain: String) -> Bool {
        var domain = domain
        return domain.withUTF8 { relays($0) }
    }

    /// Shows observers why reading hasn't begun, as a clause; nil once it has.
    package func wait(for reason: String?) { progress.waitsFor = reason }

    /// Counts an entry of the source, whether it lists a recipient or not, for observers.
    package func countEntry() { progress.countEntry() }

    /// Adds an entry.
    ///
    /// - Parameters:
    ///   - key: the recipient's canonical key, or `@domain` for a catch-all domain.
    ///   - object: the object that lists the recipient; empty for a line of a table.
    package func add(
        key: UnsafeBufferPointer<UInt8>, flags: RecipientFlags, object: UnsafeBufferPointer<UInt8>
    ) {
        changes?.addKey(key)
        sorter.add(SourceEntry(key: key, tag: beginning, flags: flags, object: object))
    }

    /// The entries of the last beginning, in order, tagged with a place; nothing is added afterwards.
    fileprivate func sorted(place: Int) throws(SourceError) -> any EntryStream {
        Tagged(entries: try sorter.finish(), beginning: beginning, place: place)
    }

    private struct Tagged: EntryStream {
        let entries: SortedEntries
        let beginning: Int
        let place: Int

        func next() throws(SourceError) -> SourceEntry? {
            while var entry = try entries.next() {
                guard entry.tag == beginning else { continue }
                entry.tag = place
                return entry
            }
            return nil
        }
    }
}

/// The entries of several sources in one order, each tagged with the index of its source in the configuration.
package final class JoinedEntries {
    private var parts: [(place: Int, entries: SourceEntries)]

    /// Joins the entries of the sources with these indices in the configuration; nothing is added to them afterwards.
    package init(_ parts: [(place: Int, entries: SourceEntries)]) { self.parts = parts }

    /// The objects that a reading of changes replaces, by the index of the source in the configuration.
    package var changes: [Int: ObjectChanges] {
        var changes: [Int: ObjectChanges] = [:]
        for part in parts { changes[part.place] = part.entries.changes }
        return changes
    }

    /// All entries in order; once.
    package func sorted() throws(SourceError) -> SortedEntries {
        var streams: [any EntryStream] = []
        for part in parts { streams.append(try part.entries.sorted(place: part.place)) }
        return try SortedEntries(merging: streams)
    }

    /// Notes that the new list has a key, for ``unlistedTargets(ofSource:isAccepted:)``.
    package func noteListed(_ key: UnsafeBufferPointer<UInt8>) {
        for part in parts where !part.entries.aliasTargets.isEmpty { part.entries.aliasTargets.noteListed(key) }
    }

    /// The aliases of a table whose target isn't listed, once all keys of the new list are noted.
    ///
    /// - Parameter isAccepted: whether a target needn't be listed.
    package func unlistedTargets(ofSource place: Int, isAccepted: (String) -> Bool) -> UnlistedTargets {
        parts.first { $0.place == place }?.entries.aliasTargets.unlisted(isAccepted) ?? UnlistedTargets()
    }
}

/// How far the reading of a source is, for other threads to look at.
package final class ReadingProgress: Sendable {
    private let count = Atomic(0)
    private let reason = Mutex<String?>(nil)

    package init() {}

    /// How many entries have been read.
    package var entries: Int { count.load(ordering: .relaxed) }

    /// Why reading hasn't begun, as a clause; nil once it has.
    package var waitsFor: String? {
        get { reason.withLock { $0 } }
        set { reason.withLock { $0 = newValue } }
    }

    func countEntry() { count.wrappingAdd(1, ordering: .relaxed) }
}

/// The sixteen bytes that identify a directory's object: an entryUUID (RFC 4530) or an objectGUID.
package struct ObjectID: Hashable {
    private let high: UInt64
    private let low: UInt64

    /// nil unless there are sixteen bytes.
    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
        low = bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
}

/// The objects of a source that a reading of changes replaces. An object is named by a prefix byte, which tells the
/// search bases of a source apart, and its sixteen bytes.
package struct ObjectChanges {
    /// The objects that were changed or deleted.
    package var replaced: Set<[UInt8]> = []
    /// The objects that still exist, by prefix, where a server reports only these.
    package var present: [UInt8: Set<ObjectID>] = [:]
    /// The keys that the changed objects list now, each followed by a zero byte; nil once they are too many to look up
    /// one by one.
    package private(set) var keys: [UInt8]? = []

    /// How many bytes of keys are looked up one by one.
    private static let mostKeys = 4 << 20
    /// How many objects are looked up one by one; for more, reading the whole list once is cheaper.
    private static let mostObjects = 50_000

    mutating func addKey(_ key: UnsafeBufferPointer<UInt8>) {
        guard let count = keys?.count else { return }
        guard count + key.count < Self.mostKeys else {
            keys = nil
            return
        }
        keys?.append(contentsOf: key)
        keys?.append(0)
    }

    /// Whether the addresses that may have changed can be found without reading the whole list.
    package var isShort: Bool { keys != nil && present.isEmpty && replaced.count <= Self.mostObjects }

    /// Whether the state's entries of an object don't count any more.
    package func replaces(_ object: some Collection<UInt8>) -> Bool {
        if replaced.contains(Array(object)) { return true }
        guard let prefix = object.first, let present = present[prefix], let id = ObjectID(object.dropFirst()) else {
            return false
        }
        return !present.contains(id)
    }
}

/// A set of domains that answers for A-labels without allocating.
package struct DomainSet: Sendable {
    private var names = ByteTable()
    private let subdomains: Bool
    private var hasDotted = false

    /// - Parameters:
    ///   - domains: A-labels in lower case; `.example.com` stands for the subdomains of example.com.
    ///   - subdomains: whether `example.com` stands for its subdomains, too.
    package init(_ domains: Set<String>, subdomains: Bool) {
        self.subdomains = subdomains
        for domain in domains {
            _ = names.insert(domain.lowercased())
            if domain.hasPrefix(".") { hasDotted = true }
        }
    }

    /// Whether the set has the domain, by its own name or as a subdomain.
    package func contains(_ domain: UnsafeBufferPointer<UInt8>) -> Bool {
        guard !domain.isEmpty else { return false }
        if names.position(of: domain) != nil { return true }
        guard subdomains || hasDotted else { return false }
        for index in domain.indices.dropLast() where domain[index] == UInt8(ascii: ".") {
            if hasDotted, names.position(of: domain.slice(index..<domain.count)) != nil { return true }
            if subdomains, names.position(of: domain.slice(index + 1..<domain.count)) != nil { return true }
        }
        return false
    }
}

/// The domains that one source may list.
package struct DomainFilter: Sendable {
    private let relay: DomainSet
    private let own: DomainSet?

    /// The relay domains, less those that the source's `domains` leaves out.
    package init(relay: DomainSet, _ source: SourceConfiguration, subdomains: Bool) {
        self.relay = relay
        own = source.domains.map { DomainSet($0, subdomains: subdomains) }
    }

    /// Whether a domain is a relay domain, whichever source may list its recipients.
    func relays(_ domain: UnsafeBufferPointer<UInt8>) -> Bool { relay.contains(domain) }

    /// Whether the source may list recipients of a domain.
    func admits(_ domain: UnsafeBufferPointer<UInt8>) -> Bool {
        relay.contains(domain) && (own?.contains(domain) ?? true)
    }
}
