import CMicroHTTPD
import Dispatch
import Foundation
import Glibc
import Synchronization
import System

/// An HTTP server at work: libmicrohttpd's daemon, and its connections.
///
/// libmicrohttpd calls back on a thread of each connection; the thread that calls ``run(tick:until:)`` ends connections that are too old.
/// Responses that take time are made on a queue, one after another.
final class HTTPLoop {
    /// Set right after the loop is made, since the daemon's callbacks need the loop; they don't use it.
    private var daemon: OpaquePointer?
    private let makeAnswer: @Sendable (HTTPServer.Request) -> HTTPServer.Answer
    private let connections: Mutex<HTTPConnections>
    private let queue = DispatchQueue(label: "http documents")
    /// The responses that are being made.
    private let unfinished = DispatchGroup()

    /// Serves the connections that come to a listening socket, which the loop closes.
    ///
    /// - Throws: if libmicrohttpd can't be started, such as for want of a descriptor.
    init(
        listener: Int32, _ limits: HTTPServer.Limits,
        _ answer: @escaping @Sendable (HTTPServer.Request) -> HTTPServer.Answer
    ) throws(PartFailure) {
        makeAnswer = answer
        connections = Mutex(HTTPConnections(limits))
        // libmicrohttpd stops accepting at its limits; these leave room for the connections that the loop is ending.
        daemon = cmicrohttpd_start(
            listener, answerRequest, requestEnded, connectionChanged, Unmanaged.passUnretained(self).toOpaque(),
            UInt32(clamping: limits.connections * 2), UInt32(clamping: limits.connectionsOfAddress * 4), limits.memory,
            limits.idleSeconds)
        guard daemon != nil else {
            close(listener)
            throw PartFailure(
                reason: "http: libmicrohttpd can't be started: \(systemMessage())",
                advice: "see whether the process may have more descriptors (LimitNOFILE= in the unit)")
        }
    }

    /// Serves until the function says true, which it is asked once a tick.
    ///
    /// - Parameter tick: in milliseconds.
    func run(tick: UInt32, until isOver: () -> Bool) {
        while !isOver() {
            usleep(tick * 1_000)
            connections.withLock { $0.endOld(now: .now) }
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

    // MARK: Callbacks

    /// A connection was opened or closed.
    fileprivate func changed(_ connection: OpaquePointer, isOpen: Bool) {
        let socket = cmicrohttpd_socket(connection)
        connections.withLock { if isOpen { $0.add(socket, now: .now) } else { $0.remove(socket) } }
    }

    /// A request was answered, or its connection has ended.
    fileprivate func ended(_ connection: OpaquePointer) {
        connections.withLock { $0.renew(cmicrohttpd_socket(connection), now: .now) }
    }

    /// Called for a request when its headers have come, and again when all of it has come.
    ///
    /// libmicrohttpd closes a connection whose response is queued at the first call: it takes the request as incomplete. Only a request with a
    /// body, which nobody reads, gets its response then.
    ///
    /// - Parameter pending: where libmicrohttpd keeps the ``PendingAnswer`` of the request.
    fileprivate func answer(
        _ connection: OpaquePointer, method: String, path: String,
        pending: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    ) -> MHD_Result {
        guard let kept = pending.pointee else {
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

/// The answer to a request whose end hasn't come.
private final class PendingAnswer {
    let answer: HTTPServer.Answer

    init(_ answer: HTTPServer.Answer) { self.answer = answer }
}

// MARK: Functions that libmicrohttpd calls

private func loop(_ pointer: UnsafeMutableRawPointer?) -> HTTPLoop? {
    pointer.map { Unmanaged<HTTPLoop>.fromOpaque($0).takeUnretainedValue() }
}

/// `MHD_AccessHandlerCallback`; the bytes of a body are not read.
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
