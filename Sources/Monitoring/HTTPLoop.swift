import CMicroHTTPD
import Dispatch
import Foundation
import Glibc
import Synchronization
import System

/// Serves HTTP connections: libmicrohttpd's daemon and the limits that it doesn't have.
///
/// libmicrohttpd calls back on a thread for each connection. The thread that calls ``run(until:)`` ends connections that are too old.
/// Responses that take time are made on a queue, one after another.
final class HTTPLoop {
    /// How often connections are looked at, in milliseconds.
    private static let tick: UInt32 = 250

    /// Set right after the loop is made: the daemon's callbacks need the loop, and don't use the daemon.
    private var daemon: OpaquePointer?
    private let listener: Int32
    /// Keeps a descriptor for clients that wait while the process has none left; -1 if there is none.
    private var spare = openSpare()
    private let makeAnswer: @Sendable (HTTPServer.Request) -> HTTPServer.Answer
    private let connections: Mutex<HTTPConnections>
    private let queue = DispatchQueue(label: "http documents")
    /// The responses that are being made.
    private let unfinished = DispatchGroup()

    /// Serves the connections of a listening socket, which the loop closes.
    ///
    /// - Throws: if libmicrohttpd can't be started, for example because the process has no descriptors left.
    init(
        listener: Int32, _ limits: HTTPServer.Limits,
        _ answer: @escaping @Sendable (HTTPServer.Request) -> HTTPServer.Answer
    ) throws(PartFailure) {
        self.listener = listener
        makeAnswer = answer
        connections = Mutex(HTTPConnections(limits))
        // At its own limits libmicrohttpd stops accepting; these leave room for the connections that the loop is ending.
        daemon = cmicrohttpd_start(
            listener, answerRequest, requestEnded, connectionChanged, Unmanaged.passUnretained(self).toOpaque(),
            UInt32(clamping: limits.connections * 2), UInt32(clamping: limits.connectionsOfAddress * 4), limits.memory,
            limits.idleSeconds)
        guard daemon != nil else {
            close(listener)
            throw PartFailure(
                reason: "http: libmicrohttpd can't be started: \(systemMessage())",
                advice: "raise the limit of open files (LimitNOFILE= in the unit)")
        }
    }

    deinit { if spare >= 0 { close(spare) } }

    /// Serves until the function returns true; the loop calls it four times a second.
    func run(until isOver: () -> Bool) {
        while !isOver() {
            usleep(Self.tick * 1_000)
            connections.withLock { $0.endOld(now: .now) }
            closeClientsWithoutDescriptor()
        }
        let areFinished = SteadySemaphore()
        unfinished.notify(queue: queue) { areFinished.signal() }
        guard areFinished.wait(within: .milliseconds(200)) else {
            // Stopping the daemon would wait for the response: both are left as they are.
            _ = Unmanaged.passRetained(self)
            return
        }
        MHD_stop_daemon(daemon)
    }

    /// Closes the connections of waiting clients if the process has no descriptors left: libmicrohttpd would try without a pause to accept
    /// them as long as it has no open connection.
    private func closeClientsWithoutDescriptor() {
        var polled = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
        guard spare < 0 || poll(&polled, 1, 0) > 0 else { return }
        let probe = Self.openSpare()
        if probe >= 0 {
            if spare < 0 { spare = probe } else { close(probe) }
        } else if errno == EMFILE || errno == ENFILE, spare >= 0 {
            close(spare)
            // If libmicrohttpd was faster, it serves the client with the spare descriptor, and this call fails. The rest of a flood waits for
            // the next tick.
            for _ in 0..<128 {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { break }
                close(client)
            }
            spare = Self.openSpare()
        }
    }

    private static func openSpare() -> Int32 { open("/dev/null", O_RDONLY | O_CLOEXEC) }

    // MARK: Callbacks

    /// A connection was opened or closed.
    fileprivate func changed(_ connection: OpaquePointer, isOpen: Bool) {
        let socket = cmicrohttpd_socket(connection)
        connections.withLock { if isOpen { $0.add(socket, now: .now) } else { $0.remove(socket) } }
    }

    /// A request was answered, or its connection ended.
    fileprivate func ended(_ connection: OpaquePointer) {
        connections.withLock { $0.renew(cmicrohttpd_socket(connection), now: .now) }
    }

    /// Answers a request. libmicrohttpd calls this after the headers, and again after the whole request.
    ///
    /// libmicrohttpd closes a connection whose response is queued at the first call, since the request seems incomplete to it. So only a
    /// request with a body, which the server doesn't read, gets its response at the first call.
    ///
    /// - Parameter pending: the place where libmicrohttpd keeps the ``PendingAnswer`` of the request.
    fileprivate func answer(
        _ connection: OpaquePointer, method: String, path: String,
        pending: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    ) -> MHD_Result {
        guard let kept = pending.pointee else {
            // libmicrohttpd has made this thread for the connection.
            NamedThread.nameCurrent("http")
            let answer = makeAnswer(request(connection, method: method, path: path))
            if case .now(let response) = answer, hasBody(connection) { return send(response, on: connection) }
            pending.pointee = Unmanaged.passRetained(PendingAnswer(answer)).toOpaque()
            return .YES
        }
        switch Unmanaged<PendingAnswer>.fromOpaque(kept).takeUnretainedValue().answer {
        case .now(let response): return send(response, on: connection)
        case .later(let make):
            unfinished.enter()
            defer { unfinished.leave() }
            return send(queue.sync(execute: make), on: connection)
        }
    }

    private func request(_ connection: OpaquePointer, method: String, path: String) -> HTTPServer.Request {
        HTTPServer.Request(
            method: method, path: path, host: header("Host", of: connection), accept: header("Accept", of: connection),
            hasBody: hasBody(connection))
    }

    private func hasBody(_ connection: OpaquePointer) -> Bool {
        header("Transfer-Encoding", of: connection) != nil
            || header("Content-Length", of: connection).map { $0 != "0" } ?? false
    }

    private func header(_ name: String, of connection: OpaquePointer) -> String? {
        MHD_lookup_connection_value(connection, .HEADER_KIND, name).map { String(cString: $0) }
    }

    private func send(_ response: HTTPServer.Response, on connection: OpaquePointer) -> MHD_Result {
        let made = response.body.withUnsafeBytes { cmicrohttpd_response($0.baseAddress, $0.count) }
        guard let made else { return .NO }
        defer { MHD_destroy_response(made) }
        for (name, value) in response.headers { MHD_add_response_header(made, name, value) }
        return MHD_queue_response(connection, UInt32(clamping: response.status), made)
    }
}

/// The answer to a request that hasn't been received completely.
private final class PendingAnswer {
    let answer: HTTPServer.Answer

    init(_ answer: HTTPServer.Answer) { self.answer = answer }
}

/// The open connections of an HTTP server; ends those that are too many or too old.
///
/// It ends a connection by shutdown(2): libmicrohttpd then notices the end and closes the socket.
struct HTTPConnections {
    private struct Connection {
        let socket: Int32
        /// The client's address; nil if the system doesn't know it.
        let address: IPAddress?
        /// When it was opened or last answered.
        var since: ContinuousClock.Instant
        /// Whether it was shut down, so that libmicrohttpd will close it.
        var isEnding = false
    }

    private let limits: HTTPServer.Limits
    /// Oldest first.
    private var list: [Connection] = []

    init(_ limits: HTTPServer.Limits) { self.limits = limits }

    /// Adds a connection, and ends the oldest if there are too many now, in all or of its client.
    mutating func add(_ socket: Int32, now: ContinuousClock.Instant) {
        let added = Connection(socket: socket, address: Self.clientAddress(socket), since: now)
        list.append(added)
        let open = list.indices.filter { !list[$0].isEnding }
        let ofClient = open.filter { list[$0].address == added.address }
        if ofClient.count > limits.connectionsOfAddress, let oldest = ofClient.first {
            end(oldest)
        } else if open.count > limits.connections, let oldest = open.first {
            end(oldest)
        }
    }

    /// Forgets a connection that is being closed.
    mutating func remove(_ socket: Int32) { list.removeAll { $0.socket == socket } }

    /// Restarts the time of a connection that was answered.
    mutating func renew(_ socket: Int32, now: ContinuousClock.Instant) {
        guard let place = list.firstIndex(where: { $0.socket == socket }) else { return }
        list[place].since = now
    }

    /// Ends the connections that have been open for too long without a response.
    mutating func endOld(now: ContinuousClock.Instant) {
        for place in list.indices where !list[place].isEnding && now - list[place].since > limits.age { end(place) }
    }

    private mutating func end(_ place: Int) {
        shutdown(list[place].socket, Int32(SHUT_RDWR))
        list[place].isEnding = true
    }

    /// The address at the other end of a socket; getpeername(2).
    private static func clientAddress(_ socket: Int32) -> IPAddress? {
        var name = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getpeername(socket, $0, &size) == 0 ? IPAddress($0) : nil
            }
        }
    }
}

// MARK: Functions that libmicrohttpd calls

private func loop(_ pointer: UnsafeMutableRawPointer?) -> HTTPLoop? {
    pointer.map { Unmanaged<HTTPLoop>.fromOpaque($0).takeUnretainedValue() }
}

/// `MHD_AccessHandlerCallback`; leaves the bytes of a body unread.
private func answerRequest(
    _ server: UnsafeMutableRawPointer?, _ connection: OpaquePointer?, _ path: UnsafePointer<CChar>?,
    _ method: UnsafePointer<CChar>?, _ version: UnsafePointer<CChar>?, _ body: UnsafePointer<CChar>?,
    _ bodySize: UnsafeMutablePointer<Int>?, _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
    guard let loop = loop(server), let connection, let path, let method, let state else { return .NO }
    return loop.answer(connection, method: String(cString: method), path: String(cString: path), pending: state)
}

/// `MHD_RequestCompletedCallback`.
private func requestEnded(
    _ server: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ reason: MHD_RequestTerminationCode
) {
    if let pending = state?.pointee { Unmanaged<PendingAnswer>.fromOpaque(pending).release() }
    state?.pointee = nil
    if let connection { loop(server)?.ended(connection) }
}

/// `MHD_NotifyConnectionCallback`.
private func connectionChanged(
    _ server: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ change: MHD_ConnectionNotificationCode
) {
    guard let connection else { return }
    loop(server)?.changed(connection, isOpen: change == .CONNECTION_NOTIFY_STARTED)
}
