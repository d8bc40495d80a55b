/// A running filter in C that decides nothing and rejects every recipient.
struct NoopFilter {
    let child: Child
    let port: UInt16

    /// - Parameters:
    ///   - socket: the path of a unix socket; nil for a TCP port.
    ///   - processors: the processors for it, in the form of taskset(1); nil for all.
    init(_ plan: Plan, socket: String? = nil, processors: String? = nil) throws {
        let port = try Ports.unused()
        let address = socket.map { "unix:\($0)" } ?? "inet:\(port)@127.0.0.1"
        let words =
            (processors.map { ["/usr/bin/taskset", "-c", $0] } ?? []) + [
                plan.noopFilter, address, "550 5.1.1 Recipient address rejected: User unknown",
            ]
        let child = try Child(words[0], Array(words.dropFirst()), isDaemon: true)
        func listens() -> Bool { socket.map(Ports.exists) ?? Ports.answers(port) }
        guard eventually(within: 10, { listens() || !child.isRunning }), child.isRunning else {
            throw Failure("the no-op filter doesn't listen")
        }
        (self.child, self.port) = (child, port)
    }
}

/// A running filter that judges as Postern and keeps no log.
struct UnloggedFilter {
    let child: Child
    let port: UInt16

    /// - Parameter index: the snapshot for example.com.
    init(_ plan: Plan, index: String) throws {
        let port = try Ports.unused()
        let child = try Child(plan.unloggedFilter, ["inet:\(port)@127.0.0.1", index], isDaemon: true)
        guard eventually(within: 10, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw Failure("the filter without a log doesn't listen")
        }
        (self.child, self.port) = (child, port)
    }
}
