import Foundation
import Glibc
import Synchronization

/// The thread of a ``FaultProxy``: one loop around poll(2).
final class ProxyRelay: Sendable {
    /// The proxy's settings and counts.
    struct State {
        var behaviour = FaultProxy.Behaviour.pass
        /// Increases with each new behaviour.
        var generation = 0
        var once = false
        var cutsAll = false
        var resets = false
        var stops = false
        var counts = FaultProxy.Counts()
    }

    let state = Mutex(State())
    let port: UInt16
    private let host: String
    private let serverPort: UInt16
    private let listener: Int32
    /// A pair of sockets that ends the wait in poll: its end to read, its end to write.
    private let wake: [Int32]
    private let ended = DispatchSemaphore(value: 0)

    init(host: String, port: UInt16) throws {
        self.host = host
        serverPort = port
        let listener = Self.socket()
        self.listener = listener
        var wake: [Int32] = [-1, -1]
        let isPaired = socketpair(AF_UNIX, Self.kind, 0, &wake) == 0
        self.wake = wake
        var name = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let named = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                Ports.withLoopback("127.0.0.1", 0) { bind(listener, $0, $1) } == 0 && listen(listener, 128) == 0
                    && getsockname(listener, name, &size) == 0
            }
        }
        self.port = UInt16(bigEndian: name.sin_port)
        guard named, isPaired else {
            throw ChildProcess.Failure(description: "the proxy can't listen: \(String(cString: strerror(errno)))")
        }
    }

    /// Changes the settings, and wakes the thread, which reads them.
    func tell(_ change: (inout State) -> Void) {
        state.withLock { change(&$0) }
        // Where it is full, the thread has been woken.
        var byte: UInt8 = 0
        write(wake[1], &byte, 1)
    }

    /// Ends the thread and closes all connections. Called once.
    func stop() {
        tell { $0.stops = true }
        ended.wait()
        for descriptor in wake + [listener] { close(descriptor) }
    }

    /// The thread's work.
    func run() {
        var links: [ProxyLink] = []
        var generation = 0
        while true {
            let orders = state.withLock { state in
                defer { state.cutsAll = false }
                return state
            }
            if orders.stops || orders.cutsAll {
                for link in links { link.end(reset: orders.resets) }
            }
            if orders.stops { break }
            if orders.generation != generation {
                generation = orders.generation
                for link in links { link.mark() }
            }
            links.removeAll { $0.isClosed }
            let open = links.count
            state.withLock { $0.counts.open = open }

            var events = [pollfd(fd: wake[0], events: Int16(POLLIN), revents: 0)]
            events.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0))
            for link in links { events += link.events(orders.behaviour) }
            // A slow connection is looked at now and then; all others wait for an event.
            var timeout: Int32 = -1
            if case .slow = orders.behaviour { timeout = 10 }
            poll(&events, nfds_t(events.count), timeout)

            var bytes = [UInt8](repeating: 0, count: 64)
            if events[0].revents != 0 { read(wake[0], &bytes, bytes.count) }
            // What came with an order follows the order.
            if state.withLock({ $0.generation }) != generation { continue }
            for (index, link) in links.enumerated() {
                let passed = link.move(
                    orders, client: events[2 + 2 * index].revents, server: events[3 + 2 * index].revents)
                note(passed, of: generation)
            }
            if events[1].revents != 0 { accept(orders, &links) }
        }
        ended.signal()
    }

    private func accept(_ orders: State, _ links: inout [ProxyLink]) {
        let client = Glibc.accept(listener, nil, nil)
        guard client >= 0 else { return }
        guard fcntl(client, F_SETFD, FD_CLOEXEC) == 0, fcntl(client, F_SETFL, O_NONBLOCK) == 0 else {
            close(client)
            return
        }
        state.withLock { $0.counts.connections += 1 }
        let server = Self.socket()
        let link = ProxyLink(client: client, server: server)
        if case .refuse = orders.behaviour {
            link.end(reset: orders.resets)
            note(ProxyLink.Passed(faults: 1), of: orders.generation)
            return
        }
        // Connecting continues in the background; the loop sees its end.
        if Ports.withLoopback(host, serverPort, { connect(server, $0, $1) }) == 0 || errno == EINPROGRESS {
            links.append(link)
        } else {
            link.end(reset: orders.resets)
        }
    }

    private func note(_ passed: ProxyLink.Passed, of generation: Int) {
        state.withLock { state in
            state.counts.bytesFromClients += passed.fromClient
            state.counts.bytesFromServer += passed.fromServer
            state.counts.faults += passed.faults
            guard passed.faults > 0, state.once, state.generation == generation else { return }
            if case .stallAfter = state.behaviour { return }
            state.behaviour = .pass
            state.once = false
            state.generation += 1
        }
    }

    private static let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)

    private static func socket() -> Int32 { Glibc.socket(AF_INET, kind, 0) }
}
