import DirectorySync
import Foundation
import Logging
import Monitoring
import RecipientFilter
import RecipientIndex
import RejectionLog
import Synchronization
import System

/// Puts a changed configuration in force while the filter runs, on a thread of its own.
///
/// A configuration is read, checked and compiled whole before any of it counts; what is faulty changes nothing. Sessions
/// take the new policy over at their next recipient. What belongs to the process (socket, log, index file) stays as it was
/// at the start and is named; a new sync thread takes the place of the old one, which leaves the old or the new index.
final class Reloader: Sendable {
    /// How often the configuration's files are looked at where that is wanted.
    private static let interval = Duration.milliseconds(250)
    /// How long the old sync thread may take to end before it is left behind.
    private static let patience = Duration.seconds(5)

    private let initial: Configuration
    private let policy: HotSwap<Policy>
    private let log: RejectionLog
    private let control: ControlFiles
    private let tally: SyncTally
    private let health: ServiceHealth
    /// Called when another policy is in force.
    private let policyChanged: @Sendable () -> Void
    private let logger: Logger
    /// Held for moments only: a new snapshot needs it.
    private let state: Mutex<State>
    private let wake = SteadySemaphore()
    private let ended = SteadySemaphore()
    private let isStopping = Atomic<Bool>(false)
    private let isRequested = Atomic<Bool>(false)
    /// What is to be done before the next reload.
    private let preparation = Mutex<(@Sendable () -> Void)?>(nil)

    private struct State {
        /// The configuration in force.
        var configuration: Configuration
        /// The sources of the index in force, with the relay domains that they name.
        var sources: [IndexSource] = []
        var sync: SyncThread?
        var isRunning = false
    }

    /// A reloader for a filter with this configuration, not started yet.
    init(
        _ configuration: Configuration, policy: HotSwap<Policy>, log: RejectionLog, control: ControlFiles,
        tally: SyncTally, health: ServiceHealth, logger: Logger, policyChanged: @escaping @Sendable () -> Void
    ) {
        self.policyChanged = policyChanged
        initial = configuration
        self.policy = policy
        self.log = log
        self.control = control
        self.tally = tally
        self.health = health
        self.logger = logger
        state = Mutex(State(configuration: configuration))
    }

    /// The policy of a configuration, whose domains have their slots in the log.
    static func policy(_ configuration: Configuration, _ log: RejectionLog) -> Policy {
        configuration.compiledPolicy { log.slot(forDomain: $0) }
    }

    /// Takes in the relay domains that a new index names; may be called from any thread.
    func take(_ info: IndexInfo) {
        let domains = info.sources.flatMap(\.relayDomains)
        let aliases = info.sources.flatMap(\.aliasDomains)
        let (hasNewDomains, hasNewAliases) = state.withLock { state in
            defer { state.sources = info.sources }
            return (
                domains != state.sources.flatMap(\.relayDomains),
                aliases != state.sources.flatMap(\.aliasDomains)
            )
        }
        guard hasNewDomains || hasNewAliases else { return }
        publishPolicy()
        if hasNewAliases {
            logger.notice("index: it names \(Words.count(aliases.count, "alias domain"))")
            let named = state.withLock { ($0.configuration, $0.sources) }
            for circle in named.0.naming(named.1).aliasCircles {
                logger.warning(
                    "index: the alias domains \(circle) lead back to themselves: they are ignored; name a domain that is no alias"
                )
            }
        }
        guard hasNewDomains else { return }
        let count = state.withLock {
            $0.configuration.naming($0.sources).domains.count - $0.configuration.domains.count
        }
        if count > 0 {
            logger.notice("index: it names \(Words.count(count, "relay domain")) beside those of the configuration")
        }
    }

    /// Compiles the policy of the configuration and the index in force and publishes it, again until neither has changed meanwhile.
    private func publishPolicy() {
        while true {
            let (configuration, sources) = state.withLock { ($0.configuration, $0.sources) }
            let compiled = Self.policy(configuration.naming(sources), log)
            // Published under the lock: an older policy must not come after a newer one.
            let isPublished = state.withLock { state in
                guard state.configuration.stamps == configuration.stamps, state.sources == sources else { return false }
                policy.publish(compiled)
                return true
            }
            if isPublished { return policyChanged() }
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
    ///
    /// - Parameter preparation: what is done first, on the reloader's thread.
    func request(after preparation: (@Sendable () -> Void)? = nil) {
        if let preparation { self.preparation.withLock { $0 = preparation } }
        isRequested.store(true, ordering: .releasing)
        wake.signal()
    }

    /// Ends the thread and the sync thread; what doesn't end within the time is left behind.
    func stop(within time: Duration) {
        guard state.withLock({ $0.isRunning }) else { return }
        isStopping.store(true, ordering: .releasing)
        wake.signal()
        let sync = state.withLock { state in
            state.isRunning = false
            let sync = state.sync
            state.sync = nil
            return sync
        }
        sync?.stop(within: time)
        _ = ended.wait(within: time)
    }

    private func run() {
        var watch = ConfigurationWatch(initial.stamps)
        var reloads = ServiceFile.Reloads()
        while true {
            _ = wake.wait(within: Self.interval)
            if isStopping.load(ordering: .acquiring) { return }
            if isRequested.exchange(false, ordering: .acquiringAndReleasing) {
                preparation.withLock { preparation in
                    defer { preparation = nil }
                    return preparation
                }?()
                reload(&watch, &reloads, isAsked: true)
            } else if state.withLock({ $0.configuration.reloadsByItself }), watch.isDue(now: .now) {
                logger.notice("reload: \(initial.file) or a table that it names has changed")
                reload(&watch, &reloads, isAsked: false)
            }
        }
    }

    /// - Parameter isAsked: whether a person asks for it.
    private func reload(
        _ watch: inout ConfigurationWatch, _ reloads: inout ServiceFile.Reloads, isAsked: Bool
    ) {
        reloads.begun += 1
        control.write(reloads)
        let stamps = watch.current
        do {
            reloads.message = try putInForce(&watch, isAsked: isAsked)
            reloads.outcome = .accepted
            logger.notice("reload: in force: \(reloads.message)")
        } catch {
            // Refused once for each state of the files.
            watch.settle(stamps)
            reloads.message = "\(error)"
            reloads.outcome = .refused
            logger.error("\(error)")
            logger.error("reload: refused; the configuration in force stays")
        }
        reloads.ended = reloads.begun
        control.write(reloads)
    }

    /// An error for a table of relay domains that lists fewer than before, where the index doesn't keep the others: mail for the others would be
    /// rejected.
    private func checkRelayTables(_ read: Configuration) throws {
        let (before, sources) = state.withLock { ($0.configuration.relayTables, $0.sources) }
        let kept = Set(read.naming(sources).domains.map(\.name))
        for path in read.relayTables.keys.sorted() {
            let lost = (before[path] ?? []).filter { !kept.contains($0) }
            guard !lost.isEmpty else { continue }
            throw ConfigurationError(
                file: read.file,
                faults: [
                    ConfigurationFault(
                        key: "relay.domains_from", line: nil,
                        message: "\(path) lists \(Words.count(lost.count, "relay domain")) less than before: "
                            + lost.prefix(10).joined(separator: ", ") + (lost.count > 10 ? ", …" : "")
                            + "; if this is meant: postern reload")
                ])
        }
    }

    /// Reads the configuration and puts it in force; says what is.
    private func putInForce(_ watch: inout ConfigurationWatch, isAsked: Bool) throws -> String {
        let read = try Configuration.load(initial.file)
        guard read.sourceFaults.isEmpty else { throw ConfigurationError(file: read.file, faults: read.sourceFaults) }
        if !isAsked { try checkRelayTables(read) }
        let (configuration, unchanged) = read.keepingWhatBelongsToTheProcess(of: initial)
        let synchronizer =
            configuration.sync.sources.isEmpty ? nil : try Synchronizer(configuration.syncConfiguration)

        let former = state.withLock { state in
            state.configuration = configuration
            let former = state.sync
            state.sync = nil
            return former
        }
        publishPolicy()
        watch.settle(configuration.stamps)
        for notice in configuration.notices { logger.notice("\(notice)") }
        // Always anew: what the sources' own files say, such as passwords, is read again so.
        former?.stop(within: Self.patience)
        tally.expect(configuration)
        if let synchronizer {
            let sync = FilterService.syncThread(synchronizer, tally, health, logger)
            let isStarted = state.withLock { state in
                guard state.isRunning else { return false }
                state.sync = sync
                return true
            }
            if isStarted { sync.start() }
        } else {
            tally.watch(nil)
            for part in [ServiceHealth.Part.state, .sync] { health.forget(part) }
        }

        let relayed = configuration.naming(state.withLock { $0.sources }).domains.count
        let kept = relayed - configuration.domains.count
        var message =
            "\(Words.count(relayed, "relay domain"))\(kept > 0 ? " (\(kept) of them named by the index)" : ""), "
            + Words.count(configuration.sync.sources.count, "source")
        if !unchanged.isEmpty { message += "; not before a restart: \(unchanged.joined(separator: ", "))" }
        return message
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
