package import Foundation
package import Milter
package import RecipientFilter
import RecipientIndex
import RecipientSync
package import RejectionLog
import RejectionReport
import Synchronization
import System

/// Collects what the parts of the running filter are doing, for metrics, the live page, `/readyz` and `postern status`. Any thread may ask.
package final class FilterMonitor: Sendable {
    /// The parts of a running filter that monitoring reads.
    package struct Parts: Sendable {
        /// Sessions, verdicts and harvest limits.
        package var filter: FilterContext
        /// The connections of MTAs.
        package var server: MilterServer
        /// The rejection log.
        package var log: RejectionLog
        /// The index files taken over.
        package var indexes: IndexCounters
        /// The syncs.
        package var sync: SyncCounters
        /// The parts that work and those that don't.
        package var health: ServiceHealth
        /// The client networks that have reached their harvest limit.
        package var offenders: @Sendable () -> Int = { 0 }
        /// The refusals without a line in the messages; nil if refusals get no lines.
        package var omittedLines: (@Sendable () -> Int)?

        /// The parts of a filter.
        package init(
            filter: FilterContext, server: MilterServer, log: RejectionLog, indexes: IndexCounters,
            sync: SyncCounters, health: ServiceHealth
        ) {
            self.filter = filter
            self.server = server
            self.log = log
            self.indexes = indexes
            self.sync = sync
            self.health = health
        }
    }

    private let settings: MonitoringSettings
    private let parts: Parts
    private let started = Date()
    private let reader = Mutex<RejectionReader?>(nil)

    /// A monitor of a filter that starts now.
    package init(_ settings: MonitoringSettings, _ parts: Parts) {
        self.settings = settings
        self.parts = parts
    }

    /// Why recipients can't be judged; nil if they can.
    package var obstacle: String? {
        guard parts.filter.index.current == nil, parts.filter.policy.current?.indexExpected == true else { return nil }
        return "no index is in use, and one is expected at \(settings.indexPath)"
    }

    /// The parts that don't work though recipients are judged, a line each.
    package var failingParts: [String] {
        reportConditions()
        let now = Date()
        return parts.health.reports.compactMap { Trouble($0, now: now) }.map { "\($0.text); \($0.advice)" }
    }

    /// Reports to the filter's health the parts that don't report by themselves, and when the others are tried next.
    package func reportConditions() {
        if let failure = parts.log.failure { parts.health.report(.log, failure) }
        if let failure = parts.sync.outlook?.failure { parts.health.report(.state, failure) }
        parts.health.report(.messages, MessageStream.standardError.failure)
        parts.health.report(.connections, connectionFailure)
    }

    /// Why connections were turned away within the last minute; nil if none was.
    private var connectionFailure: PartFailure? {
        let statistics = parts.server.statistics
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

    /// What the filter is doing now.
    package var status: FilterStatus {
        reportConditions()
        let log = parts.log.statistics
        let connections = parts.server.statistics
        let policy = parts.filter.policy.current
        return FilterStatus(
            version: settings.version, process: Int(getpid()), user: Int(geteuid()), started: started,
            socket: settings.socket, mode: mode, domains: policy?.domains.count ?? 0,
            sessions: .init(open: parts.server.openSessions, total: parts.server.totalSessions),
            connections: .init(
                open: connections.connections, limit: connections.connectionLimit,
                deferred: connections.deferredConnections, dropped: connections.droppedConnections,
                expired: connections.expiredConnections),
            parts: parts.health.reports, messagesDropped: MessageStream.standardError.dropped,
            syncOutlook: parts.sync.outlook.map {
                .init(runningSince: $0.runningSince, next: $0.next, running: $0.running)
            },
            index: parts.filter.index.current.map { .init($0.info, path: settings.indexPath) },
            indexExpected: policy?.indexExpected ?? false,
            log: .init(
                queued: log.queued, queueCapacity: log.queueCapacity, written: log.written, thinned: log.thinned,
                waiting: log.waiting, failing: log.failing, damagedCopy: log.damagedCopy),
            harvest: .init(
                networks: parts.filter.harvest.networks, offenders: parts.offenders(), held: parts.filter.tarpit.held),
            unlistedSenders: parts.filter.senders.count, http: settings.http)
    }

    private var mode: String {
        let domains = parts.filter.policy.current?.domains ?? []
        let observing = domains.filter(\.settings.observe).count
        if observing == 0 { return "enforce" }
        return observing == domains.count ? "observe" : "observe for \(observing) of \(domains.count) domains"
    }

    /// The metrics in a dialect.
    package func metrics(_ dialect: MetricsText.Dialect) -> String {
        let counters = FilterCounters(
            verdicts: parts.log.verdictTotals, domains: parts.filter.policy.current?.domains.map(\.name) ?? [],
            latency: parts.filter.latency.reading, sync: parts.sync.reading, indexLoads: parts.indexes.loads,
            indexFailures: parts.indexes.failures, omittedLines: parts.omittedLines?(), logSize: settings.logSize)
        return FilterMetrics(status, counters, settings).text(dialect)
    }

    /// The document that the live page shows, as JSON.
    package func live() -> Data {
        let filter = status
        let sync = settings.sources.isEmpty ? nil : SyncStatus(state: settings.syncState)
        var document = LiveDocument(
            now: Date(),
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
            // A damaged database is replaced by a new one.
            reader.withLock { $0 = nil }
            document.troubles.append(
                Trouble(text: "\(error)", advice: "the chart and the list of refusals are out of date"))
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
