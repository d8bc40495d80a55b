import Foundation
import Logging
import Milter
import Monitoring
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog
import System

/// The running filter: makes every part, connects it with the others, and starts and stops them in the right order.
///
/// Only what keeps recipients from being judged ends the process, with a message and an exit status, when the service is made or started: a
/// faulty configuration, a milter socket that can't be opened, no index and no source to make one of. Every other part may fail, at the start
/// and later: ``ServiceHealth`` says so, and the part tries again.
final class FilterService {
    let logger: Logger
    private let configuration: Configuration
    private let syncs: Bool
    private let health: ServiceHealth
    private let log: RejectionLog
    private let index = HotSwap<IndexSnapshot>(nil)
    private let watcher: IndexWatcher
    private let server: MilterServer
    private let reloader: Reloader
    private let tarpit: Tarpit
    private let offenders: OffenderLog
    private let lines: LineLog?
    private let sync: SyncCounters
    private let monitor: FilterMonitor
    private let control: ControlServer
    private let monitoring: MonitoringServer?

    /// How long the process may take to end, and how long each step of the end.
    private static let endingTime = Duration.milliseconds(4_600)
    private static let drainTime = Duration.milliseconds(1_500)
    private static let logTime = Duration.milliseconds(2_000)
    private static let stepTime = Duration.milliseconds(500)
    /// How long the start waits for the log if verdicts depend on it (`policy.unlisted_sender = "defer"`).
    private static let openingTime = Duration.seconds(1)

    /// - Parameter syncs: whether the filter reads the sources itself; otherwise another process publishes the index.
    init(_ configuration: Configuration, configurationFile: String, syncs: Bool) throws {
        let logger = StandardErrorLog.logger
        self.logger = logger
        self.configuration = configuration
        self.syncs = syncs
        for notice in configuration.notices { logger.notice("\(configurationFile): \(notice)") }
        let health = ServiceHealth { Self.announce($0, $1, to: logger) }
        self.health = health

        lines = configuration.log.lines ? LineLog(redact: configuration.log.redact, logger) : nil
        let senders = UnlistedSenders()
        log = Self.openLog(configuration, lines: lines, senders: senders, health: health, logger: logger)
        let policy = HotSwap<Policy>(Reloader.policy(configuration, log))
        let context = FilterContext(
            policy: policy, index: index, harvest: HarvestTable(), senders: senders, log: log)
        tarpit = context.tarpit
        let sync = SyncCounters(sources: syncs ? configuration.sync.sources.map(\.name) : [])
        self.sync = sync
        offenders = OffenderLog(context.harvest, logger)
        server = MilterServer(
            MilterConfiguration(
                name: "postern", socket: configuration.socket, socketMode: configuration.socketMode,
                maximumConnections: configuration.maximumConnections, macros: FilterContext.macros)
        ) { connection, milter in
            context.session(connection, milter)
        }
        let indexes = IndexCounters()
        let (offenders, lines) = (offenders, lines)
        let monitor = FilterMonitor(
            configuration.monitoringSettings, filter: context, server: server, log: log, indexes: indexes, sync: sync,
            health: health, offenders: { offenders.count }, omittedLines: { lines?.omitted })
        self.monitor = monitor
        do throws(ControlServer.InUse) {
            control = try ControlServer(database: configuration.log.database, health)
        } catch {
            log.close(within: Self.logTime)
            throw Messages.fail(error, ExitStatus.unavailable)
        }
        reloader = Reloader(
            configuration, syncs: syncs, policy: policy, log: log, sync: sync, health: health, logger: logger
        ) { context.forgiveKnownRecipients() }
        watcher = IndexWatcher(path: configuration.index.path, into: index) { [reloader, log, index] event in
            indexes.count(event)
            if case .loaded(let info) = event {
                reloader.indexChanged(info)
                context.forgiveKnownRecipients()
                log.recordIndex(generation: info.generation, recipients: info.recipients, created: info.created)
            }
            Self.report(event, isInUse: index.current != nil, health: health, logger: logger)
        }
        monitoring = configuration.httpAddress.map {
            MonitoringServer(host: $0.host, port: $0.port, isLoopback: $0.isLoopback, monitor: monitor)
        }
    }

    /// Opens the milter's socket and starts the threads; returns when MTAs are served.
    func start() throws {
        health.expect(.index)
        watcher.loadNow()
        // The log knows the senders whose addresses are deferred instead of rejected.
        if configuration.defersUnlistedSenders { log.waitForOpening(within: Self.openingTime) }
        do {
            try checkSources()
            // Before the socket: if this fails, no MTA has connected.
            let sync = try makeSync()
            MilterSignals.arm()
            do {
                try server.open()
            } catch {
                throw Messages.fail(error, Self.exitStatus(error))
            }
            watcher.start()
            sync?.start()
            reloader.start(sync: sync)
            offenders.start()
            lines?.start()
            startControl()
        } catch {
            control.stop()
            log.close(within: Self.logTime)
            throw error
        }
        NamedThread.start("milter") { [server, logger] in
            do {
                // Returns at the end of the filter.
                try server.run()
            } catch {
                logger.critical("\(error)")
                MessageStream.standardError.flush(within: .seconds(1))
                // The service manager starts the filter again; without it the MTA defers mail.
                _exit(ExitStatus.unavailable)
            }
        }
        if monitoring != nil { health.expect(.http) }
        monitoring?.start(patience: .seconds(2)) { [health] in health.report(.http, $0) }
        let recipients = index.current.map { Words.count($0.info.recipients, "recipient") } ?? "no index yet"
        if let listen = configuration.httpAddress {
            logger.notice("http: metrics and the live page on http://\(listen)/")
        }
        ServiceManager.notify(.ready)
        Watchdog.start(configuration.socket, logger)
        if geteuid() == 0 { logger.warning("\(FilterStatus.rootNotice)") }
        logger.notice(
            "serving \(configuration.socket): \(Words.count(configuration.domains.count, "relay domain")), \(recipients)"
        )
    }

    private func startControl() {
        let (monitor, reloader, watcher, index, path) = (monitor, reloader, watcher, index, configuration.index.path)
        control.start(
            status: { monitor.status },
            reload: { acceptsOlderIndex, ended in
                guard acceptsOlderIndex else { return reloader.request(ended: ended) }
                reloader.request(
                    takeOlderIndex: { Self.takeOlderIndex(watcher, index, path: path) }, ended: ended)
            }, tick: { monitor.reportConditions() })
    }

    /// Takes over the index file though it is of an older generation than the index in use.
    private static func takeOlderIndex(
        _ watcher: IndexWatcher, _ index: HotSwap<IndexSnapshot>, path: String
    ) -> ControlSocket.ReloadResult.OlderIndex {
        let before = index.current?.info
        watcher.loadNow(acceptsOlder: true)
        let info = index.current?.info
        let list =
            info.map { "generation \($0.generation), \(Words.count($0.recipients, "recipient"))" } ?? "no index"
        func isSame(_ other: IndexInfo?) -> Bool {
            info?.generation == other?.generation && info?.created == other?.created
        }
        do {
            guard isSame(try IndexInfo(path: path)) else {
                return .init(isInUse: false, message: "index: \(path) was not taken over; in use: \(list)")
            }
            return .init(isInUse: true, message: "index: \(isSame(before) ? "already" : "now") in use: \(list)")
        } catch {
            return .init(isInUse: false, message: "index: \(error); in use: \(list)")
        }
    }

    /// Has the configuration read again, on the reloader's thread.
    func reload() { reloader.request() }

    /// Answers the recipients that are being judged, writes out the log and ends the threads, within five seconds.
    func stop() {
        ServiceManager.notify(.stopping)
        endLater()
        tarpit.letGo()
        if !server.drain(timeout: Self.drainTime) {
            logger.warning("stopping: a verdict was not finished in time; the MTA defers that recipient")
        }
        if !log.close(within: Self.logTime) { logger.error("stopping: the rejection log could not be closed in time") }
        monitoring?.stop()
        reloader.stop(within: Self.stepTime)
        control.stop()
        offenders.stop()
        watcher.stop()
        lines?.stop()
        logger.notice("stopped")
        MessageStream.standardError.flush(within: Self.stepTime)
    }

    /// Ends the process if the regular end takes too long.
    private func endLater() {
        NamedThread.start("end") { [logger] in
            Thread.sleep(forTimeInterval: Self.endingTime / .seconds(1))
            logger.critical("stopping: the filter didn't end within 5 seconds; the process exits now")
            MessageStream.standardError.flush(within: .milliseconds(100))
            _exit(ExitStatus.software)
        }
    }

    private static func openLog(
        _ configuration: Configuration, lines: LineLog?, senders: UnlistedSenders, health: ServiceHealth, logger: Logger
    ) -> RejectionLog {
        health.expect(.log)
        var options = RejectionLog.Options(path: configuration.log.database) { logger.error("\($0)") }
        options.retention = TimeInterval(configuration.log.retention)
        if let lines { options.received = { lines.enqueue($0) } }
        options.detailRetention = TimeInterval(configuration.log.detailRetention)
        options.maximumSize = configuration.log.maximumSize > 0 ? configuration.log.maximumSize : nil
        options.unlistedSenders = { $0.forEach { senders.insert($0.address, day: $0.lastDay) } }
        options.day = { senders.setToday($0) }
        options.condition = { health.report(.log, $0) }
        return RejectionLog(options)
    }

    /// Refuses to start without an index and without a source to make one of. An index file that can't be read now may be readable soon.
    private func checkSources() throws {
        guard syncs, !configuration.sourceFaults.isEmpty else { return }
        let error = ConfigurationError(file: configuration.file, faults: configuration.sourceFaults)
        guard index.current != nil || access(configuration.index.path, F_OK) == 0 else {
            throw Messages.fail(error, ExitStatus.configuration)
        }
        logger.error("sync: not running, the last index stays in use: \(error)")
    }

    /// The sync thread; nil if the filter doesn't sync, or without sources.
    private func makeSync() throws -> SyncThread? {
        guard syncs, !configuration.sync.sources.isEmpty else { return nil }
        do {
            return Self.syncThread(
                try Synchronizer(configuration.syncConfiguration), counters: sync, health: health, logger: logger)
        } catch {
            throw Messages.fail(error, error.exitStatus)
        }
    }

    /// A sync thread whose results go to the counters, the health and the messages.
    static func syncThread(
        _ synchronizer: Synchronizer, counters: SyncCounters, health: ServiceHealth, logger: Logger
    ) -> SyncThread {
        health.expect(.state)
        health.expect(.sync)
        let faults = FaultLog(logger)
        let thread = SyncThread(
            synchronizer, onFileFailure: { health.report(.state, $0) },
            onSync: { run in
                counters.count(run)
                faults.write(run)
                // A run that got as far as its sources has used the state.
                if case .success = run.result { health.report(.state, nil) }
                reportFailure(of: run, next: counters.outlook?.next, health)
            }, onEvent: { SyncReportText.log($0, logger) })
        counters.setThread(thread)
        return thread
    }

    /// Reports whether a sync could read the sources; nothing if the run didn't try.
    private static func reportFailure(of run: SyncRun, next: Date?, _ health: ServiceHealth) {
        let reason: String
        switch run.result {
        case .success(let report):
            // The list that a guard refused before is refused still.
            if report.refusalStands { return }
            reason = report.failures.compactMap(\.failure).joined(separator: "; ")
        case .failure(let error):
            switch error.kind {
            case .cancelled, .locked, .state: return
            case .guardRefused, .unreachable, .malformed, .configuration:
                reason = error.description.split(separator: "\n").joined(separator: "; ")
            }
        }
        let advice = "the last list stays in use; to read the source now: postern sync --dry-run"
        health.report(.sync, reason.isEmpty ? nil : PartFailure(reason: reason, advice: advice, nextTry: next))
    }

    private static func report(
        _ event: IndexWatcher.Event, isInUse: Bool, health: ServiceHealth, logger: Logger
    ) {
        switch event {
        case .loaded(let info):
            health.report(.index, nil)
            logger.notice("index: \(Words.count(info.recipients, "recipient")) in use")
            if info.created.timeIntervalSinceNow > Words.clockTolerance {
                logger.warning(
                    "index: generation \(info.generation) is \(Words.age(of: info.created)): correct the clock that is wrong"
                )
            }
        case .failed(let error):
            let reason = "index: \(isInUse ? "the index in use stays" : "no index is in use"): \(error)"
            logger.error("\(reason)\(error.kind == .older ? "; if it is intended: postern reload --accept-older" : "")")
            health.report(
                .index,
                PartFailure(
                    reason: reason,
                    advice: error.kind == .older
                        ? "copy a newer one here; if the older one is intended: postern reload --accept-older"
                        : "make the file anew with postern sync --once, or copy a sound one here"))
        }
    }

    /// Writes the message about a change of a part's condition.
    private static func announce(_ part: ServiceHealth.Part, _ change: ServiceHealth.Change, to logger: Logger) {
        // These parts write messages of their own, which say more.
        if part == .index || part == .log || part == .sync { return }
        switch change {
        case .failed(let failure):
            let subject = failure.reason.hasPrefix(part.rawValue) ? "" : "\(part.rawValue): "
            logger.error("\(subject)\(failure.reason); \(failure.advice)")
        case .recovered(let seconds):
            logger.notice("\(part.rawValue): works again after \(Words.duration(seconds: seconds))")
        }
    }

    private static func exitStatus(_ error: MilterError) -> Int32 {
        switch error.kind {
        case .notPermitted: ExitStatus.notPermitted
        case .invalidSocket: ExitStatus.configuration
        case .inUse, .unusable, .libmilter: ExitStatus.unavailable
        }
    }
}
