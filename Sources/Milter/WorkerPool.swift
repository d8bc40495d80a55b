import CMilter
import Glibc
import Synchronization
import System

/// The threads that serve the connections, and the epoll descriptor that tells them which connection has bytes to read.
///
/// A few threads are enough, as calls don't wait: a thread serves a connection from the arrival of bytes until the
/// replies are written. While a call waits by ``wait(_:)``, for example to delay a reply, another thread takes its
/// place.
final class WorkerPool: Sendable {
    /// Serves a connection that has bytes to read.
    typealias Service = @Sendable (UnsafeMutablePointer<Channel>, UnsafeMutablePointer<PacketStream>) -> Void

    /// The most calls that may wait at once.
    static let waitingLimit = 1024

    private struct Threads {
        var waiting = 0
        /// The state of each thread; that of a thread that has ended isn't busy.
        var workers: [Worker] = []
    }

    /// The state of a thread that other threads may read.
    final class Worker: Sendable {
        let isBusy = Atomic<Bool>(false)
    }

    private let events: Int32
    /// Files that `poll(2)` always finds readable: several, so that few threads share one. Never closed while a thread
    /// runs.
    private let readyFiles: [Int32]
    private let minimum: Int
    private let service: Service
    private let threads = Mutex(Threads())
    private let gate = Atomic<Bool>(false)
    /// Whether there may be more threads than needed.
    private let hasSurplus = Atomic<Bool>(false)

    /// A pool whose threads start with ``start()``.
    init(_ service: @escaping Service) throws(MilterError) {
        events = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard events >= 0 else {
            throw MilterError(.unusable, "milter threads: can't create a file descriptor: \(systemMessage())")
        }
        minimum = max(4, 2 * sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        self.service = service
        readyFiles = (0..<4).map { _ in cmilter_ready_file() }
        guard readyFiles.allSatisfy({ $0 >= 0 }) else {
            throw MilterError(.unusable, "milter threads: can't create a file descriptor: \(systemMessage())")
        }
    }

    deinit { for file in readyFiles + [events] where file >= 0 { close(file) } }

    /// Starts the threads.
    func start() throws(MilterError) {
        for _ in 0..<minimum {
            let code = threads.withLock { launch(&$0) }
            guard code == 0 else {
                throw MilterError(.unusable, "milter threads: the system can't start a thread: \(systemMessage(code))")
            }
        }
    }

    /// Adds a connection: a thread serves it once, as soon as bytes have arrived. False if the kernel refuses.
    func add(_ channel: UnsafeMutablePointer<Channel>) -> Bool { control(EPOLL_CTL_ADD, channel) }

    /// Makes a thread serve the connection once more, as soon as bytes have arrived or if some wait already.
    func rearm(_ channel: UnsafeMutablePointer<Channel>) -> Bool { control(EPOLL_CTL_MOD, channel) }

    private func control(_ operation: Int32, _ channel: UnsafeMutablePointer<Channel>) -> Bool {
        var event = epoll_event()
        event.events = EPOLLIN.rawValue | EPOLLONESHOT.rawValue
        event.data.ptr = UnsafeMutableRawPointer(channel)
        return epoll_ctl(events, operation, channel.pointee.descriptor, &event) == 0
    }

    /// Runs a body that waits on the calling thread, while another thread serves the connections in its place.
    ///
    /// - Returns: false, without having run the body, if too many calls wait already or no thread can be started.
    func wait(_ body: () -> Void) -> Bool {
        let isPossible = threads.withLock { threads in
            guard threads.waiting < Self.waitingLimit else { return false }
            threads.waiting += 1
            guard threads.workers.count - threads.waiting < minimum else { return true }
            guard launch(&threads) == 0 else {
                threads.waiting -= 1
                return false
            }
            return true
        }
        guard isPossible else { return false }
        body()
        threads.withLock { $0.waiting -= 1 }
        hasSurplus.store(true, ordering: .relaxed)
        return true
    }

    /// Stops the threads from accepting work on further connections.
    func shutGate() { gate.store(true, ordering: .sequentiallyConsistent) }

    var isGateShut: Bool { gate.load(ordering: .sequentiallyConsistent) }

    /// Whether a thread serves a connection.
    var isBusy: Bool { threads.withLock { $0.workers }.contains { $0.isBusy.load(ordering: .sequentiallyConsistent) } }

    // MARK: Threads

    /// Starts a thread; 0 or an error number.
    private func launch(_ threads: inout Threads) -> Int32 {
        let worker = Worker()
        let readyFile = readyFiles[threads.workers.count % readyFiles.count]
        let thread = NamedThread("worker", stackSize: 1 << 20) { [self] in
            let stream = UnsafeMutablePointer<PacketStream>.allocate(capacity: 1)
            defer { stream.deallocate() }
            stream.initialize(to: PacketStream(readyDescriptor: readyFile))
            defer { stream.deinitialize(count: 1) }
            run(worker, stream)
        }
        if let code = thread.failure { return code }
        threads.workers.append(worker)
        return 0
    }

    /// Serves connections until the thread is no longer needed.
    private func run(_ worker: Worker, _ stream: UnsafeMutablePointer<PacketStream>) {
        var event = epoll_event()
        while true {
            let count = epoll_wait(events, &event, 1, -1)
            guard count == 1, let channel = Channel.at(event.data.ptr) else {
                if count < 0 && errno != EINTR { usleep(100_000) }
                continue
            }
            // Sequentially consistent: either this thread sees the gate shut, or the thread that has shut it sees this
            // one busy.
            worker.isBusy.store(true, ordering: .sequentiallyConsistent)
            if isGateShut { park(worker) }
            service(channel, stream)
            worker.isBusy.store(false, ordering: .releasing)
            if hasSurplus.load(ordering: .relaxed), endsSurplus(worker) { return }
        }
    }

    private func endsSurplus(_ worker: Worker) -> Bool {
        threads.withLock { threads in
            guard threads.workers.count - threads.waiting > minimum else {
                hasSurplus.store(false, ordering: .relaxed)
                return false
            }
            threads.workers.removeAll { $0 === worker }
            return true
        }
    }

    /// Stops a thread until the process ends.
    private func park(_ worker: Worker) -> Never {
        worker.isBusy.store(false, ordering: .sequentiallyConsistent)
        while true { sleep(3600) }
    }
}
