import CMilter
import Glibc
import Synchronization
import System

/// A milter that serves MTAs by libmilter's engine. It handles envelopes only: connect, HELO, MAIL and RCPT; it never
/// receives a message's header or body.
///
/// A process creates one server, calls ``open()``, then ``run()`` on a thread of its own, and at the end
/// ``drain(timeout:)``. The main thread calls ``MilterSignals/wait()``.
///
/// A connection that is silent, slow or half-open costs a descriptor and some hundred bytes, but no thread: a thread
/// serves a connection only once a whole packet has arrived.
public final class MilterServer: Sendable {
    /// Creates the session of a new SMTP connection; called on the server's threads, several at once.
    public typealias SessionMaker = @Sendable (MilterConnection, borrowing MilterContext) -> any MilterSession

    /// The counts of connections of a server.
    public struct Statistics: Sendable, Equatable {
        /// The open connections of MTAs.
        public var connections = 0
        /// The most connections at once: ``MilterConfiguration/maximumConnections``, or fewer if the process may not
        /// have as many descriptors.
        public var connectionLimit: Int
        /// Connections over the limit, whose recipients were deferred.
        public var deferredConnections = 0
        /// Connections that were closed at once: no descriptor was left for them, or they were far over the limit.
        public var droppedConnections = 0
        /// Connections that were closed after a timeout: a packet didn't arrive whole, or the MTA was silent.
        public var expiredConnections = 0
        /// When a connection was last over the limit.
        public var lastOverload: ContinuousClock.Instant?
        /// When the process or the system last had no descriptor or memory left for a connection.
        public var lastDescriptorShortage: ContinuousClock.Instant?
    }

    let configuration: MilterConfiguration
    let makeSession: SessionMaker
    /// libmilter's description of the filter; never changed or freed.
    nonisolated(unsafe) let filter: UnsafeMutablePointer<smfiDesc>
    private let listener = Mutex<MilterListener?>(nil)
    private let poolHolder = Mutex<WorkerPool?>(nil)
    /// The addresses of the open connections' channels.
    private let channels = Mutex<Set<UInt>>([])
    private let sessions = Atomic<Int>(0)
    private let sessionCount = Atomic<Int>(0)
    private let state: Mutex<Statistics>
    private let gate = Atomic<Bool>(false)

    /// A server that doesn't listen yet.
    public init(_ configuration: MilterConfiguration, makeSession: @escaping SessionMaker) {
        self.configuration = configuration
        self.makeSession = makeSession
        filter = MilterEngine.makeFilter(name: configuration.name)
        state = Mutex(Statistics(connectionLimit: configuration.maximumConnections))
    }

    /// The number of open SMTP connections.
    public var openSessions: Int { sessions.load(ordering: .relaxed) }

    /// The number of SMTP connections since the start, open ones included.
    public var totalSessions: Int { sessionCount.load(ordering: .relaxed) }

    /// The counts of connections at this moment.
    public var statistics: Statistics {
        var statistics = state.withLock { $0 }
        statistics.connections = channels.withLock { $0.count }
        return statistics
    }

    /// Creates the socket and starts the threads. MTAs can connect from now on; the server serves them once it runs.
    /// A unix socket that no process listens at is replaced. The caller may try again after an error.
    public func open() throws(MilterError) {
        guard listener.withLock({ $0 == nil }) else { return }
        try MilterEngine.check()
        raiseDescriptorLimit()
        // The engine reports garbage to syslog, and a thread that writes to syslog may block.
        setlogmask(1 << LOG_EMERG)
        let pool = try WorkerPool { [unowned self] in serve($0, $1) }
        let opened = try MilterListener(configuration)
        try pool.start()
        poolHolder.withLock { $0 = pool }
        listener.withLock { $0 = opened }
    }

    /// Serves MTAs on the calling thread until the server is drained.
    public func run() throws(MilterError) {
        try open()
        guard let listener = listener.withLock({ $0 }) else { return }
        var nextSweep = Clocks.monotonic
        while !isGateShut {
            if listener.waitForConnection(milliseconds: Self.sweepInterval) { try accept(from: listener) }
            if Clocks.monotonic >= nextSweep {
                endExpired()
                nextSweep = Clocks.monotonic + Int64(Self.sweepInterval)
            }
        }
    }

    /// Stops the server for good: waits for the calls in progress and their replies, starts no further calls, accepts
    /// no further connections, and removes the unix socket.
    ///
    /// Afterwards, every response of a session has been written to its MTA, and no session is called again: the process
    /// can save the sessions' records, and exit.
    ///
    /// - Parameter timeout: the longest time to wait for a call.
    /// - Returns: whether all calls ended in time.
    @discardableResult
    public func drain(timeout: Duration) -> Bool {
        gate.store(true, ordering: .sequentiallyConsistent)
        let pool = poolHolder.withLock { $0 }
        pool?.shutGate()
        listener.withLock { $0?.stop() }
        let deadline = ContinuousClock.now + timeout
        while pool?.isBusy == true {
            guard ContinuousClock.now < deadline else { return false }
            usleep(1_000)
        }
        return true
    }

    /// Whether the server starts no further calls; see ``drain(timeout:)``.
    var isGateShut: Bool { gate.load(ordering: .sequentiallyConsistent) }

    /// Runs a body that waits; see ``MilterContext/wait(_:)``.
    func wait(_ body: () -> Void) -> Bool { poolHolder.withLock { $0 }?.wait(body) ?? false }

    /// Adds to the number of open sessions: 1 for a new session, -1 for one that has ended.
    func count(session change: Int) {
        sessions.add(change, ordering: .relaxed)
        if change > 0 { sessionCount.add(change, ordering: .relaxed) }
    }

    // MARK: Connections

    /// Milliseconds between two searches for connections past their deadline.
    private static let sweepInterval: Int32 = 500

    /// Accepts the connections that wait at the socket.
    private func accept(from listener: borrowing MilterListener) throws(MilterError) {
        // Bounded, so that the search for connections past their deadline gets its turn.
        for _ in 0..<256 {
            switch try listener.accept() {
            case .connection(let descriptor): begin(descriptor, isTCP: listener.isTCP)
            case .none: return
            case .dropped:
                state.withLock { state in
                    state.droppedConnections += 1
                    state.lastDescriptorShortage = .now
                }
            case .shortage:
                state.withLock { $0.lastDescriptorShortage = .now }
                return
            }
        }
    }

    /// Begins to serve a connection, or closes it if there are far too many.
    private func begin(_ descriptor: Int32, isTCP: Bool) {
        let open = channels.withLock { $0.count }
        let (isOver, isServed) = state.withLock { state in
            let limit = state.connectionLimit
            guard open >= limit else { return (false, true) }
            // Some connections over the limit are served, with a reply that tells the reason; the MTAs of further ones
            // do what they are configured to do without a filter.
            let isServed = open < limit + Self.reserve(of: limit)
            if isServed { state.deferredConnections += 1 } else { state.droppedConnections += 1 }
            state.lastOverload = .now
            return (true, isServed)
        }
        guard isServed,
            let channel = Channel.make(
                descriptor: descriptor, isTCP: isTCP, isOverLimit: isOver, server: self,
                pool: poolHolder.withLock { $0 }, deadline: Clocks.monotonic + configuration.firstPacketTimeout)
        else {
            close(descriptor)
            return
        }
        let address = UInt(bitPattern: channel)
        channels.withLock { _ = $0.insert(address) }
        if channel.pointee.pool?._withUnsafeGuaranteedRef({ $0.add(channel) }) != true { discard(channel) }
    }

    /// How many connections over the limit are served, their recipients deferred.
    private static func reserve(of limit: Int) -> Int { max(8, min(limit / 8, 256)) }

    /// Shuts down the connections past their deadline: a thread then finds the end of each and frees it.
    private func endExpired() {
        let now = Clocks.monotonic
        let count = channels.withLock { channels in
            var count = 0
            for address in channels {
                guard let channel = Channel.at(UnsafeMutableRawPointer(bitPattern: address)),
                    channel.pointee.deadline.load(ordering: .acquiring) <= now
                else { continue }
                shutdown(channel.pointee.descriptor, Int32(SHUT_RDWR))
                channel.pointee.deadline.store(.max, ordering: .relaxed)
                count += 1
            }
            return count
        }
        if count > 0 { state.withLock { $0.expiredConnections += count } }
    }

    /// Runs the engine on the packets that have arrived from a connection, writes the replies, and waits for more
    /// packets.
    private func serve(_ channel: UnsafeMutablePointer<Channel>, _ stream: UnsafeMutablePointer<PacketStream>) {
        channel.pointee.deadline.store(.max, ordering: .relaxed)
        stream.pointee.begin(with: channel.pointee.partial)
        stream.pointee.receive(from: channel.pointee.descriptor)
        var isOpen = true
        if stream.pointee.hasWork {
            channel.pointee.packetDeadline = nil
            isOpen = runEngine(channel, stream)
        }
        let now = Clocks.monotonic
        if isOpen {
            channel.pointee.keep(stream.pointee.partial, deadline: now + configuration.packetTimeout)
            // Sendmail sends the data of a packet only after its head is acknowledged, which the kernel would delay.
            if channel.pointee.isTCP, channel.pointee.packetDeadline != nil {
                setOption(TCP_QUICKACK, level: Int32(IPPROTO_TCP), of: channel.pointee.descriptor)
            }
            channel.pointee.deadline.store(
                channel.pointee.packetDeadline ?? now + configuration.idleTimeout, ordering: .releasing)
            if channel.pointee.pool?._withUnsafeGuaranteedRef({ $0.rearm(channel) }) == true { return }
            endEngine(channel, stream)
        }
        discard(channel)
    }

    /// Runs the engine on the packets in the stream, and writes the replies.
    ///
    /// - Returns: whether the connection goes on; if not, the session has been ended.
    func runEngine(
        _ channel: UnsafeMutablePointer<Channel>, _ stream: UnsafeMutablePointer<PacketStream>
    ) -> Bool {
        channel.pointee.stream = stream
        defer { channel.pointee.stream = nil }
        cmilter_set_socket(channel.pointee.context, stream.pointee.readyDescriptor)
        _ = mi_engine(channel.pointee.context)
        let isWaiting = stream.pointee.isWaiting
        let isWritten = stream.pointee.flush(to: channel.pointee.descriptor)
        guard isWaiting else { return false }
        if !isWritten { endEngine(channel, stream) }
        return isWritten
    }

    /// Runs the engine at the end of a connection, so that it ends the session.
    func endEngine(_ channel: UnsafeMutablePointer<Channel>, _ stream: UnsafeMutablePointer<PacketStream>) {
        channel.pointee.stream = stream
        defer { channel.pointee.stream = nil }
        stream.pointee.begin(with: UnsafeMutableRawBufferPointer(start: nil, count: 0))
        stream.pointee.isEnded = true
        cmilter_set_socket(channel.pointee.context, stream.pointee.readyDescriptor)
        _ = mi_engine(channel.pointee.context)
    }

    private func discard(_ channel: UnsafeMutablePointer<Channel>) {
        let descriptor = channel.pointee.descriptor
        endSession(channel)
        // Removed from the set before it is closed: another file may get the descriptor's number at once.
        let address = UInt(bitPattern: channel)
        channels.withLock { _ = $0.remove(address) }
        Channel.destroy(channel)
        close(descriptor)
    }

    /// Raises the process's limit of descriptors to its maximum, and lowers the limit of connections to what that
    /// allows.
    private func raiseDescriptorLimit() {
        var limit = rlimit()
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        guard getrlimit(resource, &limit) == 0 else { return }
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max
            _ = setrlimit(resource, &limit)
            _ = getrlimit(resource, &limit)
        }
        let descriptors = Int(clamping: limit.rlim_cur)
        // Databases, sources and messages need descriptors, too.
        let spare = min(128, descriptors / 2)
        let possible = max(1, descriptors - spare)
        let wanted = configuration.maximumConnections
        let reserve = Self.reserve(of: min(wanted, possible))
        state.withLock { $0.connectionLimit = max(1, min(wanted, possible - min(reserve, possible / 4))) }
    }
}
