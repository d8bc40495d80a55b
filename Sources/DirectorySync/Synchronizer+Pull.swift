import Foundation
import GRDB

/// What the state knows when a run begins.
struct Knowledge {
    var decision: Decision
    /// All sources of the state, by name.
    let records: [String: SourceRecord]
    /// How many addresses each domain has.
    let domains: [String: Int]
    /// The sources that couldn't be read the last time, by name.
    let failures: [String: SyncStatus.Failure]
    /// The domains that recipients are judged in: those of the configuration, and those that sources name or have named.
    private(set) var relay: DomainSet
    /// The relay domains that each source of the configuration names; nil for one that isn't asked for any.
    private(set) var domainsOfSources: [[RelayDomain]?] = []
    /// The relay domains that each table of the configuration listed when they were last decided on, by its path.
    let relayTables: [String: [String]]
    /// The sync's time when the run began.
    let time: Int64
    /// Whether the state's entries are those of its decision. Where they aren't, every source is read in full.
    let isSound: Bool
    /// Why a source that has never named its relay domains doesn't now, by place.
    var unnamed: [Int: SyncError] = [:]
    private let configuration: SyncConfiguration
    private let canaries: [String]

    init(
        _ state: SyncState, _ configuration: SyncConfiguration, canaries: [String], clock: SyncClock, isSound: Bool
    ) throws(SyncError) {
        self.isSound = isSound
        let isCounted = state.form >= 2
        let stored = try state.transaction(.deferred) { database in
            (
                (
                    try SyncState.decision(database), try SyncState.sources(database),
                    isCounted ? try SyncState.domains(database) : [:], try SyncState.failures(database),
                    try SyncState.relayTables(database), try SyncState.time(database, clock, isReading: true)
                ), .commit
            )
        }
        decision = stored.0
        records = Dictionary(stored.1.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        domains = stored.2
        failures = stored.3
        relayTables = stored.4
        time = stored.5
        self.configuration = configuration
        self.canaries = canaries
        relay = DomainSet(configuration.relayDomains, subdomains: configuration.subdomains)
    }

    /// Whether the counts by domain are those of the list.
    var isCounted: Bool {
        isSound && decision.generation > 0 && domains.values.reduce(0, +) == decision.listed
    }

    /// Takes in the domains that the sources name now.
    mutating func name(_ domainsOfSources: [[RelayDomain]?]) {
        self.domainsOfSources = domainsOfSources
        // One that a source no longer names is still one to judge: its recipients must not go unseen.
        let before = records.values.flatMap { $0.domains ?? [] }.map(\.name) + relayTables.values.joined()
        relay = DomainSet(configuration.relayDomains.union(named).union(before), subdomains: configuration.subdomains)
    }

    private var takingAll: Set<String> {
        Set(domainsOfSources.flatMap { $0 ?? [] }.filter(\.takesAll).map(\.name))
    }

    /// The domains that sources name.
    private var named: Set<String> { Set(domainsOfSources.flatMap { $0 ?? [] }.map(\.name)) }

    /// What sources that are still configured have named before and name no more, or name as one whose every recipient must be
    /// listed where it took all: a clause each.
    var domainsLost: [(domain: String, text: String)] {
        domainsLostByTables + domainsLostBySources
    }

    private var domainsLostByTables: [(domain: String, text: String)] {
        let named = configuration.relayDomains.union(named)
        return configuration.relayTables.keys.sorted().flatMap { path in
            (relayTables[path] ?? []).filter { !named.contains($0) }
                .map { ($0, "relay domain \($0), which \(path) listed, would be one no more") }
        }
    }

    private var domainsLostBySources: [(domain: String, text: String)] {
        zip(configuration.sources, domainsOfSources).flatMap { source, now -> [(domain: String, text: String)] in
            (records[source.name]?.domains ?? []).compactMap { before in
                let named = "relay domain \(before.name), which source \"\(source.name)\" named,"
                guard let after = (now ?? []).first(where: { $0.name == before.name }) else {
                    let isKept = configuration.relayDomains.contains(before.name) || self.named.contains(before.name)
                    return isKept ? nil : (before.name, named + " would be one no more")
                }
                return before.takesAll && !after.takesAll
                    ? (before.name, named + " would accept listed recipients only, where it accepted all") : nil
            }
        }
    }

    /// What each source may list.
    var filters: [DomainFilter] {
        let relay = DomainSet(configuration.relayDomains.union(named), subdomains: configuration.subdomains)
        return configuration.sources.map { DomainFilter(relay: relay, $0, subdomains: configuration.subdomains) }
    }

    /// The record of a source, if its entries are right under the present configuration and domains.
    func valid(_ source: SourceConfiguration) -> SourceRecord? {
        guard isSound, let record = records[source.name], record.fingerprint == fingerprint(of: source) else {
            return nil
        }
        return record
    }

    /// Tells a configuration under which a source's entries were right from others. The guards are in it so that a change of
    /// theirs is judged at once, and the domains so that addresses that were left out for theirs are seen.
    func fingerprint(of source: SourceConfiguration) -> String {
        struct Parts: Encodable {
            var source: SourceConfiguration.Kind
            var domains: [String]?
            var relay: [String]
            var subdomains: Bool
            var canaries: [String]
            var minimum: Int
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let parts = Parts(
            source: source.kind, domains: source.domains?.sorted(),
            relay: configuration.relayDomains.union(named).union(takingAll.map { $0 + " *" }).sorted(),
            subdomains: configuration.subdomains,
            canaries: canaries, minimum: configuration.minimum)
        let text = (try? encoder.encode(parts)) ?? Data()
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}

extension Synchronizer {
    /// Asks the sources that are due for the relay domains that they name; the others, and those that don't answer now, name what
    /// they named before. One that has never answered can't be pulled: all that it lists would count as foreign.
    func nameDomains(
        _ known: inout Knowledge, _ scope: Scope, _ report: inout SyncReport,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) {
        var domains: [[RelayDomain]?] = []
        for (place, source) in sources.enumerated() {
            let before = known.records[source.configuration.name]?.domains
            guard scope.asksForDomains(place) || before == nil else {
                domains.append(before)
                continue
            }
            do throws(SyncError) {
                domains.append(try source.relayDomains(PullRequest(check: check)))
            } catch {
                if error.kind == .cancelled { throw error }
                try check()
                domains.append(before)
                if before == nil {
                    known.unnamed[place] = error
                } else {
                    report.notes.append("the relay domains that were named before stay: \(error)")
                }
            }
        }
        known.name(domains)
    }

    /// Reads every source that is due, also after one failed, so that all failures are told at once.
    func pullAll(
        _ known: Knowledge, _ intake: EntryIntake, _ report: inout SyncReport, _ scope: Scope,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> [Pull] {
        var pulls: [Pull] = []
        var errors: [SyncError] = []
        for (place, source) in sources.enumerated() {
            let record = known.valid(source.configuration)
            var result = SourceReport(name: source.configuration.name, type: source.configuration.type)
            let began = ContinuousClock.now
            do throws(SyncError) {
                let pull: Pull
                if let record, !scope.isDue(place) {
                    // One that failed has still failed.
                    result.failure = known.failures[source.configuration.name]?.text
                    pull = Pull(
                        reading: result.failure == nil ? .unchanged : .failed, asOf: record.asOf, cursor: record.cursor)
                } else if let error = known.unnamed[place] {
                    throw error
                } else {
                    pull = try source.pull(
                        PullRequest(
                            previous: record, isStaying: scope.isStaying, readsAll: scope.readsAll,
                            isNews: scope.due != nil, check: check),
                        into: intake, report: &result)
                }
                if pull.reading == .unchanged || pull.reading == .failed, let last = record?.report {
                    let (failure, remarks, server) = (result.failure, result.remarks, result.server)
                    result = last
                    result.failure = failure
                    result.remarks = remarks
                    result.server = server ?? last.server
                }
                report.notes += result.remarks.map { "source \"\(source.configuration.name)\": \($0)" }
                result.remarks = []
                result.reading = pull.reading
                result.asOf = pull.asOf
                pulls.append(pull)
                if record == nil, known.isSound, known.records[source.configuration.name] != nil {
                    report.notes.append(
                        "what source \"\(source.configuration.name)\" was last read under, its configuration or the relay domains, "
                            + "has changed: it was read in full")
                }
            } catch {
                if error.kind == .cancelled { throw error }
                // What a sync that is told to stop is interrupted in fails for that.
                try check()
                intake.void(source: place)
                if let last = record?.report { result = last }
                result.failure = error.description
                result.reading = .failed
                result.asOf = record?.asOf
                errors.append(error)
                pulls.append(Pull(reading: .failed, asOf: record?.asOf ?? .distantPast, cursor: record?.cursor))
            }
            result.duration = (ContinuousClock.now - began) / .seconds(1)
            report.sources.append(result)
        }
        try judge(errors, known, &report)
        return pulls
    }

    /// Goes on past sources that can't be reached if their last list is at hand.
    private func judge(
        _ errors: [SyncError], _ known: Knowledge, _ report: inout SyncReport
    ) throws(SyncError) {
        guard let first = errors.first else { return }
        let grave = errors.first { $0.kind != .unreachable }
        let missing = report.failures.filter { failed in
            configuration.sources.first { $0.name == failed.name }.flatMap { known.valid($0) } == nil
        }
        guard grave != nil || !missing.isEmpty || errors.count == sources.count else {
            for failed in report.failures {
                report.notes.append("source \"\(failed.name)\" keeps its last list, as it can't be read now")
            }
            return
        }
        throw SyncError(
            (grave ?? first).kind, errors.map(\.description).joined(separator: "\n"), source: (grave ?? first).source,
            sources: report.sources)
    }
}
