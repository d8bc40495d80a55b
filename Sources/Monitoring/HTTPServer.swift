import Foundation
import Glibc
import Synchronization
import System

/// An HTTP/1.1 server that answers GET and HEAD requests with small documents, by libmicrohttpd on threads of its own.
///
/// A client can't slow down the others: a connection gets little memory and time, and if there are too many, the server ends the oldest.
/// libmicrohttpd itself answers requests that it can't read: 400 if malformed, 414 for a long path, 431 for long headers.
final class HTTPServer: Sendable {
    /// The limits on clients.
    struct Limits: Sendable {
        /// The most open connections; a further one ends the oldest.
        var connections = 64
        /// The most open connections of one client address; a further one ends the oldest of that address.
        var connectionsOfAddress = 16
        /// The most bytes of memory of a connection, for its request line and headers.
        var memory = 16 << 10
        /// The seconds after which a connection without any traffic ends.
        var idleSeconds: UInt32 = 10
        /// How long a connection may be open without a response.
        var age = Duration.seconds(15)
    }

    /// The request line and the headers of a request, as far as responses depend on them.
    struct Request {
        /// Such as `GET`.
        var method: String
        /// The decoded path, without the query.
        var path: String
        /// The header `Host`.
        var host: String?
        /// The header `Accept`.
        var accept: String?
        var hasBody = false
    }

    /// A response. The server adds `Content-Length` and `Date`, and leaves the body out for HEAD.
    struct Response {
        var status: Int
        /// The headers by name.
        var headers: [String: String]
        var body: Data
    }

    /// The answer to a request.
    enum Answer {
        /// A response that is there.
        case now(Response)
        /// A function that makes the response and may take its time. The server calls the functions of all connections on one queue, and
        /// goes on with other requests meanwhile.
        case later(@Sendable () -> Response)
    }

    /// The seconds between the first two attempts to open the port. The pause doubles after each attempt, up to the longest.
    private static let firstPause = 5
    private static let longestPause = 60

    private let host: String
    private let port: UInt16
    private let limits: Limits
    private let answer: @Sendable (Request) -> Answer
    private let thread = Mutex<NamedThread?>(nil)
    private let stopping = SteadySemaphore()
    private let isStopping = Atomic<Bool>(false)

    /// A server that doesn't listen yet.
    ///
    /// - Parameter answer: called on the threads of the connections.
    init(host: String, port: UInt16, limits: Limits, answer: @escaping @Sendable (Request) -> Answer) {
        self.host = host
        self.port = port
        self.limits = limits
        self.answer = answer
    }

    /// Starts the thread, which opens the port and serves. If the port can't be opened, the thread tries again after a pause.
    ///
    /// - Parameters:
    ///   - patience: how long to wait for the first attempt.
    ///   - condition: called on the thread with the reason why the server can't serve, and with nil once it serves.
    func start(patience: Duration, condition: @escaping @Sendable (PartFailure?) -> Void) {
        let attempted = SteadySemaphore()
        thread.withLock { thread in
            thread = NamedThread.start("http") { [self] in
                keepServing { failure in
                    condition(failure)
                    attempted.signal()
                }
            }
        }
        _ = attempted.wait(within: patience)
    }

    /// Closes the port and the connections, and ends the thread; waits for half a second at most.
    func stop() {
        isStopping.store(true, ordering: .releasing)
        stopping.signal()
        _ = thread.withLock { $0 }?.waitForEnd(within: .milliseconds(500))
    }

    private func keepServing(_ condition: (PartFailure?) -> Void) {
        var pause = Self.firstPause
        var since: Date?
        while !isStopping.load(ordering: .acquiring) {
            do throws(PartFailure) {
                let loop = try HTTPLoop(listener: try openListener(), limits, answer)
                condition(nil)
                return loop.run { isStopping.load(ordering: .acquiring) }
            } catch {
                var failure = error
                failure.since = since ?? failure.since
                since = failure.since
                failure.nextTry = Date() + TimeInterval(pause)
                condition(failure)
            }
            if stopping.wait(within: .seconds(pause)) { return }
            pause = min(Self.longestPause, pause * 2)
        }
    }

    /// A socket that listens at the configured address.
    private func openListener() throws(PartFailure) -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, "\(port)", &hints, &list)
        guard status == 0, let first = list?.pointee else {
            throw failure(status == 0 ? "the host has no address" : String(cString: gai_strerror(status)))
        }
        defer { freeaddrinfo(list) }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let listener = socket(first.ai_family, type, 0)
        guard listener >= 0 else { throw failure(systemMessage()) }
        // A port whose connections ended a moment ago may be opened again.
        var one: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        guard bind(listener, first.ai_addr, first.ai_addrlen) == 0, listen(listener, SOMAXCONN) == 0 else {
            let reason = systemMessage()
            close(listener)
            throw failure(reason)
        }
        return listener
    }

    private func failure(_ reason: String) -> PartFailure {
        let place = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        return PartFailure(
            reason: "http.listen: can't listen on \(place): \(reason)",
            advice: "free the address or change http.listen")
    }
}
