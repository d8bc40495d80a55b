import DirectorySync
import Foundation
import Logging
import RecipientFilter
import RecipientIndex
import RejectionLog
import Synchronization

/// Puts a changed configuration in force while the filter runs, on a thread of its own.
///
/// A configuration is read, checked and compiled whole before any of it counts; what is faulty changes nothing. Sessions
/// take the new policy over at their next recipient. What belongs to the process (socket, log, index file) stays as it was
/// at the start and is named; a new sync thread takes the place of the old one, which leaves the old or the new index.
final class Reloader: Sendable {
    /// How often the configuration's files are looked at where that is wanted.
    private static let interval = DispatchTimeInterval.milliseconds(250)

    private let initial: Configuration
    private let policy: HotSwap<Policy>
    private let log: RejectionLog
    private let file: ServiceFile.Holder
    private let tally: SyncTally
    private let logger: Logger
    private let state: Mutex<State>
    private let wake = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)
    private let isStopping = Atomic<Bool>(false)
    private let isRequested = Atomic<Bool>(false)

    /// Belongs to the thread once it runs.
    private struct State {
        /// The configuration in force.
        var configuration: Configuration
        /// The sources of the index in force, with the relay domains that they name.
        var sources: [IndexSource] = []
        var watch: ConfigurationWatch
        var sync: SyncThread?
        var isRunning = false
        var reloads = ServiceFile.Reloads()
    }

    /// A reloader for a filter with this configuration, not started yet.
    init(
        _ configuration: Configuration, policy: HotSwap<Policy>, log: RejectionLog, file: ServiceFile.Holder,
        tally: SyncTally, logger: Logger
    ) {
        initial = configuration
        self.policy = policy
        self.log = log
        self.file = file
        self.tally = tally
        self.logger = logger
        state = Mutex(State(configuration: configuration, watch: ConfigurationWatch(configuration.stamps)))
    }

    /// The policy of a configuration, its domains tagged for ``LogSink``.
    static func policy(_ configuration: Configuration, _ log: RejectionLog) -> Policy {
        configuration.compiledPolicy { log.slot(forDomain: $0).number }
    }

    /// Takes in the relay domains that a new index names; may be called from any thread.
    func take(_ info: IndexInfo) {
        state.withLock { state in
            let before = state.sources.flatMap(\.relayDomains)
            state.sources = info.sources
            guard state.configuration.takesDomainsFromIndex, info.sources.flatMap(\.relayDomains) != before else {
                return
            }
            let named = state.configuration.naming(state.sources)
            policy.publish(Self.policy(named, log))
            let count = named.domains.count - state.configuration.domains.count
            logger.notice("index: it names \(Words.count(count, "relay domain")) beside those of the configuration")
        }
    }

    /// Starts the thread, and takes over the sync thread, which runs already.
    func start(sync: SyncThread?) {
        state.withLock {
            $0.sync = sync
            $0.isRunning = true
        }
        let thread = Thread { [self] in
            run()
            ended.signal()
        }
        thread.name = "reloader"
        thread.start()
    }

    /// Has the configuration read again soon; may be called from any thread.
    func request() {
        isRequested.store(true, ordering: .releasing)
        wake.signal()
    }

    /// Ends the thread and the sync thread, and waits for both.
    func stop() {
        guard state.withLock({ $0.isRunning }) else { return }
        isStopping.store(true, ordering: .releasing)
        wake.signal()
        ended.wait()
        state.withLock { state in
            state.isRunning = false
            let sync = state.sync
            state.sync = nil
            return sync
        }?.stop()
    }

    private func run() {
        while true {
            _ = wake.wait(timeout: .now() + Self.interval)
            if isStopping.load(ordering: .acquiring) { return }
            state.withLock { state in
                if isRequested.exchange(false, ordering: .acquiringAndReleasing) {
                    reload(&state)
                } else if state.configuration.reloadsByItself, state.watch.isDue(now: .now) {
                    logger.notice("reload: \(initial.file) or a table that it names has changed")
                    reload(&state)
                }
            }
        }
    }

    private func reload(_ state: inout State) {
        state.reloads.begun += 1
        file.write(state.reloads)
        let stamps = state.watch.current
        do {
            state.reloads.message = try putInForce(&state)
            state.reloads.outcome = .accepted
            logger.notice("reload: in force: \(state.reloads.message)")
        } catch {
            // Refused once for each state of the files.
            state.watch.settle(stamps)
            state.reloads.message = "\(error)"
            state.reloads.outcome = .refused
            logger.error("\(error)")
            logger.error("reload: refused; the configuration in force stays")
        }
        state.reloads.ended = state.reloads.begun
        file.write(state.reloads)
    }

    /// Reads the configuration and puts it in force; says what is.
    private func putInForce(_ state: inout State) throws -> String {
        let read = try Configuration.load(initial.file)
        guard read.sourceFaults.isEmpty else { throw ConfigurationError(file: read.file, faults: read.sourceFaults) }
        let (configuration, unchanged) = read.keepingWhatBelongsToTheProcess(of: initial)
        let compiled = Self.policy(configuration.naming(state.sources), log)
        let synchronizer = try makeSynchronizer(configuration, state.configuration)

        policy.publish(compiled)
        state.configuration = configuration
        state.watch.settle(configuration.stamps)
        for notice in configuration.notices { logger.notice("\(notice)") }
        // Always anew: what the sources' own files say, such as passwords, is read again so.
        state.sync?.stop()
        tally.expect(configuration)
        state.sync = synchronizer.map { synchronizer in
            SyncThread(
                synchronizer, condition: { [logger] in SyncReportText.log($0, logger) },
                ran: { [tally] in tally.take($0) }
            ) { [logger] in SyncReportText.log($0, logger) }
        }
        state.sync?.start()

        var message =
            "\(Words.count(configuration.domains.count, "relay domain")), "
            + Words.count(configuration.sync.sources.count, "source")
        if !unchanged.isEmpty { message += "; not before a restart: \(unchanged.joined(separator: ", "))" }
        return message
    }

    /// The synchronizer of a configuration; one with a state of its own is proved to be writable.
    private func makeSynchronizer(_ configuration: Configuration, _ former: Configuration) throws -> Synchronizer? {
        guard !configuration.sync.sources.isEmpty else { return nil }
        let synchronizer = try Synchronizer(configuration.syncConfiguration)
        // The state in use is known to be sound, and may be locked by a sync in progress.
        if former.sync.sources.isEmpty || former.sync.state != configuration.sync.state { try synchronizer.prepare() }
        return synchronizer
    }
}

extension Configuration {
    /// The configuration with the keys of another that only a new process can change, and which of them differ.
    fileprivate func keepingWhatBelongsToTheProcess(of other: Configuration) -> (Configuration, differing: [String]) {
        var kept = self
        var differing: [String] = []
        func keep<Value: Equatable>(_ path: WritableKeyPath<Configuration, Value>, _ key: String) {
            if self[keyPath: path] != other[keyPath: path] { differing.append(key) }
            kept[keyPath: path] = other[keyPath: path]
        }
        keep(\.socket, "milter.socket")
        keep(\.socketMode, "milter.socket_mode")
        keep(\.maximumConnections, "milter.max_connections")
        keep(\.index.path, "index.path")
        keep(\.log.database, "log.database")
        keep(\.log.retention, "log.retention")
        keep(\.log.lines, "log.lines")
        keep(\.log.redact, "log.redact")
        keep(\.http.listen, "http.listen")
        keep(\.log.detailRetention, "log.detail_retention")
        keep(\.log.maximumSize, "log.max_size")
        return (kept, differing)
    }
}
