import Foundation
import Synchronization
package import System

/// Serves metrics, health and the live page over HTTP, read-only.
///
/// | path | document |
/// |---|---|
/// | `/`, `/page.js`, `/page.css` | the live page |
/// | `/live.json` | the data of the live page; made at most once a second, however many clients ask |
/// | `/metrics` | metrics for Prometheus |
/// | `/healthz` | 200 while the process runs |
/// | `/readyz` | 200 if recipients can be judged, else 503; then a line for each part that doesn't work |
///
/// Metrics and `/live.json` read files. They are made on a queue, so that health never waits for them.
package final class MonitoringServer: Sendable {
    /// The functions that make the documents.
    struct Documents {
        /// The metrics in a dialect; never called at the same time as ``live``.
        var metrics: @Sendable (MetricsText.Dialect) -> String
        /// The document of the live page, as JSON.
        var live: @Sendable () -> Data
        /// Why recipients can't be judged; nil if they can. Must not wait.
        var obstacle: @Sendable () -> String?
        /// A line for each part that doesn't work. Must not wait.
        var failingParts: @Sendable () -> [String] = { [] }
    }

    private let server: HTTPServer

    /// A server for a running filter, which starts with ``start(patience:condition:)``.
    ///
    /// - Parameter isLoopback: whether only this machine can reach the host. Then the header `Host` must name this machine. Against DNS
    ///   rebinding: a browser that shows a stranger's page, whose name was changed to this address, sends the stranger's name.
    package convenience init(host: String, port: UInt16, isLoopback: Bool, monitor: FilterMonitor) {
        self.init(
            host: host, port: port, isLoopback: isLoopback,
            documents: Documents(
                metrics: { monitor.metrics($0) }, live: { monitor.live() }, obstacle: { monitor.obstacle },
                failingParts: { monitor.failingParts }))
    }

    init(
        host: String, port: UInt16, isLoopback: Bool, limits: HTTPServer.Limits = HTTPServer.Limits(),
        documents: Documents
    ) {
        let names: Set<String>? = isLoopback ? ["localhost", "127.0.0.1", "::1", host.lowercased()] : nil
        let cache = LiveCache(documents.live)
        server = HTTPServer(host: host, port: port, limits: limits) { request in
            Self.answer(request, names: names, documents, cache: cache)
        }
    }

    /// Opens the port and serves. If the port can't be opened, tries again after a pause.
    ///
    /// - Parameters:
    ///   - patience: how long to wait for the first attempt.
    ///   - condition: called with the reason why the port can't be opened, and with nil once it is open, on the server's thread.
    package func start(patience: Duration, condition: @escaping @Sendable (PartFailure?) -> Void) {
        server.start(patience: patience, condition: condition)
    }

    /// Closes the port and the connections.
    package func stop() { server.stop() }

    // MARK: Answers

    private static func answer(
        _ request: HTTPServer.Request, names: Set<String>?, _ documents: Documents, cache: LiveCache
    ) -> HTTPServer.Answer {
        if let refusal = refusal(of: request, names: names) { return .now(refusal) }
        switch request.path {
        case "/": return .now(response(200, "text/html; charset=utf-8", body: LivePage.html))
        case "/page.js": return .now(response(200, "text/javascript; charset=utf-8", body: LivePage.script))
        case "/page.css": return .now(response(200, "text/css; charset=utf-8", body: LivePage.style))
        case "/healthz": return .now(text(200, "ok"))
        case "/readyz":
            let obstacle = documents.obstacle()
            let lines = [obstacle ?? "ready"] + documents.failingParts()
            return .now(text(obstacle == nil ? 200 : 503, lines.joined(separator: "\n")))
        case "/live.json":
            return .later { response(200, "application/json", body: cache.document) }
        case "/metrics":
            let dialect = MetricsText.Dialect(accepting: request.accept)
            return .later { response(200, dialect.contentType, body: documents.metrics(dialect)) }
        default: return .now(text(404, "there is no such page"))
        }
    }

    /// The response to a request that is refused whatever its path; nil if the request is answered.
    static func refusal(of request: HTTPServer.Request, names: Set<String>?) -> HTTPServer.Response? {
        if let names, !names.contains(name(of: request.host ?? "")) {
            return text(421, "the header Host doesn't name this server")
        }
        guard request.method == "GET" || request.method == "HEAD" else {
            var response = text(405, "only GET and HEAD are answered")
            response.headers["Allow"] = "GET, HEAD"
            return response
        }
        return request.hasBody ? text(413, "requests with a body are not answered") : nil
    }

    /// The name in `Host`, without the port, in small letters.
    private static func name(of host: String) -> String {
        if host.hasPrefix("["), let end = host.firstIndex(of: "]") {
            return String(host[host.index(after: host.startIndex)..<end]).lowercased()
        }
        return (host.split(separator: ":", maxSplits: 1).first.map(String.init) ?? host).lowercased()
    }

    private static func text(_ status: Int, _ text: String) -> HTTPServer.Response {
        response(status, "text/plain; charset=utf-8", body: text + "\n")
    }

    private static func response(_ status: Int, _ type: String, body: String) -> HTTPServer.Response {
        response(status, type, body: Data(body.utf8))
    }

    private static func response(_ status: Int, _ type: String, body: Data) -> HTTPServer.Response {
        var headers = [
            "Content-Type": type, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy": LivePage.securityPolicy,
        ]
        // A client that asks for anything but a document gets no second request.
        if status != 200 && status != 503 { headers["Connection"] = "close" }
        return HTTPServer.Response(status: status, headers: headers, body: body)
    }
}

/// The live page's document, which is replaced once it is a second old.
private final class LiveCache: Sendable {
    private let make: @Sendable () -> Data
    private let last = Mutex<(made: ContinuousClock.Instant, document: Data)?>(nil)

    init(_ make: @escaping @Sendable () -> Data) { self.make = make }

    var document: Data {
        let now = ContinuousClock.now
        if let last = last.withLock({ $0 }), now - last.made < .seconds(1) { return last.document }
        let document = make()
        last.withLock { $0 = (now, document) }
        return document
    }
}
