import DirectorySync
import Foundation
import Logging
import Milter
import Monitoring
import RecipientFilter
import RecipientIndex
import RejectionLog
import System

/// The running filter: every part made, wired to the others, started and stopped in the right order.
///
/// What keeps recipients from being judged ends the process with a line and an exit status when it is made or started: a faulty configuration,
/// the milter's socket, nothing to answer from and no way to get it. Every other part may fail, at the start and later: ``ServiceHealth`` says
/// so, and the part tries again.
final class FilterService {
    let logger: Logger
    private let configuration: Configuration
    private let health: ServiceHealth
    private let log: RejectionLog
    private let index = HotSwap<IndexSnapshot>(nil)
    private let watcher: IndexWatcher
    private let server: MilterServer
    private let reloader: Reloader
    private let tarpit: Tarpit
    private let offenders: OffenderLog
    private let lines: LineLog?
    private let sync: SyncTally
    private let control: ControlFiles
    private let monitoring: MonitoringServer?

    /// How long the process may take to end, and what each step of that may take.
    private static let endingTime = Duration.milliseconds(4_600)
    private static let drainTime = Duration.milliseconds(1_500)
    private static let logTime = Duration.milliseconds(2_000)
    private static let stepTime = Duration.milliseconds(500)
    /// How long the start waits for the log where verdicts need something of it.
    private static let openingTime = Duration.seconds(1)

    init(_ configuration: Configuration, configurationFile: String) throws {
        let logger = StandardErrorLog.logger
        self.logger = logger
        self.configuration = configuration
        for notice in configuration.notices { logger.notice("\(configurationFile): \(notice)") }
        let health = ServiceHealth { Self.tell($0, $1, logger) }
        self.health = health

        lines = configuration.log.lines ? LineLog(redact: configuration.log.redact, logger) : nil
        let senders = UnlistedSenders()
        log = Self.openLog(configuration, lines, senders, health, logger)
        let policy = HotSwap<Policy>(Reloader.policy(configuration, log))
        let context = FilterContext(
            policy: policy, index: index, harvest: HarvestTable(), senders: senders, log: log)
        tarpit = context.tarpit
        let sync = SyncTally(configuration)
        self.sync = sync
        offenders = OffenderLog(context.harvest, logger)
        server = MilterServer(
            MilterConfiguration(
                name: "postern", socket: configuration.socket, socketMode: configuration.socketMode,
                maximumConnections: configuration.maximumConnections, macros: FilterContext.macros)
        ) { connection, milter in
            context.session(connection, milter)
        }
        let indexes = IndexTally()
        let monitor = FilterMonitor(
            configuration, context: context, server: server, log: log, offenders: offenders, lines: lines,
            indexes: indexes, sync: sync, health: health)
        do throws(ServiceFile.Failure) {
            control = try ControlFiles(
                database: configuration.log.database, health, tick: { monitor.reportConditions() },
                figures: { monitor.figures })
        } catch {
            log.close(within: Self.logTime)
            throw Messages.fail(error, error.exitStatus)
        }
        reloader = Reloader(
            configuration, policy: policy, log: log, control: control, tally: sync, health: health, logger: logger
        ) { context.forgiveKnownRecipients() }
        watcher = IndexWatcher(path: configuration.index.path, into: index) { [reloader, log, index] event in
            indexes.take(event)
            if case .loaded(let info) = event {
                reloader.take(info)
                context.forgiveKnownRecipients()
                log.recordIndex(generation: info.generation, recipients: info.recipients, created: info.created)
            }
            Self.report(event, isInUse: index.current != nil, health, logger)
        }
        monitoring = configuration.http.listen.map { Self.monitoringServer(at: $0, monitor, logger) }
    }

    private static func monitoringServer(
        at place: HostAndPort, _ monitor: FilterMonitor, _ logger: Logger
    ) -> MonitoringServer {
        MonitoringServer(
            host: place.host, port: place.port, isLoopback: place.isLoopback,
            documents: .init(
                metrics: { monitor.metrics($0) }, live: { monitor.live() }, obstacle: { monitor.obstacle },
                degradation: { monitor.degradation })
        ) { logger.error("\($0)") }
    }

    /// Makes the socket and starts the threads; returns when MTAs are served.
    func start() throws {
        health.expect(.index)
        watcher.loadNow()
        // Without the log's word the first recipients might be rejected rather than deferred.
        if configuration.defersUnlistedSenders { log.waitForOpening(within: Self.openingTime) }
        do {
            try checkSources()
            // First: what fails here leaves no socket behind for an MTA to try.
            let sync = try makeSync()
            MilterSignals.arm()
            try openSocket()
            watcher.start()
            sync?.start()
            reloader.start(sync: sync)
            offenders.start()
            lines?.start()
            control.start()
        } catch {
            control.stop()
            log.close(within: Self.logTime)
            throw error
        }
        let thread = Thread { [server, logger] in
            do {
                // Returns when the filter ends.
                try server.run()
            } catch {
                logger.critical("\(error)")
                MessageStream.standardError.flush(within: .seconds(1))
                // Without its filter the MTA defers mail: better to be started anew by the service manager.
                _exit(ExitStatus.unavailable)
            }
        }
        thread.name = "milter"
        thread.start()
        if monitoring != nil { health.expect(.http) }
        monitoring?.startAndKeepTrying(patience: .seconds(2)) { [health] in health.report(.http, $0) }
        let recipients = index.current.map { Words.count($0.info.recipients, "recipient") } ?? "no index yet"
        if let listen = configuration.http.listen {
            logger.notice("http: metrics and the live page on http://\(listen)/")
        }
        if geteuid() == 0 { logger.warning("\(Words.runningAsRoot)") }
        logger.notice(
            "serving \(configuration.socket): \(Words.count(configuration.domains.count, "relay domain")), \(recipients)"
        )
    }

    /// Has the configuration read again, on a thread of its own.
    func reload() { reloader.request() }

    /// Has the index file taken over though it is of an older generation than the index in use, and the configuration read again.
    func reloadAcceptingOlderIndex() { reloader.request { [watcher] in _ = watcher.loadNow(acceptsOlder: true) } }

    /// Answers the recipients in judgement, writes out the log, ends the threads; within five seconds, whatever hangs.
    func stop() {
        endLater()
        tarpit.letGo()
        if !server.drain(timeout: Self.drainTime) { logger.warning("stopping: a recipient was still in judgement") }
        if !log.close(within: Self.logTime) { logger.error("stopping: the rejection log didn't end in time") }
        monitoring?.stop()
        control.stop()
        reloader.stop(within: Self.stepTime)
        offenders.stop()
        watcher.stop()
        lines?.stop()
        logger.notice("stopped")
        MessageStream.standardError.flush(within: Self.stepTime)
    }

    /// Ends the process if the regular end takes too long.
    private func endLater() {
        let thread = Thread { [logger] in
            Thread.sleep(forTimeInterval: Self.endingTime / .seconds(1))
            logger.critical("stopping: a part of the filter didn't end within 5 seconds and is left as it is")
            MessageStream.standardError.flush(within: .milliseconds(100))
            _exit(ExitStatus.software)
        }
        thread.name = "end"
        thread.start()
    }

    private static func openLog(
        _ configuration: Configuration, _ lines: LineLog?, _ senders: UnlistedSenders, _ health: ServiceHealth,
        _ logger: Logger
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

    /// Refuses to begin with nothing to answer from, and no way to get it. An index that is there and can't be read now may be readable soon.
    private func checkSources() throws {
        guard !configuration.sourceFaults.isEmpty else { return }
        let error = ConfigurationError(file: configuration.file, faults: configuration.sourceFaults)
        guard index.current != nil || access(configuration.index.path, F_OK) == 0 else {
            throw Messages.fail(error, ExitStatus.configuration)
        }
        logger.error("going on with the last index: \(error)")
    }

    /// The sync thread; nil where there is nothing to sync.
    private func makeSync() throws -> SyncThread? {
        guard !configuration.sync.sources.isEmpty else { return nil }
        do {
            return Self.syncThread(try Synchronizer(configuration.syncConfiguration), sync, health, logger)
        } catch {
            throw Messages.fail(error, error.exitStatus)
        }
    }

    /// A sync thread that tells tally, health and messages how it goes.
    static func syncThread(
        _ synchronizer: Synchronizer, _ tally: SyncTally, _ health: ServiceHealth, _ logger: Logger
    ) -> SyncThread {
        health.expect(.state)
        health.expect(.sync)
        let faults = FaultLog(logger)
        let thread = SyncThread(
            synchronizer, condition: { health.report(.state, $0) },
            ran: { run in
                tally.take(run)
                faults.take(run)
                // A run that got as far as its sources has used the state.
                if case .success = run.result { health.report(.state, nil) }
                if let failure = failure(run, next: tally.outlook?.next) { health.report(.sync, failure.value) }
            }, report: { SyncReportText.log($0, logger) })
        tally.watch(thread)
        return thread
    }

    /// What a run says of reading the sources: why they can't be read, or nil in the value for all is well; nil where it says nothing.
    private static func failure(_ run: SyncRun, next: Date?) -> (value: PartFailure?, ())? {
        func failure(_ reason: String) -> PartFailure {
            PartFailure(
                reason: reason, advice: "the list in force stays; try it: postern sync --dry-run", nextTry: next)
        }
        switch run.result {
        case .success(let report):
            // A list that a guard has refused is refused still.
            if report.refusalStands { return nil }
            let texts = report.failures.compactMap(\.failure)
            return (texts.isEmpty ? nil : failure(texts.joined(separator: "; ")), ())
        case .failure(let error):
            switch error.kind {
            case .cancelled, .locked, .state: return nil
            case .guardRefused, .unreachable, .malformed, .configuration:
                return (failure(error.description.split(separator: "\n").joined(separator: "; ")), ())
            }
        }
    }

    private func openSocket() throws {
        do {
            try server.open()
        } catch {
            throw Messages.fail(error, Self.exitStatus(error))
        }
    }

    private static func report(
        _ event: IndexWatcher.Event, isInUse: Bool, _ health: ServiceHealth, _ logger: Logger
    ) {
        switch event {
        case .loaded(let info):
            health.report(.index, nil)
            logger.notice("index: \(Words.count(info.recipients, "recipient")) in force")
            if info.created.timeIntervalSinceNow > Words.clockTolerance {
                logger.warning(
                    "index: generation \(info.generation) is \(Words.age(of: info.created)): set the clock that is wrong"
                )
            }
        case .failed(let error):
            let reason = "index: \(isInUse ? "the one in use stays" : "none is in use"): \(error)"
            logger.error("\(reason)\(error.kind == .older ? "; if that is meant: postern reload --accept-older" : "")")
            health.report(
                .index,
                PartFailure(
                    reason: reason,
                    advice: error.kind == .older
                        ? "bring a newer one here; if the older one is meant: postern reload --accept-older"
                        : "make the file anew with postern sync --once, or bring a sound one here"))
        }
    }

    /// Writes the line for a change of a part's condition.
    private static func tell(_ part: ServiceHealth.Part, _ change: ServiceHealth.Change, _ logger: Logger) {
        // These have lines of their own, with more in them.
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
