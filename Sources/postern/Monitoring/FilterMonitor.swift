import Foundation
import Milter
import Monitoring
import RecipientFilter
import RecipientIndex
import RecipientSync
import RejectionLog
import RejectionReport
import Synchronization
import System

/// What is known of the running filter, put together for who asks: metrics, live page, `postern status`. Any thread.
final class FilterMonitor: Sendable {
    /// More relay domains than this are counted as one in the metrics.
    static let domainLimit = 200

    private let configuration: Configuration
    private let context: FilterContext
    private let server: MilterServer
    private let log: RejectionLog
    private let offenders: OffenderLog
    private let lines: LineLog?
    private let started = Date()
    private let reader = Mutex<RejectionReader?>(nil)
    private let sync: SyncTally
    private let indexes: IndexTally
    private let health: ServiceHealth

    init(
        _ configuration: Configuration, context: FilterContext, server: MilterServer, log: RejectionLog,
        offenders: OffenderLog, lines: LineLog?, indexes: IndexTally, sync: SyncTally,
        health: ServiceHealth
    ) {
        self.configuration = configuration
        self.context = context
        self.server = server
        self.log = log
        self.offenders = offenders
        self.lines = lines
        self.indexes = indexes
        self.sync = sync
        self.health = health
    }

    /// Nil when recipients can be judged, or why not.
    var obstacle: String? {
        guard context.index.current == nil, context.policy.current?.indexExpected == true else { return nil }
        return "no index is in force, and one is expected at \(configuration.index.path)"
    }

    /// The parts that don't work though recipients are judged, a line each; empty where all do.
    var degradation: [String] {
        reportConditions()
        let now = Date()
        return health.reports.compactMap { Trouble($0, now: now) }.map { "\($0.text); \($0.advice)" }
    }

    /// Reports the parts that don't report by themselves, standard error and the connections, and when the others are tried next.
    func reportConditions() {
        if let failure = log.failure { health.report(.log, failure) }
        if let failure = sync.outlook?.failure { health.report(.state, failure) }
        health.report(.messages, MessageStream.standardError.failure)
        health.report(.connections, connectionFailure)
    }

    /// Why connections were turned away within the last minute; nil where none was.
    private var connectionFailure: PartFailure? {
        let statistics = server.statistics
        func isNew(_ time: ContinuousClock.Instant?) -> Bool { time.map { .now - $0 < .seconds(60) } ?? false }
        if isNew(statistics.lastDescriptorShortage) {
            return PartFailure(
                reason: "connections: there are no descriptors left for more; further ones are closed at once",
                advice: "raise the limit of open files (LimitNOFILE= in the unit)")
        }
        guard isNew(statistics.lastOverload) else { return nil }
        return PartFailure(
            reason:
                "connections: the limit of \(statistics.connectionLimit) is reached; recipients on further ones are deferred",
            advice: statistics.connectionLimit < configuration.maximumConnections
                ? "raise the limit of open files (LimitNOFILE= in the unit)" : "raise milter.max_connections")
    }

    /// The figures of now.
    var figures: FilterFigures {
        reportConditions()
        let statistics = log.statistics
        let policy = context.policy.current
        let observing = policy?.domains.filter(\.rules.observe).count ?? 0
        let domains = policy?.domains.count ?? 0
        let connections = server.statistics
        return FilterFigures(
            version: Postern.version, process: Int(getpid()), user: Int(geteuid()), started: started,
            socket: "\(configuration.socket)",
            mode: observing == 0
                ? "enforce" : observing == domains ? "observe" : "observe for \(observing) of \(domains) domains",
            domains: domains, sessions: .init(open: server.openSessions, total: server.totalSessions),
            connections: .init(
                open: connections.connections, limit: connections.connectionLimit,
                deferred: connections.deferredConnections, dropped: connections.droppedConnections,
                expired: connections.expiredConnections),
            parts: health.reports, messagesDropped: MessageStream.standardError.dropped,
            syncOutlook: sync.outlook.map { .init(runningSince: $0.runningSince, next: $0.next, running: $0.running) },
            index: context.index.current.map { IndexFigures($0.info, path: configuration.index.path) },
            indexExpected: policy?.indexExpected ?? false,
            log: .init(
                queued: statistics.queued, queueCapacity: statistics.queueCapacity, written: statistics.written,
                thinned: statistics.thinned, waiting: statistics.waiting, failing: statistics.failing,
                damagedCopy: statistics.damagedCopy),
            harvest: .init(
                networks: context.harvest.networks, offenders: offenders.count, held: context.tarpit.held),
            unlistedSenders: context.senders.count,
            http: configuration.http.listen.map { "http://\($0)/" })
    }

    // MARK: The live page

    /// What the live page shows; see `LiveDocument` for its form.
    func live() -> Data {
        let figures = figures
        let status = configuration.sync.sources.isEmpty ? nil : SyncStatus(state: configuration.sync.state)
        var document = LiveDocument(
            now: Date(),
            troubles: Trouble.all(
                configuration, index: figures.index, isIndexExpected: figures.indexExpected, sync: status,
                parts: figures.parts),
            filter: figures, sync: status.map(LiveDocument.Sync.init))
        do {
            let reader = try openReader()
            document.minutes = try reader.verdictsByMinute(60)
            document.newest = try reader.newestEntries(25).reversed().map {
                (configuration.log.redact ? $0.redacted() : $0).visible()
            }
        } catch {
            reader.withLock { $0 = nil }
            document.troubles.append(
                Trouble(text: "\(error)", advice: "the chart and the list below are not of now"))
        }
        return document.data
    }

    private func openReader() throws(LogError) -> RejectionReader {
        if let reader = reader.withLock({ $0 }) { return reader }
        let opened = try RejectionReader(path: configuration.log.database)
        reader.withLock { $0 = opened }
        return opened
    }

    // MARK: Metrics

    /// The metrics.
    func metrics(_ dialect: Exposition.Dialect) -> String {
        var text = Exposition(dialect)
        let figures = figures
        text.gauge(
            "postern_build_info", "The version that runs; always 1.",
            [(["version": figures.version], 1)])
        addProcess(&text)
        addVerdicts(&text)
        addSessions(figures, &text)
        addIndex(figures, &text)
        addSync(&text)
        addLog(figures, &text)
        addParts(figures, &text)
        return text.text
    }

    private func addProcess(_ text: inout Exposition) {
        let process = ProcessFigures()
        text.gauge(
            "process_start_time_seconds", "When the process was started, in seconds since 1970.",
            started.timeIntervalSince1970)
        text.gauge(
            "process_resident_memory_bytes", "Resident memory, the index included.",
            process.residentMemory.map(Double.init))
        text.gauge("process_open_fds", "Open file descriptors.", process.openDescriptors.map(Double.init))
        if let seconds = process.processorSeconds {
            text.counter("process_cpu_seconds", "Processor time used, in seconds.", [(Exposition.none, seconds)])
        }
    }

    private func addVerdicts(_ text: inout Exposition) {
        var byReason: [VerdictKey: Int] = [:]
        var byDomain: [DomainKey: Int] = [:]
        let named = Set(context.policy.current?.domains.prefix(Self.domainLimit).map(\.name) ?? [])
        for tally in log.verdictTotals {
            let mode = tally.observed ? "observe" : "enforce"
            byReason[VerdictKey(outcome: tally.outcome.name, reason: tally.reason, mode: mode), default: 0] +=
                tally.count
            // A domain that a reload has taken away, or one too many.
            let domain = tally.domain.isEmpty ? "foreign" : named.contains(tally.domain) ? tally.domain : "other"
            byDomain[DomainKey(domain: domain, outcome: tally.outcome.name), default: 0] += tally.count
        }
        // There from the beginning, so that a first increase shows.
        for domain in named {
            for outcome in Outcome.allCases {
                byDomain[DomainKey(domain: domain, outcome: outcome.name), default: 0] += 0
            }
        }
        text.counter(
            "postern_verdicts",
            "Recipients judged, by outcome and reason; mode observe: logged only; reason mta: refused by the MTA itself.",
            byReason.sorted { $0.key < $1.key }.map {
                (["outcome": $0.key.outcome, "reason": $0.key.reason, "mode": $0.key.mode], Double($0.value))
            })
        text.counter(
            "postern_domain_verdicts",
            "Recipients judged, by relay domain; foreign: all others; other: relay domains past the first \(Self.domainLimit).",
            byDomain.sorted { $0.key < $1.key }.map {
                (["domain": $0.key.domain, "outcome": $0.key.outcome], Double($0.value))
            })
        let latency = context.latency.reading
        text.histogram(
            "postern_judgement_seconds",
            "How long judging a recipient took, from the MTA's question to the answer, the tarpit left out.",
            bounds: LatencyHistogram.bounds.map { Double($0) / 1e9 }, counts: latency.counts,
            sum: Double(latency.sum) / 1e9)
    }

    private func addSessions(_ figures: FilterFigures, _ text: inout Exposition) {
        text.gauge("postern_sessions_open", "SMTP sessions open now.", Double(figures.sessions.open))
        text.counter("postern_sessions", "SMTP sessions since the start.", figures.sessions.total)
        text.gauge("postern_connections_open", "Connections of MTAs open now.", Double(figures.connections.open))
        text.gauge("postern_connections_limit", "Connections that there may be.", Double(figures.connections.limit))
        let turnedAway = [
            ("deferred", figures.connections.deferred), ("dropped", figures.connections.dropped),
            ("expired", figures.connections.expired),
        ]
        text.counter(
            "postern_connections_turned_away",
            "Connections over the limit (deferred: their recipients were), closed at once (dropped), or with a packet that "
                + "wasn't whole in time (expired).",
            turnedAway.map { (["how": $0.0], Double($0.1)) })
        text.counter(
            "postern_harvest_offenders", "Client networks that have reached the harvest limit.",
            figures.harvest.offenders)
        text.gauge(
            "postern_harvest_networks", "Client networks whose unknown recipients are remembered.",
            Double(figures.harvest.networks))
        text.gauge(
            "postern_unlisted_senders",
            "Senders of relay domains that the index doesn't list, and that have sent through this gateway within \(UnlistedSenders.days) days.",
            Double(figures.unlistedSenders))
        text.gauge("postern_tarpit_held", "Refusals held back now.", Double(figures.harvest.held))
    }

    private func addIndex(_ figures: FilterFigures, _ text: inout Exposition) {
        text.gauge("postern_index_in_force", "1 where an index is in force, else 0.", figures.index == nil ? 0 : 1)
        text.gauge(
            "postern_index_expected", "1 where recipients are put off without an index, else 0.",
            figures.indexExpected ? 1 : 0)
        text.gauge(
            "postern_index_max_age_seconds", "index.max_age; 0: no limit.", Double(configuration.index.maximumAge))
        if let index = figures.index {
            text.gauge(
                "postern_index_created_timestamp_seconds", "When the list in force was right, in seconds since 1970.",
                index.created.timeIntervalSince1970)
            text.gauge(
                "postern_index_age_seconds", "How old the list in force is.",
                Date().timeIntervalSince(index.created))
            text.gauge("postern_index_generation", "The number of the list in force.", Double(index.generation))
            text.gauge("postern_index_recipients", "Recipients in the index.", Double(index.recipients))
            text.gauge(
                "postern_index_leaving",
                "Entries of the index that have left the list, and are deferred until they are rejected.",
                Double(index.leaving))
            text.gauge(
                "postern_index_catch_all_domains", "Catch-all domains in the index.", Double(index.catchAllDomains))
            text.gauge("postern_index_size_bytes", "Size of the index file.", Double(index.size))
        }
        text.counter(
            "postern_index_loads", "New index files taken over.", indexes.loads)
        text.counter(
            "postern_index_load_failures", "Index files that could not be used; the one in use stayed.",
            indexes.failures)
    }

    private func addSync(_ text: inout Exposition) {
        let reading = sync.reading
        guard !reading.sources.isEmpty else { return }
        text.counter(
            "postern_syncs", "Syncs by what came of them; refused: by a guard.",
            SyncTally.Outcome.allCases.map { (["outcome": $0.rawValue], Double(reading.outcomes[$0] ?? 0)) })
        text.summary(
            "postern_sync_duration_seconds", "How long syncs took.",
            [(Exposition.none, reading.runs, reading.seconds)])
        text.gauge(
            "postern_sync_refused", "1 while a guard refuses the newest list, else 0.", reading.isRefused ? 1 : 0)
        text.gauge(
            "postern_sync_last_success_timestamp_seconds", "When a sync last ended well, in seconds since 1970.",
            reading.lastSuccess?.timeIntervalSince1970)
        let sources = reading.sources.sorted { $0.key < $1.key }
        text.summary(
            "postern_sync_source_read_seconds", "How long reading a source took.",
            sources.map { (["source": $0.key], $0.value.reads, $0.value.seconds) })
        text.counter(
            "postern_sync_source_failures", "How often a source could not be read.",
            sources.map { (["source": $0.key], Double($0.value.failures)) })
        text.gauge(
            "postern_sync_source_failing", "1 while a source can't be read, else 0.",
            sources.map { (["source": $0.key], $0.value.isFailing ? 1 : 0) })
        text.gauge(
            "postern_source_faulty_entries", "Entries of a source that list nobody though they seem meant to.",
            sources.map { (["source": $0.key], Double($0.value.faulty)) })
        text.gauge(
            "postern_source_doubtful_entries", "Listed entries of which something that decides can't be read.",
            sources.map { (["source": $0.key], Double($0.value.doubtful)) })
        let running = Dictionary(
            (sync.outlook?.running ?? []).map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        text.gauge(
            "postern_sync_source_reading_since_timestamp_seconds",
            "Since when a source is being read, in seconds since 1970; 0 while it isn't.",
            sources.map { (["source": $0.key], running[$0.key]?.since.timeIntervalSince1970 ?? 0) })
        text.gauge(
            "postern_sync_source_reading_entries", "How many entries were read by the reading under way.",
            sources.map { (["source": $0.key], Double(running[$0.key]?.entries ?? 0)) })
        text.gauge(
            "postern_sync_source_as_of_timestamp_seconds",
            "When a source was last known to be as the list has it, in seconds since 1970.",
            sources.compactMap { name, source in source.asOf.map { (["source": name], $0.timeIntervalSince1970) } })
    }

    private func addLog(_ figures: FilterFigures, _ text: inout Exposition) {
        text.gauge("postern_log_queue_bytes", "Detail records that wait to be written.", Double(figures.log.queued))
        text.gauge(
            "postern_log_queue_capacity_bytes", "How much may wait.", Double(figures.log.queueCapacity))
        text.counter("postern_log_rows_written", "Detail rows written.", figures.log.written)
        text.counter(
            "postern_log_rows_thinned", "Detail rows that found no room; the refusals are counted all the same.",
            figures.log.thinned)
        text.gauge(
            "postern_log_waiting_recipients", "Recipients that are counted in memory and not yet in the database.",
            Double(figures.log.waiting))
        text.gauge(
            "postern_log_failing", "1 while the rejection log can't be written, else 0.", figures.log.failing ? 1 : 0)
        text.gauge(
            "postern_log_size_bytes", "Size of the rejection log, its write-ahead log included.",
            Double(Self.logSize(configuration.log.database)))
        if let lines {
            text.counter(
                "postern_log_lines_omitted", "Refusals that got no line in the messages.", lines.omitted)
        }
    }

    private func addParts(_ figures: FilterFigures, _ text: inout Exposition) {
        text.gauge(
            "postern_part_working", "1 where a part of the filter works, 0 where it doesn't and is tried again.",
            figures.parts.map { (["part": $0.part.rawValue], $0.works ? 1 : 0) })
        text.gauge(
            "postern_part_since_timestamp_seconds", "Since when a part has worked, or not, in seconds since 1970.",
            figures.parts.map { (["part": $0.part.rawValue], $0.since.timeIntervalSince1970) })
        text.counter(
            "postern_messages_dropped", "Messages that could not be written to standard error.", figures.messagesDropped
        )
    }

    /// The bytes of the database and what lies beside it.
    static func logSize(_ database: String) -> Int {
        ["", "-wal"].reduce(0) { sum, suffix in
            var status = stat()
            return stat(database + suffix, &status) == 0 ? sum + Int(status.st_size) : sum
        }
    }
}

private struct VerdictKey: Hashable, Comparable {
    let outcome: String
    let reason: String
    let mode: String

    static func < (first: VerdictKey, second: VerdictKey) -> Bool {
        (first.outcome, first.reason, first.mode) < (second.outcome, second.reason, second.mode)
    }
}

private struct DomainKey: Hashable, Comparable {
    let domain: String
    let outcome: String

    static func < (first: DomainKey, second: DomainKey) -> Bool {
        (first.domain, first.outcome) < (second.domain, second.outcome)
    }
}
