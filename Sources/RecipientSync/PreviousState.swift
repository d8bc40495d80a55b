import Foundation
import GRDB
import RecipientIndex
import RecipientSources

/// The state when a sync begins, and what follows from it for the sources: the domains that they may feed, and whether their entries in
/// the state are still right.
struct PreviousState {
    private let configuration: SyncConfiguration
    private let canaries: [String]
    /// The list in force; the end of a grace makes a new one of it.
    var list: ApprovedList
    /// All sources of the state, by name.
    let records: [String: SourceRecord]
    /// How many addresses each domain has.
    let domainCounts: [String: Int]
    /// The sources that the last sync could not read, by name.
    let failures: [String: SyncStatus.Failure]
    /// The relay domains that each table of the configuration listed when its list passed the guards, by its path.
    private(set) var relayTables: [String: [String]]
    /// The time (of ``SyncClock``) when this sync began.
    let time: Int64
    /// Whether the state's entries are those of its list. If they aren't, every source is read in full.
    let isSound: Bool
    /// The domains whose losses the guards judge: those of the configuration, and those that sources name or have named.
    private(set) var judgedDomains: DomainSet
    /// The relay domains that each source of the configuration names; nil for a source that isn't asked for any.
    private(set) var domainsOfSources: [[RelayDomain]?] = []

    init(
        _ state: SyncState, _ configuration: SyncConfiguration, canaries: [String], clock: SyncClock, isSound: Bool
    ) throws(SyncError) {
        let isCounted = state.form >= 2
        let stored = try state.transaction(.deferred) { database in
            let stored = (
                list: try SyncState.approvedList(database), sources: try SyncState.sources(database),
                domains: isCounted ? try SyncState.domains(database) : [:], failures: try SyncState.failures(database),
                tables: try SyncState.relayTables(database), time: try SyncState.time(database, clock)
            )
            return (stored, .commit)
        }
        self.configuration = configuration
        self.canaries = canaries
        self.isSound = isSound
        list = stored.list
        records = Dictionary(stored.sources.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        domainCounts = stored.domains
        failures = stored.failures
        relayTables = stored.tables
        time = stored.time
        judgedDomains = DomainSet(configuration.relayDomains, subdomains: configuration.subdomains)
    }

    /// Whether the stored counts of the domains add up to the size of the list.
    var isCounted: Bool { isSound && list.generation > 0 && domainCounts.values.reduce(0, +) == list.listed }

    // MARK: Sources

    /// The sources that are no longer configured, in the order of the state.
    var removedSources: [SourceRecord] {
        records.values.filter { record in !configuration.sources.contains { $0.name == record.name } }
            .sorted { $0.id < $1.id }
    }

    /// The record of a source, if its entries are right under the present configuration and domains.
    func validRecord(of source: SourceConfiguration) -> SourceRecord? {
        let record = isSound ? records[source.name] : nil
        return record?.fingerprint == fingerprint(of: source) ? record : nil
    }

    /// A hash of everything that a source's entries depend on. The guards are in it, so that their change is judged at once, and the
    /// domains, so that addresses that were left out for their domain are seen.
    ///
    /// What a source lists depends on how Postern reads it, too: `form` grows whenever that changes.
    func fingerprint(of source: SourceConfiguration) -> String {
        struct Parts: Encodable {
            var form = 2
            var source: SourceConfiguration.Kind
            var domains: [String]?
            var relay: [String]
            var subdomains: Bool
            var canaries: [String]
            var minimum: Int
        }
        let acceptingAll = domainsOfSources.flatMap { $0 ?? [] }.filter(\.takesAll).map { $0.name + " *" }
        let parts = Parts(
            source: source.kind, domains: source.domains?.sorted(),
            relay: relayDomains.union(acceptingAll).sorted(), subdomains: configuration.subdomains,
            canaries: canaries, minimum: configuration.minimum)
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let text = (try? encoder.encode(parts)) ?? Data()
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }

    // MARK: Relay domains

    /// The relay domains now: those of the configuration and those that sources name.
    private var relayDomains: Set<String> {
        configuration.relayDomains.union(domainsOfSources.flatMap { $0 ?? [] }.map(\.name))
    }

    /// Stores the domains that the sources name now.
    mutating func setDomainsOfSources(_ domains: [[RelayDomain]?]) {
        domainsOfSources = domains
        // The guards still judge a domain that a source no longer names, so that the loss of its recipients isn't missed.
        let tables = relayTables.filter { configuration.relayTables[$0.key] != nil }
        let before = records.values.flatMap { $0.domains ?? [] }.map(\.name) + tables.values.joined()
        judgedDomains = DomainSet(relayDomains.union(before), subdomains: configuration.subdomains)
    }

    /// Takes the domains of the tables from the published snapshot if the state has none: it is new, or older than these tables.
    mutating func adoptRelayTables(of sources: [IndexSource.Summary]) {
        guard relayTables.isEmpty else { return }
        for source in sources where source.type == IndexSource.relayTable {
            relayTables[source.name] = source.relayDomains.map(\.name)
        }
    }

    /// The domains that each source may feed.
    var domainFilters: [DomainFilter] {
        let relay = DomainSet(relayDomains, subdomains: configuration.subdomains)
        return configuration.sources.map { DomainFilter(relay: relay, $0, subdomains: configuration.subdomains) }
    }

    /// The relay domains that configured tables and sources no longer name, or for which a source no longer accepts every recipient.
    var relayDomainChanges: [RelayDomainChange] { changesOfTables + changesOfSources }

    private var changesOfTables: [RelayDomainChange] {
        let named = relayDomains
        let relay = DomainSet(named, subdomains: configuration.subdomains)
        func isRelayed(_ name: String) -> Bool {
            if named.contains(name) { return true }
            var name = name
            return !name.hasPrefix(".") && name.withUTF8 { relay.contains($0) }
        }
        return configuration.relayTables.keys.sorted().flatMap { path in
            (relayTables[path] ?? []).filter { !isRelayed($0) }.map {
                RelayDomainChange(
                    domain: $0, text: "relay domain \($0), which \(path) listed, would no longer be a relay domain")
            }
        }
    }

    private var changesOfSources: [RelayDomainChange] {
        let named = relayDomains
        return zip(configuration.sources, domainsOfSources).flatMap { source, now -> [RelayDomainChange] in
            (records[source.name]?.domains ?? []).compactMap { before in
                let subject = "relay domain \(before.name), which source \"\(source.name)\" named,"
                guard let after = (now ?? []).first(where: { $0.name == before.name }) else {
                    return named.contains(before.name)
                        ? nil
                        : .init(domain: before.name, text: subject + " would no longer be a relay domain")
                }
                guard before.takesAll, !after.takesAll else { return nil }
                return .init(
                    domain: before.name,
                    text: subject + " would accept listed recipients only; so far it accepted every recipient")
            }
        }
    }
}
