import CMicroHTTPD
import Dispatch
import Foundation
import Glibc
import Synchronization
import System

/// An HTTP server at work: libmicrohttpd's daemon, and its connections.
///
/// libmicrohttpd's thread calls back; the thread that calls ``run(tick:until:)`` ends connections that are too old; responses that take time are
/// made on a queue.
final class HTTPLoop {
    /// Set right after the loop is made, since the daemon's callbacks need the loop; they don't use it.
    private var daemon: OpaquePointer?
    private let limits: HTTPServer.Limits
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
        self.limits = limits
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
        // libmicrohttpd aborts the process if a connection still waits for its response when it is stopped.
        let areFinished = SteadySemaphore()
        unfinished.notify(queue: queue) { areFinished.signal() }
        guard areFinished.wait(within: .milliseconds(200)) else {
            // The queue still refers to the loop and its daemon: both are left as they are.
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

    /// Called for a request until a response is queued: when its headers have come, when all of it has come, and when its response was made.
    ///
    /// libmicrohttpd closes a connection whose response is queued, or that is suspended, at the first of these calls: it takes the request as
    /// incomplete. Only a request with a body, which nobody reads, gets its response then.
    ///
    /// - Parameter pending: where libmicrohttpd keeps the ``PendingResponse`` of the request.
    fileprivate func answer(
        _ connection: OpaquePointer, method: String, path: String,
        pending: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    ) -> MHD_Result {
        guard let kept = pending.pointee else {
            let answer = makeAnswer(request(connection, method: method, path: path))
            if case .now(let response) = answer, hasBody(connection) { return send(response, on: connection) }
            pending.pointee = Unmanaged.passRetained(PendingResponse(answer)).toOpaque()
            return .YES
        }
        let state = Unmanaged<PendingResponse>.fromOpaque(kept).takeUnretainedValue()
        switch state.answer.withLock({ $0 }) {
        case .now(let response): return send(response, on: connection)
        case .later(let make):
            MHD_suspend_connection(connection)
            let suspended = SuspendedConnection(connection: connection)
            queue.async(group: unfinished) {
                let response = make()
                state.answer.withLock { $0 = .now(response) }
                MHD_resume_connection(suspended.connection)
            }
            return .YES
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

/// The answer that a request waits for: a response, or the function that makes it.
private final class PendingResponse: Sendable {
    let answer: Mutex<HTTPServer.Answer>

    init(_ answer: HTTPServer.Answer) { self.answer = Mutex(answer) }
}

/// A connection that libmicrohttpd leaves alone until it is resumed, which any thread may do; `MHD_suspend_connection`.
private struct SuspendedConnection: @unchecked Sendable {
    let connection: OpaquePointer
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
    if let pending = state?.pointee { Unmanaged<PendingResponse>.fromOpaque(pending).release() }
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
