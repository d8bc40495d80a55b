import CMilter
import Synchronization

/// A filter that serves MTAs over libmilter: one for each process, as `smfi_register` has it.
///
/// Make it, ``open()`` it, ``run()`` it on a thread of its own, and at the end ``drain(timeout:)`` it and leave the
/// process. The main thread is for ``MilterSignals/wait()``.
public final class MilterServer: Sendable {
    /// Makes the session of a new connection; called on libmilter's threads, several at once.
    public typealias SessionMaker = @Sendable (MilterConnection, borrowing MilterContext) -> any MilterSession

    /// The one that libmilter's callbacks belong to.
    private static let current = Mutex<MilterServer?>(nil)

    static var registered: MilterServer? { current.withLock { $0 } }

    let configuration: MilterConfiguration
    let makeSession: SessionMaker
    private let promptAcknowledger = Mutex<PromptAcknowledger?>(nil)
    /// The calls of the open sessions, by the identity of each.
    let activities = Mutex<[ObjectIdentifier: SessionActivity]>([:])
    private let sessionCount = Atomic<Int>(0)
    private let gate = Atomic<Bool>(false)
    /// The unix socket that was made, as long as it is there.
    let madeSocket = Mutex<SocketFile?>(nil)
    private let isOpen = Mutex<Bool>(false)

    /// A filter that is not yet reachable.
    public init(_ configuration: MilterConfiguration, makeSession: @escaping SessionMaker) {
        self.configuration = configuration
        self.makeSession = makeSession
    }

    /// How many SMTP connections there are now.
    public var openSessions: Int { activities.withLock { $0.count } }

    /// How many SMTP connections there have been, the open ones included.
    public var totalSessions: Int { sessionCount.load(ordering: .relaxed) }

    /// For MTAs that connect over TCP; nil where they don't.
    var acknowledger: PromptAcknowledger? { promptAcknowledger.withLock { $0 } }

    /// Whether calls that come now are held back; see ``drain(timeout:)``.
    var isGateShut: Bool { gate.load(ordering: .sequentiallyConsistent) }

    func shutGate() { gate.store(true, ordering: .sequentiallyConsistent) }

    /// Makes the socket, so that MTAs may connect; they are served once the server runs (`smfi_opensocket`).
    ///
    /// A unix socket that nobody answers at is replaced. May be tried again after an error.
    public func open() throws(MilterError) {
        let isDone = isOpen.withLock { $0 }
        guard !isDone else { return }
        let address = try SocketProbe(configuration.socket).check()
        try claim()
        do {
            try register()
            try openSocket(address)
            if case .tcp = configuration.socket.location { promptAcknowledger.withLock { $0 = PromptAcknowledger() } }
        } catch {
            Self.current.withLock { $0 = nil }
            throw error
        }
        isOpen.withLock { $0 = true }
    }

    /// Serves MTAs on the calling thread until the process ends (`smfi_main`).
    ///
    /// The thread must not be the main one: see ``MilterSignals``. Should it return, a signal has reached libmilter after
    /// all, as it may within microseconds of the start: ``MilterSignals/wait()`` then says that the filter is to end.
    public func run() throws(MilterError) {
        try open()
        let status = smfi_main()
        removeSocket()
        MilterSignals.postTermination()
        // Stopped before it has begun to serve, libmilter calls that a failure too.
        guard status == MI_SUCCESS || cmilter_was_stopped() != 0 else {
            throw MilterError(
                .libmilter, "libmilter stopped serving \(configuration.socket); its reason is in the system log")
        }
    }

    private func claim() throws(MilterError) {
        let isOurs = Self.current.withLock { current in
            if current == nil { current = self }
            return current === self
        }
        guard isOurs else {
            throw MilterError(
                .alreadyRegistered, "\(configuration.socket): the process has a filter already; libmilter serves one")
        }
    }

    func countSession() { sessionCount.add(1, ordering: .relaxed) }
}
