import Foundation

/// Something that recipients are read from. A file gives its whole list or says that it hasn't changed; a directory may give its
/// list by object (the entries' `object`) and a cursor to go on from.
protocol RecipientSource: Sendable {
    var configuration: SourceConfiguration { get }

    /// Reads the source into the intake.
    ///
    /// - Parameters:
    ///   - previous: what the state knows of the source, if that was read under the same configuration.
    ///   - intake: takes the entries.
    ///   - report: takes the counts.
    ///   - check: called now and then; throws to give up.
    func pull(
        since previous: SourceRecord?, into intake: EntryIntake, report: inout SourceReport,
        check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> Pull
}

/// What a pull came to.
struct Pull {
    /// `full`: the intake holds the whole list; `unchanged`: the list in the state is still right.
    var reading: SourceReport.Reading
    /// When the source was as it was read.
    var asOf: Date
    /// What the next pull goes on from; kept in the state together with the entries that belong to it.
    var cursor: Data?
}

/// Collects the entries of a sync's sources and knows which pull each is from.
final class EntryIntake {
    private let sorter: EntrySorter
    /// The source of each tag; nil for a pull that was given up, whose entries are passed over.
    private var owners: [Int?] = []
    /// The domains that each source may feed.
    private let filters: [DomainFilter]

    init(folder: String, filters: [DomainFilter], capacity: Int = 8 << 20) {
        sorter = EntrySorter(folder: folder, capacity: capacity)
        self.filters = filters
    }

    var failure: SyncError? { sorter.failure }

    /// Begins a pull of a source; entries of an earlier one of the same source no longer count.
    func begin(source: Int) -> Int {
        void(source: source)
        owners.append(source)
        return owners.count - 1
    }

    func void(source: Int) {
        for tag in owners.indices where owners[tag] == source { owners[tag] = nil }
    }

    func owner(of tag: Int) -> Int? {
        owners.indices.contains(tag) ? owners[tag] : nil
    }

    /// Whether a source may list recipients of a domain.
    func admits(_ domain: UnsafeBufferPointer<UInt8>, source: Int) -> Bool {
        filters[source].admits(domain)
    }

    func add(_ entry: Entry) {
        sorter.add(entry)
    }

    func finish() throws(SyncError) -> SortedEntries {
        try sorter.finish()
    }
}

/// The domains that one source may feed.
struct DomainFilter: Sendable {
    private let relay: DomainSet
    private let own: DomainSet?

    init(_ configuration: SyncConfiguration, _ source: SourceConfiguration) {
        relay = DomainSet(configuration.relayDomains, subdomains: configuration.subdomains)
        own = source.domains.map { DomainSet($0, subdomains: configuration.subdomains) }
    }

    func admits(_ domain: UnsafeBufferPointer<UInt8>) -> Bool {
        relay.contains(domain) && (own?.contains(domain) ?? true)
    }
}
