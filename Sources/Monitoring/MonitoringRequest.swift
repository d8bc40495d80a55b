/// A request as far as it counts here: which document is asked for, or why none is given.
struct MonitoringRequest {
    /// What there is to be had.
    enum Document: String, CaseIterable, Sendable {
        case page = "/"
        case script = "/page.js"
        case style = "/page.css"
        case live = "/live.json"
        case metrics = "/metrics"
        case health = "/healthz"
        case readiness = "/readyz"
    }

    /// Why a request gets no document: a status and a line.
    struct Refusal: Error, Equatable {
        let status: Int
        let line: String
    }

    let document: Document
    let isHead: Bool

    /// Checks a request.
    ///
    /// - Parameters:
    ///   - host: the header `Host`.
    ///   - hosts: the names by which the server may be asked, in small letters; nil: any. A page of somebody else's whose name
    ///     was made to lead to this machine has its own name in there (DNS rebinding), and must not read this one.
    init(method: String, path: String, host: String?, hosts: Set<String>?) throws(Refusal) {
        if let hosts {
            guard let host, hosts.contains(Self.name(of: host)) else {
                throw Refusal(status: 421, line: "this server isn't known by that name")
            }
        }
        guard method == "GET" || method == "HEAD" else {
            throw Refusal(status: 405, line: "GET and HEAD are all there is")
        }
        guard let document = Document(rawValue: path) else { throw Refusal(status: 404, line: "there is no such page") }
        self.document = document
        isHead = method == "HEAD"
    }

    /// The name in `Host`, without the port, in small letters.
    private static func name(of host: String) -> String {
        if host.hasPrefix("["), let end = host.firstIndex(of: "]") {
            return String(host[host.index(after: host.startIndex)..<end]).lowercased()
        }
        return (host.split(separator: ":", maxSplits: 1).first.map(String.init) ?? host).lowercased()
    }
}
