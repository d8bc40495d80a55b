import Dispatch
import FlyingFox
import FlyingSocks
public import Foundation
import Glibc
import Synchronization
public import System

/// Serves metrics, health and the live page over HTTP: it shows, and changes nothing.
///
/// All of its work is done on other threads than those that judge recipients. Documents are made one at a time on a queue of
/// their own, and at most one a second of the dear ones, so that many who look cost what one does. Each connection serves one
/// request, and ends after 15 s, 16 KiB or as the oldest of more than 64; see ``ConnectionWatch``.
public final class MonitoringServer: Sendable {
    /// What is shown. Metrics and the live page are called on one queue, one at a time, the others on another.
    public struct Documents: Sendable {
        /// The metrics in a dialect.
        public var metrics: @Sendable (Exposition.Dialect) -> String
        /// What the live page shows, as JSON.
        public var live: @Sendable () -> Data
        /// Nil when recipients can be judged, or why not.
        public var obstacle: @Sendable () -> String?
        /// What doesn't work though recipients are judged, a line each.
        public var degradation: @Sendable () -> [String]

        /// Documents made by these.
        public init(
            metrics: @escaping @Sendable (Exposition.Dialect) -> String, live: @escaping @Sendable () -> Data,
            obstacle: @escaping @Sendable () -> String?, degradation: @escaping @Sendable () -> [String] = { [] }
        ) {
            self.metrics = metrics
            self.live = live
            self.obstacle = obstacle
            self.degradation = degradation
        }
    }

    /// Why it can't serve.
    public struct Failure: Error, CustomStringConvertible {
        /// What the trouble is.
        public enum Kind: Sendable {
            /// Another program listens there.
            case inUse
            /// The system doesn't permit it.
            case notPermitted
            /// There is no such address, or something else.
            case unusable
        }

        /// What the trouble is.
        public let kind: Kind
        /// A sentence.
        public let description: String
    }

    private let host: String
    private let port: UInt16
    private let documents: Documents
    private let report: @Sendable (String) -> Void
    private let names: Set<String>?
    private let queue = DispatchQueue(label: "monitoring")
    private let healthQueue = DispatchQueue(label: "monitoring health")
    private let watch = Mutex<ConnectionWatch?>(nil)
    private let task = Mutex<Task<Void, Never>?>(nil)
    private let stopping = SteadySemaphore()
    private let live = Mutex<(made: ContinuousClock.Instant, data: Data)?>(nil)

    /// A server that starts with ``start()``.
    ///
    /// - Parameters:
    ///   - isLoopback: whether only this machine can reach the host: then it must be asked for by a name of this machine.
    ///   - report: gets a line when serving is interrupted.
    public init(
        host: String, port: UInt16, isLoopback: Bool, documents: Documents,
        report: @escaping @Sendable (String) -> Void
    ) {
        self.host = host
        self.port = port
        self.documents = documents
        self.report = report
        names = isLoopback ? ["localhost", "127.0.0.1", "::1", host.lowercased()] : nil
    }

    /// Opens the port and begins to serve; returns when it can be asked.
    public func start() throws(Failure) {
        // A client may be gone before its answer is written.
        signal(SIGPIPE, SIG_IGN)
        let (address, place) = try resolve()
        let beginning = Beginning()
        let task = Task { [self] in
            var isFirst = true
            while !Task.isCancelled {
                let server = makeServer(address)
                if isFirst {
                    Task {
                        guard (try? await server.waitUntilListening(timeout: 10)) != nil else { return }
                        beginning.decide(.success(()))
                    }
                }
                do {
                    try await server.run()
                } catch {
                    if Task.isCancelled { return }
                    if isFirst, beginning.decide(.failure(failure(error))) { return }
                    report("http: serving was interrupted and goes on in a second: \(error.localizedDescription)")
                }
                isFirst = false
                // Such as when the process has run out of descriptors.
                try? await Task.sleep(for: .seconds(1))
            }
        }
        guard let outcome = beginning.wait(seconds: 15) else {
            task.cancel()
            throw Failure(kind: .unusable, description: "http.listen: \(shown) can't be listened on in time")
        }
        try outcome.get()
        self.task.withLock { $0 = task }
        let watch = ConnectionWatch(place: place)
        watch.start()
        self.watch.withLock { $0 = watch }
    }

    /// Opens the port and serves, on a thread of its own; where that fails, tries again for as long as the server isn't stopped, with a growing pause.
    ///
    /// - Parameters:
    ///   - patience: how long to wait for the first attempt before returning.
    ///   - condition: gets why the port can't be opened, and nil once it is; called on the thread.
    public func startAndKeepTrying(patience: Duration, _ condition: @escaping @Sendable (PartFailure?) -> Void) {
        let tried = SteadySemaphore()
        NamedThread.start("http") { [self] in
            var pause = 5
            var since: Date?
            while true {
                guard var failure = attempt(pause: pause) else {
                    condition(nil)
                    tried.signal()
                    return
                }
                failure.since = since ?? failure.since
                since = failure.since
                condition(failure)
                tried.signal()
                if stopping.wait(within: .seconds(pause)) { return }
                pause = min(60, pause * 2)
            }
        }
        _ = tried.wait(within: patience)
    }

    private func attempt(pause: Int) -> PartFailure? {
        do throws(Failure) {
            try start()
            return nil
        } catch {
            return PartFailure(
                reason: "\(error)", advice: "free the address or change http.listen",
                nextTry: Date() + TimeInterval(pause))
        }
    }

    /// Ends serving; connections in progress are cut.
    public func stop() {
        stopping.signal()
        guard
            let task = task.withLock({ task in
                defer { task = nil }
                return task
            })
        else { return }
        task.cancel()
        watch.withLock { $0 }?.stop()
    }

    /// Whether the port could be opened, for the thread that waits to know.
    private final class Beginning: Sendable {
        private let outcome = Mutex<Result<Void, Failure>?>(nil)
        private let decided = SteadySemaphore()

        /// False where it is decided already.
        @discardableResult func decide(_ result: Result<Void, Failure>) -> Bool {
            let isFirst = outcome.withLock { outcome in
                guard outcome == nil else { return false }
                outcome = result
                return true
            }
            if isFirst { decided.signal() }
            return isFirst
        }

        func wait(seconds: Int) -> Result<Void, Failure>? {
            _ = decided.wait(within: .seconds(seconds))
            return outcome.withLock { $0 }
        }
    }

    private var shown: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    // MARK: Answers

    private func makeServer(_ address: any SocketAddress) -> HTTPServer {
        let handler = ClosureHTTPHandler { [weak self] request in
            guard let self else { return HTTPResponse(statusCode: .serviceUnavailable) }
            return await answer(request)
        }
        return HTTPServer(address: address, timeout: 10, logger: .disabled, handler: handler)
    }

    private func answer(_ request: HTTPRequest) async -> HTTPResponse {
        let asked: MonitoringRequest
        do throws(MonitoringRequest.Refusal) {
            asked = try MonitoringRequest(
                method: request.method.rawValue, path: request.path, host: request.headers[HTTPHeader("Host")],
                hosts: names)
        } catch {
            return Self.response(
                error.status, "text/plain; charset=utf-8", Data("\(error.line)\n".utf8),
                isHead: request.method.rawValue == "HEAD", also: error.status == 405 ? ["Allow": "GET, HEAD"] : [:])
        }
        let accepted = request.headers[HTTPHeader("Accept")]
        let (status, type, body) = await withCheckedContinuation { continuation in
            // Health mustn't wait for a document that reads from a disk.
            let isHealth = asked.document == .health || asked.document == .readiness
            (isHealth ? healthQueue : queue).async { [self] in
                continuation.resume(returning: document(asked.document, accepted))
            }
        }
        return Self.response(status, type, body, isHead: asked.isHead)
    }

    private func document(
        _ document: MonitoringRequest.Document, _ accepted: String?
    ) -> (status: Int, type: String, body: Data) {
        switch document {
        case .page: return (200, "text/html; charset=utf-8", Data(LivePage.html.utf8))
        case .script: return (200, "text/javascript; charset=utf-8", Data(LivePage.script.utf8))
        case .style: return (200, "text/css; charset=utf-8", Data(LivePage.style.utf8))
        case .live: return (200, "application/json", currentLive())
        case .metrics:
            let dialect = Exposition.Dialect(accepting: accepted)
            return (200, dialect.contentType, Data(documents.metrics(dialect).utf8))
        case .health: return (200, "text/plain; charset=utf-8", Data("ok\n".utf8))
        case .readiness:
            let obstacle = documents.obstacle()
            let lines = [obstacle ?? "ready"] + documents.degradation()
            return (
                obstacle == nil ? 200 : 503, "text/plain; charset=utf-8",
                Data("\(lines.joined(separator: "\n"))\n".utf8)
            )
        }
    }

    /// The live document, made anew once it is a second old.
    private func currentLive() -> Data {
        let now = ContinuousClock.now
        if let live = live.withLock({ $0 }), now - live.made < .seconds(1) { return live.data }
        let data = documents.live()
        live.withLock { $0 = (now, data) }
        return data
    }

    private static func response(
        _ status: Int, _ type: String, _ body: Data, isHead: Bool, also: [String: String] = [:]
    ) -> HTTPResponse {
        let phrases = [
            200: "OK", 404: "Not Found", 405: "Method Not Allowed", 421: "Misdirected Request",
            503: "Service Unavailable",
        ]
        var headers: HTTPHeaders = [
            HTTPHeader("Content-Type"): type, HTTPHeader("Content-Length"): "\(body.count)",
            HTTPHeader("Cache-Control"): "no-store", HTTPHeader("Connection"): "close",
            HTTPHeader("X-Content-Type-Options"): "nosniff", HTTPHeader("X-Frame-Options"): "DENY",
            HTTPHeader("Referrer-Policy"): "no-referrer", HTTPHeader("Cross-Origin-Resource-Policy"): "same-origin",
            HTTPHeader("Content-Security-Policy"): LivePage.securityPolicy,
        ]
        for (name, value) in also { headers[HTTPHeader(name)] = value }
        return HTTPResponse(
            statusCode: HTTPStatusCode(status, phrase: phrases[status] ?? "Error"), headers: headers,
            body: isHead ? Data() : body)
    }

    // MARK: The address

    private func resolve() throws(Failure) -> (any SocketAddress, SocketName) {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, "\(port)", &hints, &list)
        guard status == 0, let first = list else {
            throw Failure(
                kind: .unusable, description: "http.listen: \(shown): \(String(cString: gai_strerror(status)))")
        }
        defer { freeaddrinfo(list) }
        let address = UnsafeRawBufferPointer(start: first.pointee.ai_addr, count: Int(first.pointee.ai_addrlen))
        guard let place = SocketName(address) else {
            throw Failure(kind: .unusable, description: "http.listen: \(shown) is no address of IPv4 or IPv6")
        }
        if first.pointee.ai_family == AF_INET6, address.count >= MemoryLayout<sockaddr_in6>.size {
            return (address.loadUnaligned(as: sockaddr_in6.self), place)
        }
        guard address.count >= MemoryLayout<sockaddr_in>.size else {
            throw Failure(kind: .unusable, description: "http.listen: \(shown) is no address of IPv4 or IPv6")
        }
        return (address.loadUnaligned(as: sockaddr_in.self), place)
    }

    private func failure(_ error: any Error) -> Failure {
        guard let error = error as? SocketError, case .failed(_, let code, _) = error else {
            return Failure(kind: .unusable, description: "http.listen: \(shown): \(error.localizedDescription)")
        }
        let kind: Failure.Kind =
            switch code {
            case EADDRINUSE: .inUse
            case EACCES, EPERM: .notPermitted
            default: .unusable
            }
        return Failure(
            kind: kind, description: "http.listen: \(shown) can't be listened on: \(String(cString: strerror(code)))")
    }
}
