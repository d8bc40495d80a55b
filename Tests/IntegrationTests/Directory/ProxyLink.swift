import Glibc

/// One connection through a ``FaultProxy``, used by the proxy's thread only.
final class ProxyLink {
    /// The bytes that one step has moved.
    struct Passed {
        var fromClient = 0
        var fromServer = 0
        var faults = 0
    }

    private var client: Int32
    private var server: Int32
    /// The bytes that were read and not yet sent.
    private var toClient: [UInt8] = []
    private var toServer: [UInt8] = []
    /// The last bytes of each side, in which a pattern may begin.
    private var clientTail: [UInt8] = []
    private var serverTail: [UInt8] = []
    private var serverBytes = 0
    /// `serverBytes` and the time at the last change of behaviour.
    private var marked = 0
    private var markTime = ContinuousClock.now
    /// Nothing more is read; it ends when all is sent.
    private var isEnding = false
    private var hasStalled = false

    init(client: Int32, server: Int32) {
        self.client = client
        self.server = server
        for descriptor in [client, server] {
            var one: Int32 = 1
            setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    deinit { end(reset: false) }

    var isClosed: Bool { client < 0 }

    /// Counts bytes from now on.
    func mark() {
        marked = serverBytes
        markTime = .now
        hasStalled = false
        clientTail = []
        serverTail = []
    }

    /// Closes both ends.
    func end(reset: Bool) {
        guard !isClosed else { return }
        for descriptor in [client, server] where descriptor >= 0 {
            if reset {
                var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
                setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
            } else {
                // With unread bytes, closing would send a reset.
                var rest = [UInt8](repeating: 0, count: 65_536)
                while recv(descriptor, &rest, rest.count, Int32(MSG_DONTWAIT)) > 0 {}
            }
            close(descriptor)
        }
        client = -1
        server = -1
    }

    /// The events to wait for on the client's and on the server's socket.
    func events(_ behaviour: FaultProxy.Behaviour) -> [pollfd] {
        if case .stall = behaviour {
            // The server's end, though of no interest, would report that it was closed, again and again.
            return [pollfd(fd: client, events: Self.closed, revents: 0), pollfd(fd: -1, events: 0, revents: 0)]
        }
        var clientEvents: Int16 = 0
        var serverEvents: Int16 = 0
        if !isEnding, toServer.count < Self.limit { clientEvents |= Int16(POLLIN) }
        if !isEnding, toClient.count < Self.limit, allowance(behaviour) != 0 { serverEvents |= Int16(POLLIN) }
        if !toClient.isEmpty { clientEvents |= Int16(POLLOUT) }
        if !toServer.isEmpty { serverEvents |= Int16(POLLOUT) }
        return [
            pollfd(fd: client, events: clientEvents, revents: 0),
            pollfd(fd: serverEvents == 0 ? -1 : server, events: serverEvents, revents: 0),
        ]
    }

    /// Moves the bytes that can be moved.
    func move(_ orders: ProxyRelay.State, client clientEvents: Int16, server serverEvents: Int16) -> Passed {
        var passed = Passed()
        if case .stall = orders.behaviour {
            if clientEvents != 0 { end(reset: orders.resets) }
            return passed
        }
        let readable = Int16(POLLIN | POLLHUP | POLLERR)
        if clientEvents & readable != 0, !isEnding { readClient(orders, &passed) }
        if serverEvents & readable != 0, !isEnding { readServer(orders, &passed) }
        if case .stallAfter = orders.behaviour, !hasStalled, allowance(orders.behaviour) == 0 {
            hasStalled = true
            passed.faults += 1
        }
        if !send(&toServer, server) {
            toServer = []
            isEnding = true
        }
        let hasClient = send(&toClient, client) && !(isEnding && clientEvents & Int16(POLLHUP | POLLERR) != 0)
        if !hasClient || isEnding && toClient.isEmpty && toServer.isEmpty { end(reset: orders.resets) }
        return passed
    }

    /// How many bytes may be read from the server now, including bytes that a cut will not pass on.
    private func allowance(_ behaviour: FaultProxy.Behaviour) -> Int {
        switch behaviour {
        case .stallAfter(let point): max(0, place(point) - serverBytes)
        case .slow(let bytesPerSecond):
            max(0, Int(Double(bytesPerSecond) * ((.now - markTime) / .seconds(1))) - (serverBytes - marked))
        default: Self.limit
        }
    }

    /// A place as a count of bytes of this connection.
    private func place(_ point: FaultProxy.Point) -> Int {
        switch point {
        case .ofConnection(let count): count
        case .fromNow(let count): marked + count
        }
    }

    private func readClient(_ orders: ProxyRelay.State, _ passed: inout Passed) {
        guard var bytes = receive(client, Self.limit) else { return isEnding = true }
        if case .cutWhen(.client, let pattern, let forwarding) = orders.behaviour,
            let end = Self.end(of: pattern, in: bytes, after: &clientTail)
        {
            bytes.removeLast(bytes.count - max(0, forwarding ? end : end - pattern.count))
            isEnding = true
            passed.faults += 1
        }
        passed.fromClient += bytes.count
        toServer += bytes
    }

    private func readServer(_ orders: ProxyRelay.State, _ passed: inout Passed) {
        let most = allowance(orders.behaviour)
        guard most > 0 else { return }
        guard var bytes = receive(server, most) else { return isEnding = true }
        let before = serverBytes
        switch orders.behaviour {
        case .cutAfter(let point):
            let rest = max(0, place(point) - before)
            guard rest <= bytes.count else { break }
            bytes.removeLast(bytes.count - rest)
            isEnding = true
            passed.faults += 1
        case .cutWhen(.server, let pattern, let forwarding):
            guard let end = Self.end(of: pattern, in: bytes, after: &serverTail) else { break }
            bytes.removeLast(bytes.count - max(0, forwarding ? end : end - pattern.count))
            isEnding = true
            passed.faults += 1
        case .corrupt(let point):
            let index = place(point) - before
            guard bytes.indices.contains(index) else { break }
            bytes[index] ^= 0xff
            passed.faults += 1
        default: break
        }
        serverBytes += bytes.count
        passed.fromServer += bytes.count
        toClient += bytes
    }

    /// The received bytes, empty if there are none; nil once the other side has closed the connection.
    private func receive(_ descriptor: Int32, _ most: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: min(most, Self.limit))
        let count = recv(descriptor, &bytes, bytes.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return [] }
        guard count > 0 else { return nil }
        bytes.removeLast(bytes.count - count)
        return bytes
    }

    /// Sends as many bytes as the other side accepts now; false if it has closed the connection.
    private func send(_ bytes: inout [UInt8], _ descriptor: Int32) -> Bool {
        guard !bytes.isEmpty, descriptor >= 0 else { return true }
        let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        if count > 0 { bytes.removeFirst(count) }
        // A connection that isn't established yet accepts no bytes.
        return count >= 0 || errno == EAGAIN || errno == EINTR
    }

    /// The end of `pattern` in `bytes`, which follow `tail`.
    private static func end(of pattern: [UInt8], in bytes: [UInt8], after tail: inout [UInt8]) -> Int? {
        let all = tail + bytes
        defer { tail = all.suffix(max(0, pattern.count - 1)) }
        guard let first = pattern.first else { return nil }
        var start = all.startIndex
        while let candidate = all[start...].firstIndex(of: first) {
            if all[candidate...].starts(with: pattern) { return candidate + pattern.count - tail.count }
            start = candidate + 1
        }
        return nil
    }

    private static let limit = 65_536
    /// The kernel's POLLRDHUP, which isn't imported: the other side sends no more.
    private static let closed: Int16 = 0x2000
}
