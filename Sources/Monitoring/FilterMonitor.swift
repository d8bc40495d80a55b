import Foundation
package import Milter
package import RecipientFilter
import RecipientIndex
import RecipientSync
package import RejectionLog
import RejectionReport
import Synchronization
import System

/// Collects the state of the running filter's parts for metrics, the live page, `/readyz` and `postern status`. Any thread may call it.
package final class FilterMonitor: Sendable {
    private let settings: MonitoringSettings
    private let filter: FilterContext
    private let server: MilterServer
    private let log: RejectionLog
    private let indexes: IndexCounters
    private let sync: SyncCounters
    private let health: ServiceHealth
    private let offenders: @Sendable () -> Int
    private let omittedLines: @Sendable () -> Int?
    private let started = Date()
    private let reader = Mutex<RejectionReader?>(nil)

    /// A monitor of a filter that starts now.
    ///
    /// - Parameters:
    ///   - offenders: the number of client networks that have reached their harvest limit.
    ///   - omittedLines: the number of rejections without a line in the messages; nil if rejections get no lines.
    package init(
        _ settings: MonitoringSettings, filter: FilterContext, server: MilterServer, log: RejectionLog,
        indexes: IndexCounters, sync: SyncCounters, health: ServiceHealth, offenders: @escaping @Sendable () -> Int,
        omittedLines: @escaping @Sendable () -> Int?
    ) {
        self.settings = settings
        self.filter = filter
        self.server = server
        self.log = log
        self.indexes = indexes
        self.sync = sync
        self.health = health
        self.offenders = offenders
        self.omittedLines = omittedLines
    }

    /// Why recipients can't be judged; nil if they can.
    var obstacle: String? {
        guard filter.index.current == nil, filter.policy.current?.indexExpected == true else { return nil }
        return "no index is in use, and one is expected at \(settings.indexPath)"
    }

    /// A line for each part that doesn't work.
    var failingParts: [String] {
        reportConditions()
        let now = Date()
        return health.reports.compactMap { Trouble.ofPart($0, now: now) }.map { "\($0.text); \($0.advice)" }
    }

    /// Updates the filter's health: the parts that don't report by themselves, and the times of the next tries.
    package func reportConditions() {
        if let failure = log.failure { health.report(.log, failure) }
        if let failure = sync.outlook?.failure { health.report(.state, failure) }
        health.report(.messages, MessageStream.standardError.failure)
        health.report(.connections, connectionFailure)
    }

    /// Why connections were turned away within the last minute; nil if none was.
    private var connectionFailure: PartFailure? {
        let statistics = server.statistics
        func isRecent(_ time: ContinuousClock.Instant?) -> Bool { time.map { .now - $0 < .seconds(60) } ?? false }
        let raiseDescriptors = "raise the limit of open files (LimitNOFILE= in the unit)"
        if isRecent(statistics.lastDescriptorShortage) {
            return PartFailure(
                reason: "connections: the process has no descriptors left; further connections are closed at once",
                advice: raiseDescriptors)
        }
        guard isRecent(statistics.lastOverload) else { return nil }
        return PartFailure(
            reason:
                "connections: the limit of \(statistics.connectionLimit) is reached; recipients on further connections "
                + "are deferred",
            advice: statistics.connectionLimit < settings.maximumConnections
                ? raiseDescriptors : "raise milter.max_connections")
    }

    /// The state of the filter now.
    package var status: FilterStatus {
        reportConditions()
        let log = log.statistics
        let connections = server.statistics
        let policy = filter.policy.current
        return FilterStatus(
            version: settings.version, process: Int(getpid()), user: Int(geteuid()), started: started,
            socket: settings.socket, mode: mode, domains: policy?.domains.count ?? 0,
            sessions: .init(open: server.openSessions, total: server.totalSessions),
            connections: .init(
                open: connections.connections, limit: connections.connectionLimit,
                deferred: connections.deferredConnections, dropped: connections.droppedConnections,
                expired: connections.expiredConnections),
            parts: health.reports, messagesDropped: MessageStream.standardError.dropped,
            syncOutlook: sync.outlook.map { .init(runningSince: $0.runningSince, next: $0.next, running: $0.running) },
            index: filter.index.current.map { .init($0.info, path: settings.indexPath) },
            indexExpected: policy?.indexExpected ?? false,
            log: .init(
                queued: log.queued, queueCapacity: log.queueCapacity, written: log.written, thinned: log.thinned,
                waiting: log.waiting, failing: log.failing, damagedCopy: log.damagedCopy),
            harvest: .init(networks: filter.harvest.networks, offenders: offenders(), held: filter.tarpit.held),
            unlistedSenders: filter.senders.count, http: settings.http)
    }

    private var mode: String {
        let domains = filter.policy.current?.domains ?? []
        let observing = domains.filter(\.settings.observe).count
        if observing == 0 { return "enforce" }
        return observing == domains.count ? "observe" : "observe for \(observing) of \(domains.count) domains"
    }

    /// The metrics in a dialect.
    func metrics(_ dialect: MetricsText.Dialect) -> String {
        FilterMetrics(
            status: status, settings: settings, verdicts: log.verdictTotals,
            domains: filter.policy.current?.domains.map(\.name) ?? [], latency: filter.latency.reading,
            sync: sync.reading, indexLoads: indexes.loads, indexFailures: indexes.failures,
            omittedLines: omittedLines()
        ).text(dialect)
    }

    /// The document that the live page shows, as JSON.
    func live() -> Data {
        let filter = status
        let sync = settings.sources.isEmpty ? nil : SyncStatus(state: settings.syncState)
        var document = LiveDocument(
            troubles: Trouble.all(
                settings, parts: filter.parts, index: filter.index, isIndexExpected: filter.indexExpected, sync: sync),
            filter: filter, sync: sync.map(LiveDocument.Sync.init))
        do {
            let reader = try openReader()
            document.minutes = try reader.verdictsByMinute(60)
            document.newest = try reader.newestEntries(25).reversed().map {
                (settings.redactsLog ? $0.redacted() : $0).visible()
            }
        } catch {
            // The log replaces a damaged database by a new one.
            reader.withLock { $0 = nil }
            document.troubles.append(
                Trouble(text: "\(error)", advice: "the chart and the latest rejections are out of date"))
        }
        return document.data
    }

    private func openReader() throws(LogError) -> RejectionReader {
        if let reader = reader.withLock({ $0 }) { return reader }
        let opened = try RejectionReader(path: settings.logDatabase)
        reader.withLock { $0 = opened }
        return opened
    }
}

/// The parts of the configuration that monitoring shows or compares the filter's state with.
package struct MonitoringSettings: Sendable {
    var version: String
    /// The milter's socket, such as `inet:8891@127.0.0.1`.
    var socket: String
    /// `milter.max_connections`.
    var maximumConnections: Int
    /// `enforce` or `observe`, as configured for all domains.
    var mode: String
    /// `index.path`.
    var indexPath: String
    /// `index.max_age` in seconds; 0 for no limit.
    var maximumIndexAge: Int
    /// `sync.state`.
    var syncState: String
    /// The names of the sources.
    var sources: [String]
    /// `log.database`.
    var logDatabase: String
    /// `log.redact`.
    var redactsLog: Bool
    /// The address of the live page, such as `http://127.0.0.1:8892/`; nil if HTTP is off.
    var http: String?
    /// A sentence for each setting that is valid and perhaps not intended.
    var notices: [String]

    /// The settings of a configuration.
    package init(
        version: String, socket: String, maximumConnections: Int, mode: String, indexPath: String, maximumIndexAge: Int,
        syncState: String, sources: [String], logDatabase: String, redactsLog: Bool, http: String?, notices: [String]
    ) {
        self.version = version
        self.socket = socket
        self.maximumConnections = maximumConnections
        self.mode = mode
        self.indexPath = indexPath
        self.maximumIndexAge = maximumIndexAge
        self.syncState = syncState
        self.sources = sources
        self.logDatabase = logDatabase
        self.redactsLog = redactsLog
        self.http = http
        self.notices = notices
    }

    /// The bytes of the rejection log, its write-ahead log included; 0 if there is none.
    var logSize: Int {
        ["", "-wal"].reduce(0) { sum, suffix in
            var status = stat()
            return stat(logDatabase + suffix, &status) == 0 ? sum + Int(status.st_size) : sum
        }
    }
}
