import CMilter
import Glibc
import Synchronization
import System

/// A filter that serves MTAs by the milter protocol, on libmilter's engine.
///
/// Make it, ``open()`` it, ``run()`` it on a thread of its own, and at the end ``drain(timeout:)`` it and leave the process. The main thread is
/// for ``MilterSignals/wait()``.
///
/// A connection that is silent, slow or half-open costs a descriptor and some hundred bytes, and no thread: a thread takes a connection
/// when a whole packet is there.
public final class MilterServer: Sendable {
    /// Makes the session of a new connection; called on the server's threads, several at once.
    public typealias SessionMaker = @Sendable (MilterConnection, borrowing MilterContext) -> any MilterSession

    /// How the server is doing.
    public struct Statistics: Sendable, Equatable {
        /// Connections of MTAs now.
        public var connections: Int
        /// The most connections: `milter.max_connections`, or less where the process may not have as many descriptors.
        public var connectionLimit: Int
        /// Connections whose recipients were deferred, since there were too many.
        public var deferredConnections: Int
        /// Connections that were closed at once: there was no descriptor for them, or many more than the limit.
        public var droppedConnections: Int
        /// Connections that were ended since a packet wasn't whole in time, or nothing came at all.
        public var expiredConnections: Int
        /// When a connection was last deferred or closed for being one too many.
        public var lastOverload: ContinuousClock.Instant?
        /// When the process, or the system, last had no descriptor or memory left for a connection.
        public var lastDescriptorShortage: ContinuousClock.Instant?
    }

    let configuration: MilterConfiguration
    let makeSession: SessionMaker
    /// libmilter's description of the filter, for good; nobody changes it.
    nonisolated(unsafe) let filter: UnsafeMutablePointer<smfiDesc>
    private let listener = Mutex<MilterListener?>(nil)
    private let poolHolder = Mutex<WorkerPool?>(nil)
    /// The addresses of the open connections' channels.
    private let channels = Mutex<Set<UInt>>([])
    private let sessions = Atomic<Int>(0)
    private let sessionCount = Atomic<Int>(0)
    private let state: Mutex<Statistics>
    private let gate = Atomic<Bool>(false)

    /// A filter that is not yet reachable.
    public init(_ configuration: MilterConfiguration, makeSession: @escaping SessionMaker) {
        self.configuration = configuration
        self.makeSession = makeSession
        filter = MilterEngine.makeFilter(name: configuration.name)
        state = Mutex(
            Statistics(
                connections: 0, connectionLimit: configuration.maximumConnections, deferredConnections: 0,
                droppedConnections: 0, expiredConnections: 0))
    }

    /// How many SMTP connections there are now.
    public var openSessions: Int { sessions.load(ordering: .relaxed) }

    /// How many SMTP connections there have been, the open ones included.
    public var totalSessions: Int { sessionCount.load(ordering: .relaxed) }

    /// How the server is doing at this moment.
    public var statistics: Statistics {
        var statistics = state.withLock { $0 }
        statistics.connections = channels.withLock { $0.count }
        return statistics
    }

    /// Makes the socket and starts the threads, so that MTAs may connect; they are served once the server runs.
    ///
    /// A unix socket that nobody answers at is replaced. May be tried again after an error.
    public func open() throws(MilterError) {
        guard listener.withLock({ $0 == nil }) else { return }
        try MilterEngine.check()
        raiseDescriptorLimit()
        // Kept from blocking: the engine complains of garbage to syslog, which may wait for its reader.
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

    /// Lets the calls in progress end and their answers go out, begins no further ones, takes no connections any more, and removes the unix
    /// socket.
    ///
    /// Afterwards every verdict that a session gave has been written to its MTA, and no session is called again: what they recorded can be
    /// saved, and the process ended. MTAs then find their connections closed and do by default as they are configured. There is no way back.
    ///
    /// - Parameter timeout: how long to wait for a call that doesn't end.
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

    /// Whether nothing is begun any more; see ``drain(timeout:)``.
    var isGateShut: Bool { gate.load(ordering: .sequentiallyConsistent) }

    /// Runs what may wait; see ``MilterContext/wait(_:)``.
    func wait(_ body: () -> Void) -> Bool { poolHolder.withLock { $0 }?.wait(body) ?? false }

    func count(session change: Int) {
        sessions.add(change, ordering: .relaxed)
        if change > 0 { sessionCount.add(change, ordering: .relaxed) }
    }

    // MARK: Connections

    /// Milliseconds between two looks for connections whose time is over.
    private static let sweepInterval: Int32 = 500

    /// Takes the connections that wait at the socket.
    private func accept(from listener: borrowing MilterListener) throws(MilterError) {
        // Not without end, or connections whose time is over would stay.
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

    /// Takes a connection into service, or ends it where there are far too many.
    private func begin(_ descriptor: Int32, isTCP: Bool) {
        let open = channels.withLock { $0.count }
        let isOver = open >= state.withLock { $0.connectionLimit }
        if isOver {
            state.withLock { state in
                // Some are taken and their recipients deferred, which is what they are to be told; past these the MTA does by default.
                if open < state.connectionLimit + Self.reserve(of: state.connectionLimit) {
                    state.deferredConnections += 1
                } else {
                    state.droppedConnections += 1
                }
                state.lastOverload = .now
            }
        }
        let limit = state.withLock { $0.connectionLimit }
        guard open < limit + Self.reserve(of: limit),
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

    /// How many connections over the limit are told so.
    private static func reserve(of limit: Int) -> Int { max(8, min(limit / 8, 256)) }

    /// Shuts the connections whose time is over: the thread that finds that out ends them.
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

    /// Has the engine work through what has come from a connection, writes the replies, and waits for more.
    private func serve(_ channel: UnsafeMutablePointer<Channel>, _ stream: UnsafeMutablePointer<PacketStream>) {
        channel.pointee.deadline.store(.max, ordering: .relaxed)
        stream.pointee.begin(with: channel.pointee.partial)
        _ = stream.pointee.receive(from: channel.pointee.descriptor)
        var isOpen = true
        if stream.pointee.hasWork {
            channel.pointee.packetDeadline = nil
            isOpen = runEngine(channel, stream)
        }
        let now = Clocks.monotonic
        if isOpen {
            channel.pointee.keep(stream.pointee.partial, deadline: now + configuration.packetTimeout)
            // Sendmail holds the data of a packet back until its head is acknowledged, which the kernel would put off.
            if channel.pointee.isTCP, channel.pointee.packetDeadline != nil { acknowledge(channel.pointee.descriptor) }
            channel.pointee.deadline.store(
                channel.pointee.packetDeadline ?? now + configuration.idleTimeout, ordering: .releasing)
            if channel.pointee.pool?._withUnsafeGuaranteedRef({ $0.rearm(channel) }) == true { return }
            tellEnd(channel, stream)
        }
        discard(channel)
    }

    /// Returns whether the connection goes on; where it doesn't, the session has been told.
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
        if !isWritten { tellEnd(channel, stream) }
        return isWritten
    }

    /// Has the engine find the connection at its end, and tell the session.
    func tellEnd(_ channel: UnsafeMutablePointer<Channel>, _ stream: UnsafeMutablePointer<PacketStream>) {
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
        // Out of the set first, then closed: whoever goes through the set never meets another file's number.
        let address = UInt(bitPattern: channel)
        channels.withLock { _ = $0.remove(address) }
        Channel.destroy(channel)
        close(descriptor)
    }

    /// Has the kernel acknowledge what has arrived, and what arrives next, at once.
    private func acknowledge(_ descriptor: Int32) {
        var yes: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_QUICKACK, &yes, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Lets the process have as many descriptors as it may, and as many connections as these allow.
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
        // The databases, the sources and the messages need some too.
        let spare = min(128, descriptors / 2)
        let possible = max(1, descriptors - spare)
        let wanted = configuration.maximumConnections
        let reserve = Self.reserve(of: min(wanted, possible))
        state.withLock { $0.connectionLimit = max(1, min(wanted, possible - min(reserve, possible / 4))) }
    }
}
