import Foundation
import GRDB
import Glibc
import RecipientIndex
import RecipientSources
import System

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
    private(set) var relayTables: [String: [String]]
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
        let tables = relayTables.filter { configuration.relayTables[$0.key] != nil }
        let before = records.values.flatMap { $0.domains ?? [] }.map(\.name) + tables.values.joined()
        relay = DomainSet(configuration.relayDomains.union(named).union(before), subdomains: configuration.subdomains)
    }

    /// Takes over what the published snapshot says of the tables, where the state knows nothing of any: it is new, or older than they.
    mutating func takeTables(from sources: [IndexSource.Summary]) {
        guard relayTables.isEmpty else { return }
        for source in sources where source.type == IndexSource.relayTable {
            relayTables[source.name] = source.relayDomains.map(\.name)
        }
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
        let relay = DomainSet(named, subdomains: configuration.subdomains)
        func isRelayed(_ name: String) -> Bool {
            if named.contains(name) { return true }
            var name = name
            return !name.hasPrefix(".") && name.withUTF8 { relay.contains($0) }
        }
        return configuration.relayTables.keys.sorted().flatMap { path in
            (relayTables[path] ?? []).filter { !isRelayed($0) }
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
            guard scope.asksForDomains(place) && !source.isBusy || before == nil else {
                domains.append(before)
                continue
            }
            do throws(SyncError) {
                domains.append(
                    try source.relayDomains(
                        PullRequest(previous: known.records[source.configuration.name]?.previous) {
                            () throws(SourceError) in
                            try askingSync(check)
                        }))
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

    /// Reads every source that is due, side by side, also after one failed, so that all failures are reported at once.
    ///
    /// A run that a thread goes on after doesn't wait long for a source whose last list is at hand: that one is read on, and a later
    /// run takes what it gives.
    ///
    /// - Parameter scope: what the run reads; those that it doesn't wait for are taken out.
    /// - Returns: what each source came to, and the entries of all.
    func pullAll(
        _ known: Knowledge, _ report: inout SyncReport, _ scope: inout Scope,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> (pulls: [Pull], intake: EntryIntake) {
        let shared = SharedCheck(check)
        let due = sources.indices.filter { place in
            known.unnamed[place] == nil
                && (scope.isDue(place) || known.valid(sources[place].configuration) == nil)
        }
        let filters = known.filters
        var readings: [Int: SourceReader.Reading] = [:]
        for place in due {
            let source = sources[place]
            let previous = known.valid(source.configuration)
            let order = PullOrder(
                previous: previous, fingerprint: known.fingerprint(of: source.configuration),
                isStaying: scope.isStaying,
                readsAll: scope.readsAll, isNews: scope.due != nil, acceptsReferences: scope.acceptsReferences,
                filters: filters, folder: folder(of: configuration.statePath),
                capacity: max(1 << 20, (8 << 20) / due.count), deadline: configuration.deadline)
            readings[place] = try reading(source, order, shared)
        }
        let pending = try wait(for: readings, scope, shared)
        if !pending.isEmpty { scope.due = (scope.due ?? Set(sources.indices)).subtracting(pending) }
        return try collect(known, readings, pending: pending, &report, scope)
    }

    /// The pull of a source: the one that is under way, if it is read as it should be now, or a new one.
    private func reading(
        _ source: SourceReader, _ order: PullOrder, _ check: SharedCheck
    ) throws(SyncError) -> SourceReader.Reading {
        if let reading = source.reading {
            if !reading.isGivenUp, reading.order.fingerprint == order.fingerprint,
                reading.order.previous?.cursor == order.previous?.cursor
            {
                return reading
            }
            // Read for domains that are others now.
            if !reading.isDone {
                source.interrupt()
                let limit = ContinuousClock.now + Self.patienceForEnd
                while !reading.isDone, ContinuousClock.now < limit {
                    try check()
                    usleep(5_000)
                }
                guard reading.isDone else { return reading }
            }
            _ = source.take()
        }
        return source.start(order, check)
    }

    /// How long a pull that is to end is waited for.
    private static let patienceForEnd = Duration.seconds(3)
    /// How long a run that a thread goes on after waits for a source.
    static let patience = Duration.seconds(1)

    /// Waits until all pulls have ended, or as long as they are worth waiting for.
    ///
    /// - Returns: those that go on, of sources whose last list is at hand.
    private func wait(
        for readings: [Int: SourceReader.Reading], _ scope: Scope, _ check: SharedCheck
    ) throws(SyncError) -> Set<Int> {
        let began = ContinuousClock.now
        var pause: UInt32 = 500
        do throws(SyncError) {
            while true {
                let open = readings.filter { !$0.value.isDone }
                for (place, reading) in open where reading.isOverdue { sources[place].source.interrupt() }
                let waited = open.filter { _, reading in
                    if ContinuousClock.now - reading.began >= reading.order.deadline + Self.patienceForEnd {
                        return false
                    }
                    return !scope.isStaying || reading.order.previous == nil
                        || ContinuousClock.now - began < Self.patience
                }
                if waited.isEmpty { return Set(open.keys) }
                try check()
                usleep(pause)
                pause = min(pause * 2, 20_000)
            }
        } catch {
            for place in readings.keys { sources[place].interrupt() }
            throw error
        }
    }

    private func collect(
        _ known: Knowledge, _ readings: [Int: SourceReader.Reading], pending: Set<Int>, _ report: inout SyncReport,
        _ scope: Scope
    ) throws(SyncError) -> (pulls: [Pull], intake: EntryIntake) {
        var pulls: [Pull] = []
        var errors: [SyncError] = []
        var intakes: [(source: Int, intake: EntryIntake)] = []
        for (place, source) in sources.enumerated() {
            let name = source.configuration.name
            let record = known.valid(source.configuration)
            var result = SourceState(name: name, type: source.configuration.type)
            let outcome: Result<Pull, SyncError>
            if let error = known.unnamed[place] {
                outcome = .failure(error)
            } else if let reading = readings[place], let taken = reading.isDone ? source.take() : nil {
                outcome = taken.outcome
                result.report = taken.report
                result.duration = taken.duration
                intakes.append((place, taken.intake))
            } else if let reading = readings[place], record == nil || reading.isOverdue {
                outcome = .failure(reading.deadlineError(name))
            } else {
                // One that has failed has still failed.
                result.failure = known.failures[name]?.text
                result.progress = pending.contains(place) ? source.progress : nil
                outcome = .success(
                    Pull(
                        reading: result.failure == nil ? .unchanged : .failed, asOf: record?.asOf ?? .distantPast,
                        cursor: record?.cursor))
            }
            do throws(SyncError) {
                let pull = try outcome.get()
                describe(&result, pull, record, intakes.last.flatMap { $0.source == place ? $0.intake : nil })
                report.notes += result.report.remarks.map { "source \"\(name)\": \($0)" }
                result.report.remarks = []
                pulls.append(pull)
                if record == nil, known.isSound, known.records[name] != nil {
                    report.notes.append(
                        "what source \"\(name)\" was last read under, its configuration, the relay domains "
                            + "or how Postern reads it, has changed: it was read in full")
                }
            } catch {
                if error.kind == .cancelled { throw error }
                intakes.removeAll { $0.source == place }
                let duration = result.duration
                if let last = record?.state { result = last }
                result.failure = error.description
                result.reading = .failed
                result.lastSynced = record?.asOf
                result.duration = duration
                errors.append(error)
                pulls.append(Pull(reading: .failed, asOf: record?.asOf ?? .distantPast, cursor: record?.cursor))
            }
            report.sources.append(result)
        }
        try judge(errors, known, &report)
        return (pulls, EntryIntake(joining: intakes))
    }

    /// Completes the report of a pull that didn't read everything with what is known of the rest.
    private func describe(_ result: inout SourceState, _ pull: Pull, _ record: SourceRecord?, _ intake: EntryIntake?) {
        result.reading = pull.reading
        result.lastSynced = pull.asOf
        guard pull.reading != .full, let last = record?.state else { return }
        let now = result
        if pull.reading == .changes {
            let place = sources.firstIndex { $0.configuration.name == result.name } ?? 0
            let changes = intake?.changes[place]
            func isReplaced(_ object: [UInt8]) -> Bool { changes?.replaces(object) ?? false }
            result.report.faults = last.report.faults
            result.report.faults.replace(with: now.report.faults, replaced: isReplaced)
            result.report.doubts = last.report.doubts
            result.report.doubts.replace(with: now.report.doubts, replaced: isReplaced)
            result.report.nextExpiry = [last.report.nextExpiry, now.report.nextExpiry].compactMap { $0 }.min()
            return
        }
        result = last
        (result.reading, result.lastSynced, result.duration) = (now.reading, now.lastSynced, now.duration)
        (result.failure, result.report.remarks, result.progress) = (now.failure, now.report.remarks, now.progress)
        result.report.server = now.report.server ?? last.report.server
        if intake != nil { result.report.domainFaults = now.report.domainFaults }
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
