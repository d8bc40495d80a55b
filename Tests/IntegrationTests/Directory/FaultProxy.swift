import Foundation
import Glibc
import Synchronization
import System

/// A TCP proxy on the loopback that lets a test break the connections between a client and its server.
///
/// It passes all bytes until a test sets another behaviour, which any thread may do at any time. A behaviour applies to
/// existing and new connections until the next one is set. The proxy has one thread of its own, which ends with all
/// connections when the proxy is released.
final class FaultProxy: Sendable {
    /// A position in the bytes that the server sends.
    enum Point {
        /// So many bytes after the beginning of each connection.
        case ofConnection(Int)
        /// So many bytes after those that each connection has passed when the behaviour is set; for a later connection,
        /// after its beginning.
        case fromNow(Int)
    }

    /// An end of a connection.
    enum Side {
        case client, server
    }

    /// How the proxy treats connections.
    enum Behaviour {
        case pass
        /// A new connection is accepted and closed at once; existing ones stay open.
        case refuse
        /// Connections are accepted and stay open, but no bytes pass in either direction.
        case stall
        /// Bytes from the server pass up to this position; bytes from the client all pass.
        case stallAfter(Point)
        /// So many bytes from the server pass, then both ends are closed. The connection is cut after the last of these
        /// bytes, or, if their number is 0, at the first byte that the server sends.
        case cutAfter(Point)
        /// Both ends are closed as soon as these bytes come. The other side gets all bytes before them, and with
        /// `forwarding` these bytes, too; without it none of them, or their beginning if they come in pieces.
        case cutWhen(Side, sends: [UInt8], forwarding: Bool)
        /// The server's bytes pass at this rate, on each connection.
        case slow(bytesPerSecond: Int)
        /// The byte at this position is inverted.
        case corrupt(at: Point)
    }

    /// The bytes that have passed since the proxy was started.
    struct Counts: Equatable {
        /// Connections from clients, including refused ones.
        var connections = 0
        /// Connections that are still open.
        var open = 0
        var bytesFromClients = 0
        /// Bytes that were passed to clients.
        var bytesFromServer = 0
        /// How often a connection was refused, cut by a behaviour, corrupted, or held by `stallAfter`.
        var faults = 0
    }

    /// The port on 127.0.0.1 that the proxy listens on.
    let port: UInt16
    private let relay: ProxyRelay

    /// Listens, and starts its thread.
    ///
    /// - Parameters:
    ///   - port: the server's port; the server needn't run yet.
    ///   - host: the server's IPv4 address.
    init(to port: UInt16, host: String = "127.0.0.1") throws {
        relay = try ProxyRelay(host: host, port: port)
        self.port = relay.port
        let relay = relay
        NamedThread.start("proxy") { relay.run() }
    }

    deinit { relay.stop() }

    var counts: Counts { relay.state.withLock { $0.counts } }

    /// Sets the behaviour from now on.
    ///
    /// - Parameter once: whether all passes again after the first connection that was refused, cut or corrupted.
    func set(_ behaviour: Behaviour, once: Bool = false) {
        relay.tell {
            $0.behaviour = behaviour
            $0.once = once
            $0.generation += 1
        }
    }

    /// Cuts a connection when the server sends a text, such as the DN of an entry.
    func cutWhen(serverSends text: String, forwarding: Bool = false, once: Bool = false) {
        set(.cutWhen(.server, sends: Array(text.utf8), forwarding: forwarding), once: once)
    }

    /// Closes all open connections.
    func cutAll() { relay.tell { $0.cutsAll = true } }

    /// Whether connections are cut with a reset instead of an orderly end.
    func resets(_ yes: Bool) { relay.tell { $0.resets = yes } }

    /// Waits until so many faults have happened since the proxy began.
    func hasFaults(_ count: Int = 1, within seconds: Double = 30) -> Bool {
        eventually(within: seconds) { counts.faults >= count }
    }
}
