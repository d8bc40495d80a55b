import Foundation
import Logging
import Monitoring
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog
import Synchronization
import System

/// Puts a changed configuration in force while the filter runs, on a thread named `reload`.
///
/// It reads, checks and compiles the whole configuration first: a faulty one changes nothing. Sessions use the new policy from their next
/// recipient on. The keys that only a new process can change (socket, log, index file) stay as they were at the start, and the result names them.
/// A new sync thread takes the place of the old one, which leaves the old or the new index.
final class Reloader: Sendable {
    /// How often the reloader looks whether the configuration's files have changed, with `milter.reload = "auto"`.
    private static let interval = Duration.milliseconds(250)
    /// How long the old sync thread may take to end; then it is left as it is.
    private static let patience = Duration.seconds(5)

    private let initial: Configuration
    private let policy: HotSwap<Policy>
    private let log: RejectionLog
    private let sync: SyncCounters
    private let health: ServiceHealth
    /// Called after each change of the policy.
    private let policyChanged: @Sendable () -> Void
    private let logger: Logger
    private let syncs: Bool
    /// Locked for moments only, since the thread that takes over a new index waits for it.
    private let state: Mutex<State>
    private let wake = SteadySemaphore()
    private let ended = SteadySemaphore()
    private let isStopping = Atomic<Bool>(false)
    private let requests = Mutex<[Request]>([])

    /// A request for a reload.
    private struct Request: Sendable {
        /// Takes over the index file, before the configuration is read.
        var takeOlderIndex: (@Sendable () -> ControlSocket.ReloadResult.OlderIndex)?
        /// Called with the result.
        var ended: @Sendable (ControlSocket.ReloadResult) -> Void
    }

    private struct State {
        /// The configuration in force.
        var configuration: Configuration
        /// The sources of the index in use, with the relay domains that they name.
        var sources: [IndexSource] = []
        var sync: SyncThread?
        var isRunning = false
    }

    /// A reloader for a filter with this configuration, not started yet.
    ///
    /// - Parameter syncs: whether the filter reads the sources.
    init(
        _ configuration: Configuration, syncs: Bool, policy: HotSwap<Policy>, log: RejectionLog, sync: SyncCounters,
        health: ServiceHealth, logger: Logger, policyChanged: @escaping @Sendable () -> Void
    ) {
        self.policyChanged = policyChanged
        initial = configuration
        self.policy = policy
        self.log = log
        self.sync = sync
        self.health = health
        self.logger = logger
        self.syncs = syncs
        state = Mutex(State(configuration: configuration))
    }

    /// The policy of a configuration, whose domains have their slots in the log.
    static func policy(_ configuration: Configuration, _ log: RejectionLog) -> Policy {
        configuration.compiledPolicy { log.slot(forDomain: $0) }
    }

    /// Adds the relay domains and alias domains that a new index names to the policy; may be called from any thread.
    func indexChanged(_ info: IndexInfo) {
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
            logger.notice("index: the index names \(Words.count(aliases.count, "alias domain"))")
            let named = state.withLock { ($0.configuration, $0.sources) }
            for circle in named.0.addingDomains(of: named.1).aliasCircles {
                logger.warning(
                    "index: the alias domains \(circle) are aliases of each other and are ignored; name a domain that isn't an alias"
                )
            }
        }
        guard hasNewDomains else { return }
        let count = state.withLock {
            $0.configuration.addingDomains(of: $0.sources).domains.count - $0.configuration.domains.count
        }
        if count > 0 {
            logger.notice(
                "index: the index names \(Words.count(count, "relay domain")) besides those of the configuration")
        }
    }

    /// Compiles and publishes the policy of the configuration and the index, again until neither has changed meanwhile.
    private func publishPolicy() {
        while true {
            let (configuration, sources) = state.withLock { ($0.configuration, $0.sources) }
            let compiled = Self.policy(configuration.addingDomains(of: sources), log)
            // Published under the lock: an older policy must not come after a newer one.
            let isPublished = state.withLock { state in
                guard state.configuration.stamps == configuration.stamps, state.sources == sources else { return false }
                policy.publish(compiled)
                return true
            }
            if isPublished { return policyChanged() }
        }
    }

    /// Starts the thread, which stops and replaces the running sync thread at each reload.
    func start(sync: SyncThread?) {
        state.withLock {
            $0.sync = sync
            $0.isRunning = true
        }
        NamedThread.start("reload") { [self] in
            run()
            ended.signal()
        }
    }

    /// Asks for a reload, which begins soon; may be called from any thread.
    ///
    /// - Parameters:
    ///   - takeOlderIndex: called first, on the reloader's thread, to take over the index file though it is older.
    ///   - ended: called with the result, on the reloader's thread; never, if the reloader is stopped before.
    func request(
        takeOlderIndex: (@Sendable () -> ControlSocket.ReloadResult.OlderIndex)? = nil,
        ended: @escaping @Sendable (ControlSocket.ReloadResult) -> Void = { _ in }
    ) {
        requests.withLock { $0.append(Request(takeOlderIndex: takeOlderIndex, ended: ended)) }
        wake.signal()
    }

    /// Ends the thread and the sync thread; a thread that doesn't end within the time is left as it is.
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
        while true {
            _ = wake.wait(within: Self.interval)
            if isStopping.load(ordering: .acquiring) { return }
            let requests = requests.withLock { requests in
                defer { requests = [] }
                return requests
            }
            if !requests.isEmpty {
                let indexes = requests.map { $0.takeOlderIndex?() }
                var result = reload(&watch, isRequested: true)
                for (request, index) in zip(requests, indexes) {
                    result.olderIndex = index
                    request.ended(result)
                }
            } else if state.withLock({ $0.configuration.reloadsByItself }), watch.isDue(now: .now) {
                logger.notice("reload: \(initial.file) or a table that it names has changed")
                _ = reload(&watch, isRequested: false)
            }
        }
    }

    /// Reads the configuration again and reports the result.
    ///
    /// - Parameter isRequested: whether a person has asked for the reload.
    private func reload(_ watch: inout ConfigurationWatch, isRequested: Bool) -> ControlSocket.ReloadResult {
        let stamps = watch.current
        do {
            let message = try putInForce(&watch, isRequested: isRequested)
            logger.notice("reload: in force: \(message)")
            return .init(isInForce: true, message: message)
        } catch {
            // The same state of the files is refused only once.
            watch.settle(stamps)
            logger.error("\(error)")
            logger.error("reload: refused; the former configuration stays in force")
            return .init(isInForce: false, message: "\(error)")
        }
    }

    /// Refuses a table of relay domains from which domains have disappeared that the index doesn't name either: their mail would be rejected.
    private func checkRelayTables(_ read: Configuration) throws {
        let (before, sources) = state.withLock { ($0.configuration.relayTables, $0.sources) }
        let kept = Set(read.addingDomains(of: sources).domains.map(\.name))
        for path in read.relayTables.keys.sorted() {
            let lost = (before[path] ?? []).filter { !kept.contains($0) }
            guard !lost.isEmpty else { continue }
            throw ConfigurationError(
                file: read.file,
                faults: [
                    ConfigurationFault(
                        key: "relay.domains_from", line: nil,
                        message: "\(path) lists \(Words.count(lost.count, "relay domain")) fewer than before: "
                            + lost.prefix(10).joined(separator: ", ") + (lost.count > 10 ? ", …" : "")
                            + "; if this is intended: postern reload")
                ])
        }
    }

    /// Reads the configuration and puts it in force.
    ///
    /// - Returns: what is in force, as a clause.
    private func putInForce(_ watch: inout ConfigurationWatch, isRequested: Bool) throws -> String {
        let read = try Configuration.load(initial.file)
        guard !syncs || read.sourceFaults.isEmpty else {
            throw ConfigurationError(file: read.file, faults: read.sourceFaults)
        }
        if !isRequested { try checkRelayTables(read) }
        let (configuration, unchanged) = read.keepingRestartSettings(of: initial)
        let synchronizer =
            !syncs || configuration.sync.sources.isEmpty ? nil : try Synchronizer(configuration.syncConfiguration)

        let former = state.withLock { state in
            state.configuration = configuration
            let former = state.sync
            state.sync = nil
            return former
        }
        publishPolicy()
        watch.settle(configuration.stamps)
        for notice in configuration.notices { logger.notice("\(notice)") }
        // Always a new thread: it reads the sources' own files again, such as passwords.
        former?.stop(within: Self.patience)
        sync.setSources(syncs ? configuration.sync.sources.map(\.name) : [])
        if let synchronizer {
            let thread = FilterService.syncThread(synchronizer, counters: sync, health: health, logger: logger)
            let isStarted = state.withLock { state in
                guard state.isRunning else { return false }
                state.sync = thread
                return true
            }
            if isStarted { thread.start() }
        } else {
            sync.setThread(nil)
            for part in [ServiceHealth.Part.state, .sync] { health.forget(part) }
        }

        let relayed = configuration.addingDomains(of: state.withLock { $0.sources }).domains.count
        let kept = relayed - configuration.domains.count
        var message =
            "\(Words.count(relayed, "relay domain"))\(kept > 0 ? " (\(kept) named by the index)" : ""), "
            + Words.count(configuration.sync.sources.count, "source")
        if !unchanged.isEmpty { message += "; changes only with a restart: \(unchanged.joined(separator: ", "))" }
        return message
    }
}
