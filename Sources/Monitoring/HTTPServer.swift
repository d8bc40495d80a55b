package import Foundation
import Glibc
import Synchronization
package import System

/// Answers HTTP/1.1 requests of GET and HEAD with small documents, by libmicrohttpd on threads of its own.
///
/// No client costs the others anything: connections are few, each has little memory and little time, and the oldest one ends when there are too many.
/// Requests that don't fit get the answers of libmicrohttpd: 400 for a malformed one, 414 for a long path, 431 for long headers.
package final class HTTPServer: Sendable {
    /// What clients may use.
    package struct Limits: Sendable {
        /// The most open connections; a further one ends the oldest.
        package var connections = 64
        /// The most open connections of one client address; a further one ends the oldest of that address.
        package var connectionsOfAddress = 16
        /// The most bytes of memory of a connection, for its request line and headers.
        package var memory = 16 << 10
        /// The seconds after which a connection without any traffic ends.
        package var idleSeconds: UInt32 = 10
        /// How long a connection may be open without having been answered.
        package var age = Duration.seconds(15)

        /// The limits of a running filter.
        package init() {}
    }

    /// The request line and the headers of a request, as far as answers depend on them.
    package struct Request: Sendable, Equatable {
        /// Such as `GET`.
        package var method: String
        /// The decoded path, without the query.
        package var path: String
        /// The header `Host`.
        package var host: String?
        /// The header `Accept`.
        package var accept: String?
        /// Whether a body follows.
        package var hasBody = false
    }

    /// A response. The server adds `Content-Length` and `Date`, and leaves the body out for HEAD.
    package struct Response: Sendable {
        /// Such as 200.
        package var status: Int
        /// The headers, by name.
        package var headers: [String: String]
        /// The whole body.
        package var body: Data
    }

    /// How a request is answered.
    package enum Answer: Sendable {
        /// With a response that is there.
        case now(Response)
        /// With a response that takes time to make. The functions of all connections are called on one queue, one at a time; meanwhile the server
        /// goes on with other requests.
        case later(@Sendable () -> Response)
    }

    /// The seconds between two attempts to open the port: doubled after each one, up to the last.
    private static let firstPause = 5
    private static let longestPause = 60
    /// Milliseconds between two looks for connections that are too old, and for the end of the server.
    private static let tick: UInt32 = 250

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
    package init(
        host: String, port: UInt16, limits: Limits = Limits(), answer: @escaping @Sendable (Request) -> Answer
    ) {
        self.host = host
        self.port = port
        self.limits = limits
        self.answer = answer
    }

    /// Starts the thread, which opens the port and serves. While the port can't be opened, it tries again after a pause.
    ///
    /// - Parameters:
    ///   - patience: how long to wait for the first attempt.
    ///   - condition: gets why the server can't serve, and nil once it does; called on the thread.
    package func start(patience: Duration, condition: @escaping @Sendable (PartFailure?) -> Void) {
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
    package func stop() {
        isStopping.store(true, ordering: .releasing)
        stopping.signal()
        _ = thread.withLock { $0 }?.waitForEnd(within: .milliseconds(500))
    }

    // MARK: The thread

    private func keepServing(_ condition: (PartFailure?) -> Void) {
        var pause = Self.firstPause
        var since: Date?
        while !isStopping.load(ordering: .acquiring) {
            var failure: PartFailure
            do throws(PartFailure) {
                let loop = try HTTPLoop(listener: try openListener(), limits, answer)
                condition(nil)
                return loop.run(tick: Self.tick) { isStopping.load(ordering: .acquiring) }
            } catch {
                failure = error
            }
            failure.since = since ?? failure.since
            since = failure.since
            failure.nextTry = Date() + TimeInterval(pause)
            condition(failure)
            if stopping.wait(within: .seconds(pause)) { return }
            pause = min(Self.longestPause, pause * 2)
        }
    }

    // MARK: The address

    private var place: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    private func failure(_ reason: String) -> PartFailure {
        PartFailure(
            reason: "http.listen: can't listen on \(place): \(reason)",
            advice: "free the address or change http.listen")
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
        // A port of connections that ended a moment ago may be opened again.
        var one: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        guard bind(listener, first.ai_addr, first.ai_addrlen) == 0, listen(listener, SOMAXCONN) == 0 else {
            let reason = systemMessage()
            close(listener)
            throw failure(reason)
        }
        return listener
    }
}
