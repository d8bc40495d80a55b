import CMicroHTTPD
import Dispatch
import Foundation
import Glibc
import Synchronization
import System

/// An HTTP server at work: libmicrohttpd's daemon, and its connections.
///
/// Everything happens on the thread that makes it and calls ``run(tick:until:)``, but for the responses that are made on a queue.
final class HTTPLoop {
    /// The daemon; set right after the loop is made, since the daemon's callbacks need the loop.
    private var daemon: OpaquePointer?
    private let limits: HTTPServer.Limits
    private let makeAnswer: @Sendable (HTTPServer.Request) -> HTTPServer.Answer
    private var connections: HTTPConnections
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
        connections = HTTPConnections(limits)
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

    /// Serves until the function says true, which it is asked at least once a tick.
    ///
    /// - Parameter tick: in milliseconds.
    /// - Returns: whether it was told to stop; false after a failure.
    func run(tick: Int32, until isOver: () -> Bool) -> Bool {
        var isSound = true
        while isSound, !isOver() {
            isSound = MHD_run_wait(daemon, tick) == .YES
            connections.endOld(now: .now)
            // Without a descriptor left, libmicrohttpd returns at once, again and again.
            usleep(1_000)
        }
        // libmicrohttpd aborts the process if a connection still waits for its response when it is stopped.
        let areFinished = SteadySemaphore()
        unfinished.notify(queue: queue) { areFinished.signal() }
        guard areFinished.wait(within: .milliseconds(200)) else {
            // The queue still refers to the loop and its daemon: both are left as they are.
            _ = Unmanaged.passRetained(self)
            return isSound
        }
        MHD_stop_daemon(daemon)
        return isSound
    }

    // MARK: Callbacks

    /// A connection was opened or closed.
    fileprivate func changed(_ connection: OpaquePointer, isOpen: Bool) {
        let socket = cmicrohttpd_socket(connection)
        if isOpen { connections.add(socket, now: .now) } else { connections.remove(socket) }
    }

    /// A request was answered, or its connection has ended.
    fileprivate func ended(_ connection: OpaquePointer) {
        connections.renew(cmicrohttpd_socket(connection), now: .now)
    }

    /// The headers of a request have come, or its response was made on the queue.
    ///
    /// - Parameter pending: where libmicrohttpd keeps the ``PendingResponse`` of the request.
    fileprivate func answer(
        _ connection: OpaquePointer, _ method: String, _ path: String,
        _ pending: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    ) -> MHD_Result {
        if let state = pending.pointee {
            let response = Unmanaged<PendingResponse>.fromOpaque(state).takeUnretainedValue().response.withLock { $0 }
            guard let response else { return .YES }
            return send(response, on: connection)
        }
        func header(_ name: String) -> String? {
            MHD_lookup_connection_value(connection, .HEADER_KIND, name).map { String(cString: $0) }
        }
        let request = HTTPServer.Request(
            method: method, path: path, host: header("Host"), accept: header("Accept"),
            hasBody: header("Transfer-Encoding") != nil || header("Content-Length").map { $0 != "0" } ?? false)
        switch makeAnswer(request) {
        case .now(let response):
            // libmicrohttpd closes a connection whose response is queued at the first call, before the body was read.
            if request.hasBody { return send(response, on: connection) }
            keep(response, in: pending)
            return .YES
        case .later(let make):
            let state = keep(nil, in: pending)
            MHD_suspend_connection(connection)
            let suspended = SuspendedConnection(connection: connection)
            queue.async(group: unfinished) {
                let response = make()
                state.response.withLock { $0 = response }
                MHD_resume_connection(suspended.connection)
            }
            return .YES
        }
    }

    /// Has libmicrohttpd keep a response, or the place for one that isn't made yet, until it calls again.
    @discardableResult
    private func keep(
        _ response: HTTPServer.Response?, in pending: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    ) -> PendingResponse {
        let state = PendingResponse(response)
        pending.pointee = Unmanaged.passRetained(state).toOpaque()
        return state
    }

    private func send(_ response: HTTPServer.Response, on connection: OpaquePointer) -> MHD_Result {
        let made = response.body.withUnsafeBytes { cmicrohttpd_response($0.baseAddress, $0.count) }
        guard let made else { return .NO }
        defer { MHD_destroy_response(made) }
        for (name, value) in response.headers { MHD_add_response_header(made, name, value) }
        return MHD_queue_response(connection, UInt32(clamping: response.status), made)
    }
}

/// The response that a request waits for; nil until it is made.
private final class PendingResponse: Sendable {
    let response: Mutex<HTTPServer.Response?>

    init(_ response: HTTPServer.Response?) { self.response = Mutex(response) }
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
    return loop.answer(connection, String(cString: method), String(cString: path), state)
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
