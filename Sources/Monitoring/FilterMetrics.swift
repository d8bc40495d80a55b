import Foundation
import RecipientFilter
import RecipientSources
import RecipientSync
import RejectionLog

/// The metrics of a running filter.
struct FilterMetrics {
    /// The most relay domains with metrics of their own; the other relay domains are counted together.
    static let domainLimit = 200

    let status: FilterStatus
    let settings: MonitoringSettings
    /// The numbers of judged recipients since the start.
    let verdicts: [VerdictTotal]
    /// The relay domains of the policy in force.
    let domains: [String]
    let latency: LatencyHistogram.Reading
    let sync: SyncCounters.Reading
    let indexLoads: Int
    let indexFailures: Int
    /// The rejections without a line in the messages; nil if rejections get no lines.
    let omittedLines: Int?
    let process = ProcessUsage()
    let now = Date()

    /// The metrics in a dialect.
    func text(_ dialect: MetricsText.Dialect) -> String {
        var text = MetricsText(dialect)
        text.gauge("postern_build_info", help: "The running version; always 1.", [(["version": status.version], 1)])
        addProcess(&text)
        addVerdicts(&text)
        addConnections(&text)
        addHarvest(&text)
        addIndex(&text)
        addSyncs(&text)
        addSources(&text)
        addLog(&text)
        addParts(&text)
        return text.text
    }

    private func addProcess(_ text: inout MetricsText) {
        text.gauge(
            "process_start_time_seconds", help: "When the process was started, in seconds since 1970.",
            status.started.timeIntervalSince1970)
        text.gauge(
            "process_resident_memory_bytes", help: "Resident memory, including the index.",
            process.residentMemory.map(Double.init))
        text.gauge("process_open_fds", help: "Open file descriptors.", process.openDescriptors.map(Double.init))
        if let seconds = process.processorSeconds {
            text.counter("process_cpu_seconds", help: "Processor time used, in seconds.", [(MetricsText.none, seconds)])
        }
    }

    private func addVerdicts(_ text: inout MetricsText) {
        // Label values in the order of the labels.
        var byReason: [[String]: Int] = [:]
        var byDomain: [[String]: Int] = [:]
        let named = Set(domains.prefix(Self.domainLimit))
        // Present from the beginning, so that Prometheus sees the first increase.
        for domain in named {
            for outcome in Outcome.allCases { byDomain[[domain, outcome.name]] = 0 }
        }
        for total in verdicts {
            let mode = total.observed ? "observe" : "enforce"
            byReason[[total.outcome.name, total.reason, mode], default: 0] += total.count
            // A domain that a reload has removed isn't named any more.
            let domain = total.domain.isEmpty ? "foreign" : named.contains(total.domain) ? total.domain : "other"
            byDomain[[domain, total.outcome.name], default: 0] += total.count
        }
        func sorted(_ counts: [[String]: Int]) -> [(key: [String], value: Int)] {
            counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        }
        text.counter(
            "postern_verdicts",
            help:
                "Recipients judged, by outcome and reason. Mode observe: only logged. Reason mta: rejected by the MTA itself.",
            sorted(byReason).map { (["outcome": $0.key[0], "reason": $0.key[1], "mode": $0.key[2]], Double($0.value)) })
        text.counter(
            "postern_domain_verdicts",
            help:
                "Recipients judged, by relay domain. foreign: domains that aren't relay domains; other: relay domains after the "
                + "first \(Self.domainLimit).",
            sorted(byDomain).map { (["domain": $0.key[0], "outcome": $0.key[1]], Double($0.value)) })
        text.histogram(
            "postern_judgement_seconds",
            help:
                "The time from the MTA's question about a recipient to the filter's answer, without the tarpit's delay.",
            bounds: LatencyHistogram.bounds.map { Double($0) / 1e9 }, counts: latency.counts,
            sum: Double(latency.sum) / 1e9)
    }

    private func addConnections(_ text: inout MetricsText) {
        let connections = status.connections
        text.gauge("postern_sessions_open", help: "Open SMTP sessions.", Double(status.sessions.open))
        text.counter("postern_sessions", help: "SMTP sessions since the start.", status.sessions.total)
        text.gauge("postern_connections_open", help: "Open connections of MTAs.", Double(connections.open))
        text.gauge("postern_connections_limit", help: "The most connections of MTAs.", Double(connections.limit))
        text.counter(
            "postern_connections_turned_away",
            help:
                "Connections of MTAs over the limit (deferred: their recipients were deferred; dropped: closed at once), or closed "
                + "because a packet didn't arrive completely in time (expired).",
            [
                ("deferred", connections.deferred), ("dropped", connections.dropped), ("expired", connections.expired),
            ].map { (["how": $0.0], Double($0.1)) })
    }

    private func addHarvest(_ text: inout MetricsText) {
        text.counter(
            "postern_harvest_offenders", help: "Client networks that have reached the harvest limit.",
            status.harvest.offenders)
        text.gauge(
            "postern_harvest_networks", help: "Client networks whose unknown recipients are counted.",
            Double(status.harvest.networks))
        text.gauge(
            "postern_unlisted_senders",
            help: "Senders of relay domains that the index doesn't list and that have sent through this gateway within "
                + "\(UnlistedSenders.days) days.", Double(status.unlistedSenders))
        text.gauge("postern_tarpit_held", help: "Rejections that the tarpit delays now.", Double(status.harvest.held))
    }

    private func addIndex(_ text: inout MetricsText) {
        text.gauge("postern_index_in_force", help: "1 if an index is in use, else 0.", status.index == nil ? 0 : 1)
        text.gauge(
            "postern_index_expected", help: "1 if a source or index.path is configured: an index is needed; else 0.",
            status.indexExpected ? 1 : 0)
        text.gauge(
            "postern_index_max_age_seconds", help: "index.max_age; 0 for no limit.", Double(settings.maximumIndexAge))
        if let index = status.index {
            text.gauge(
                "postern_index_created_timestamp_seconds",
                help: "When the list in the index in use was last known to be current, in seconds since 1970.",
                index.created.timeIntervalSince1970)
            text.gauge(
                "postern_index_age_seconds", help: "The age of the index in use.", now.timeIntervalSince(index.created))
            text.gauge(
                "postern_index_generation", help: "The generation of the index in use.", Double(index.generation))
            text.gauge("postern_index_recipients", help: "Recipients in the index.", Double(index.recipients))
            text.gauge(
                "postern_index_leaving",
                help:
                    "Recipients and catch-all domains that have left the list and are deferred before they are rejected.",
                Double(index.leaving))
            text.gauge(
                "postern_index_catch_all_domains", help: "Catch-all domains in the index.",
                Double(index.catchAllDomains))
            text.gauge("postern_index_size_bytes", help: "The size of the index file.", Double(index.size))
        }
        text.counter("postern_index_loads", help: "New index files that were taken over.", indexLoads)
        text.counter(
            "postern_index_load_failures", help: "Index files that could not be used; the index in use stayed.",
            indexFailures)
    }

    private func addSyncs(_ text: inout MetricsText) {
        guard !sync.sources.isEmpty else { return }
        text.counter(
            "postern_syncs", help: "Syncs by result. refused: Postern rejected the list.",
            SyncCounters.Result.allCases.map { (["outcome": $0.rawValue], Double(sync.results[$0] ?? 0)) })
        text.summary(
            "postern_sync_duration_seconds", help: "How long syncs took.", [(MetricsText.none, sync.runs, sync.seconds)]
        )
        text.gauge(
            "postern_sync_refused", help: "1 while Postern rejects the newest list, else 0.", sync.isRefused ? 1 : 0)
        text.gauge(
            "postern_sync_last_success_timestamp_seconds", help: "When a sync last succeeded, in seconds since 1970.",
            sync.lastSuccess?.timeIntervalSince1970)
    }

    private func addSources(_ text: inout MetricsText) {
        let sources = sync.sources.sorted { $0.key < $1.key }
        guard !sources.isEmpty else { return }
        func samples(_ value: (SyncCounters.Source) -> Double) -> [(labels: MetricsText.Labels, value: Double)] {
            sources.map { (["source": $0.key], value($0.value)) }
        }
        text.summary(
            "postern_sync_source_read_seconds", help: "How long it took to read a source.",
            sources.map { (["source": $0.key], $0.value.reads, $0.value.seconds) })
        text.counter(
            "postern_sync_source_failures", help: "How often a source could not be read.",
            samples { Double($0.failures) })
        text.gauge(
            "postern_sync_source_failing", help: "1 while a source can't be read, else 0.",
            samples { $0.state?.reading == .failed ? 1 : 0 })
        text.gauge(
            "postern_source_faulty_entries", help: "Entries of a source that should list a recipient, but are faulty.",
            samples { Double(($0.state?.report.faults.count ?? 0) + ($0.state?.report.domainFaults.count ?? 0)) })
        text.gauge(
            "postern_source_doubtful_entries", help: "Listed entries with an attribute that Postern can't read.",
            samples { Double($0.state?.report.doubts.count ?? 0) })
        let running = Dictionary(
            (status.syncOutlook?.running ?? []).map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        text.gauge(
            "postern_sync_source_reading_since_timestamp_seconds",
            help: "When the current reading of a source began, in seconds since 1970; 0 if it isn't being read.",
            sources.map { (["source": $0.key], running[$0.key]?.since.timeIntervalSince1970 ?? 0) })
        text.gauge(
            "postern_sync_source_reading_entries",
            help: "The entries that the current reading of a source has read so far.",
            sources.map { (["source": $0.key], Double(running[$0.key]?.entries ?? 0)) })
        text.gauge(
            "postern_sync_source_as_of_timestamp_seconds",
            help: "When a source was last synced, in seconds since 1970.",
            sources.compactMap { name, source in
                source.state?.lastSynced.map { (["source": name], $0.timeIntervalSince1970) }
            })
    }

    private func addLog(_ text: inout MetricsText) {
        let log = status.log
        text.gauge("postern_log_queue_bytes", help: "Bytes of log entries that wait to be written.", Double(log.queued))
        text.gauge(
            "postern_log_queue_capacity_bytes", help: "Bytes of log entries that may wait.", Double(log.queueCapacity))
        text.counter("postern_log_rows_written", help: "Log entries written.", log.written)
        text.counter(
            "postern_log_rows_thinned",
            help: "Log entries left out because the queue was full; their recipients are counted all the same.",
            log.thinned)
        text.gauge(
            "postern_log_waiting_recipients",
            help: "Recipients that are counted in memory and not yet in the database.",
            Double(log.waiting))
        text.gauge(
            "postern_log_failing", help: "1 while the rejection log can't be written, else 0.", log.failing ? 1 : 0)
        text.gauge(
            "postern_log_size_bytes", help: "The size of the rejection log, including its write-ahead log.",
            Double(settings.logSize))
        if let lines = omittedLines {
            text.counter("postern_log_lines_omitted", help: "Rejections without a line in the messages.", lines)
        }
    }

    private func addParts(_ text: inout MetricsText) {
        text.gauge(
            "postern_part_working",
            help: "1 if a part of the filter works, 0 if it has failed and is being tried again.",
            status.parts.map { (["part": $0.part.rawValue], $0.works ? 1 : 0) })
        text.gauge(
            "postern_part_since_timestamp_seconds",
            help: "When a part of the filter last failed or recovered, in seconds since 1970.",
            status.parts.map { (["part": $0.part.rawValue], $0.since.timeIntervalSince1970) })
        text.counter(
            "postern_messages_dropped", help: "Messages that could not be written to standard error.",
            status.messagesDropped)
    }
}

/// The resources that this process uses, from the kernel; nil where the kernel doesn't say.
struct ProcessUsage: Sendable {
    /// In bytes.
    let residentMemory: Int?
    let openDescriptors: Int?
    /// User and system time in seconds.
    let processorSeconds: Double?

    /// The usage now.
    init() {
        let words = FileManager.default.contents(atPath: "/proc/self/statm")
            .map { String(decoding: $0, as: UTF8.self).split(separator: " ") }
        residentMemory = words.flatMap { $0.count > 1 ? Int($0[1]) : nil }.map {
            $0 * Int(sysconf(Int32(_SC_PAGESIZE)))
        }
        openDescriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count
        var usage = rusage()
        processorSeconds =
            getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0
            ? [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 } : nil
    }
}
