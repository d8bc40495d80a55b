import DirectorySync
import Foundation
import Logging
import Milter
import Monitoring
import RecipientFilter
import RecipientIndex
import RejectionLog

/// The running filter: every part made, wired to the others, started and stopped in the right order.
///
/// Everything that can be wrong is found out while it is made or started, and ends the process with a line and an exit
/// status; once started, it goes on whatever happens.
final class FilterService {
    let logger: Logger
    private let configuration: Configuration
    private let log: RejectionLog
    private let index = HotSwap<IndexSnapshot>(nil)
    private let watcher: IndexWatcher
    private let server: MilterServer
    private let reloader: Reloader
    private let tarpit: Tarpit
    private let offenders: OffenderLog
    private let lines: LineLog?
    private let sync: SyncTally
    private let status: StatusSocket.Holder?
    private let monitoring: MonitoringServer?

    init(_ configuration: Configuration, configurationFile: String) throws {
        let logger = StandardErrorLog.logger
        self.logger = logger
        self.configuration = configuration
        for notice in configuration.notices { logger.notice("\(configurationFile): \(notice)") }

        lines = configuration.log.lines ? LineLog(redact: configuration.log.redact, logger) : nil
        log = Self.openLog(configuration, lines, logger)
        let policy = HotSwap<Policy>(Reloader.policy(configuration, log))
        let context = FilterContext(policy: policy, index: index, harvest: HarvestTable(), sink: LogSink(log))
        tarpit = context.tarpit
        let sync = SyncTally(configuration)
        self.sync = sync
        offenders = OffenderLog(context.harvest, logger)
        do {
            reloader = Reloader(
                configuration, policy: policy, log: log,
                file: try ServiceFile.Holder(database: configuration.log.database), tally: sync, logger: logger)
        } catch {
            log.close()
            throw Messages.fail(error, error.exitStatus)
        }
        let indexes = IndexTally()
        watcher = IndexWatcher(path: configuration.index.path, into: index) { [reloader, log] event in
            indexes.take(event)
            if case .loaded(let info) = event {
                reloader.take(info)
                log.recordIndex(generation: info.generation, recipients: info.recipients, created: info.created)
            }
            Self.report(event, logger)
        }
        server = MilterServer(
            MilterConfiguration(
                name: "postern", socket: configuration.socket, socketMode: configuration.socketMode,
                maximumConnections: configuration.maximumConnections, macros: FilterContext.macros)
        ) { connection, milter in
            context.session(connection, milter)
        }
        let monitor = FilterMonitor(
            configuration, context: context, server: server, log: log, offenders: offenders, lines: lines,
            indexes: indexes, sync: sync)
        status = StatusSocket.Holder(database: configuration.log.database) { monitor.figures }
        monitoring = configuration.http.listen.map { Self.monitoringServer(at: $0, monitor, logger) }
    }

    private static func monitoringServer(
        at place: HostAndPort, _ monitor: FilterMonitor, _ logger: Logger
    ) -> MonitoringServer {
        MonitoringServer(
            host: place.host, port: place.port, isLoopback: place.isLoopback,
            documents: .init(
                metrics: { monitor.metrics($0) }, live: { monitor.live() }, obstacle: { monitor.obstacle })
        ) { logger.error("\($0)") }
    }

    /// Makes the socket and starts the threads; returns when MTAs are served.
    func start() throws {
        watcher.loadNow()
        do {
            try checkSources()
            let sync = try makeSync()
            // First: what fails here leaves no socket behind for an MTA to try.
            try openMonitoring()
            try openSocket()
            watcher.start()
            sync?.start()
            reloader.start(sync: sync)
            offenders.start()
            lines?.start()
            status?.start()
        } catch {
            status?.stop()
            log.close()
            throw error
        }
        let thread = Thread { [server, logger] in
            do {
                // Returns when the filter ends.
                try server.run()
            } catch {
                logger.critical("\(error)")
                // Without its filter the MTA defers mail: better to be started anew by the service manager.
                _exit(ExitStatus.unavailable)
            }
        }
        thread.name = "milter"
        thread.start()
        let recipients = index.current.map { Words.count($0.info.recipients, "recipient") } ?? "no index yet"
        if let listen = configuration.http.listen {
            logger.notice("http: metrics and the live page on http://\(listen)/")
        }
        if status == nil { logger.warning("the status socket beside the log can't be made: postern status knows less") }
        logger.notice(
            "serving \(configuration.socket): \(Words.count(configuration.domains.count, "relay domain")), \(recipients)"
        )
    }

    /// Has the configuration read again, on a thread of its own.
    func reload() { reloader.request() }

    /// Answers the recipients in judgement, writes out the log, ends the threads.
    func stop() {
        tarpit.letGo()
        monitoring?.stop()
        status?.stop()
        if !server.drain(timeout: .seconds(5)) { logger.warning("a recipient was still in judgement after 5 seconds") }
        reloader.stop()
        offenders.stop()
        watcher.stop()
        log.close()
        lines?.stop()
        logger.notice("stopped")
    }

    private static func openLog(
        _ configuration: Configuration, _ lines: LineLog?, _ logger: Logger
    ) -> RejectionLog {
        var options = RejectionLog.Options(path: configuration.log.database) { logger.error("\($0)") }
        options.retention = TimeInterval(configuration.log.retention)
        if let lines { options.stored = { lines.take($0) } }
        options.detailRetention = TimeInterval(configuration.log.detailRetention)
        options.maximumSize = configuration.log.maximumSize > 0 ? configuration.log.maximumSize : nil
        return RejectionLog(options)
    }

    /// Refuses to begin with nothing to answer from, and no way to get it.
    private func checkSources() throws {
        guard !configuration.sourceFaults.isEmpty else { return }
        let error = ConfigurationError(file: configuration.file, faults: configuration.sourceFaults)
        guard index.current != nil else { throw Messages.fail(error, ExitStatus.configuration) }
        logger.error("going on with the last index: \(error)")
    }

    /// The sync thread, its files proved to be writable; nil where there is nothing to sync.
    private func makeSync() throws -> SyncThread? {
        guard !configuration.sync.sources.isEmpty else { return nil }
        do {
            let synchronizer = try Synchronizer(configuration.syncConfiguration)
            try synchronizer.prepare()
            return SyncThread(
                synchronizer, condition: { [logger] in SyncReportText.log($0, logger) },
                ran: { [sync] in sync.take($0) }
            ) { [logger] in
                SyncReportText.log($0, logger)
            }
        } catch {
            throw Messages.fail(error, error.kind == .state ? ExitStatus.cannotCreate : error.exitStatus)
        }
    }

    private func openSocket() throws {
        do {
            try server.open()
        } catch {
            throw Messages.fail(error, Self.exitStatus(error))
        }
    }

    private func openMonitoring() throws {
        do {
            try monitoring?.start()
        } catch {
            throw Messages.fail(
                error, error.kind == .notPermitted ? ExitStatus.notPermitted : ExitStatus.unavailable)
        }
    }

    private static func report(_ event: IndexWatcher.Event, _ logger: Logger) {
        switch event {
        case .loaded(let info): logger.notice("index: \(Words.count(info.recipients, "recipient")) in force")
        case .failed(let error): logger.error("index: the one in use stays: \(error)")
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
