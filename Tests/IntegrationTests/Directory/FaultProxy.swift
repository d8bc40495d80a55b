import Foundation
import Glibc
import Synchronization
import System

/// A TCP proxy on the loopback that lets a test break the connections between a client and its server.
///
/// It passes all on until it is told otherwise, from any thread and at any time. What it is told holds for the
/// connections that there are and for all new ones, until it is told something else. It works in one thread of its own,
/// which ends, with all connections, when the proxy goes.
final class FaultProxy: Sendable {
    /// A position in the bytes that the server sends.
    enum Point {
        /// So many bytes after the beginning of each connection.
        case ofConnection(Int)
        /// So many bytes after what each connection has passed on when the proxy is told; for a later connection, after
        /// its beginning.
        case fromNow(Int)
    }

    /// An end of a connection.
    enum Side {
        case client, server
    }

    /// How the proxy treats connections.
    enum Behaviour {
        case pass
        /// A new connection is accepted and closed at once; those that there are go on.
        case refuse
        /// Connections are accepted and stay open, and nothing goes through, in neither direction.
        case stall
        /// Bytes from the server pass up to this position; bytes from the client all pass.
        case stallAfter(Point)
        /// So much goes through from the server, then both ends are closed. The connection is cut with the last of
        /// these bytes, or, where there are none, with the first that the server sends.
        case cutAfter(Point)
        /// Both ends are closed as soon as these bytes pass. The other side gets all that came before them, and them
        /// too if `forwarding`; else none of them, or their beginning where they came in pieces.
        case cutWhen(Side, sends: [UInt8], forwarding: Bool)
        /// No more goes through from the server, for each connection.
        case slow(bytesPerSecond: Int)
        /// The byte at that place is inverted.
        case corrupt(at: Point)
    }

    /// The bytes that have passed since the proxy was started.
    struct Counts: Equatable {
        /// Accepted from clients, including those that were refused.
        var connections = 0
        /// Of these, still open.
        var open = 0
        var bytesFromClients = 0
        /// Passed on to clients.
        var bytesFromServer = 0
        /// How often a connection was refused, cut by a behaviour, corrupted or had come to where `stallAfter` holds
        /// it.
        var faults = 0
    }

    /// Where it listens, on 127.0.0.1.
    let port: UInt16
    private let relay: ProxyRelay

    /// Listens, and starts its thread.
    ///
    /// - Parameters:
    ///   - port: of the server, which need not be there yet.
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

    /// Closes all connections that there are now.
    func cutAll() { relay.tell { $0.cutsAll = true } }

    /// Whether cutting is done with a reset in place of an orderly end.
    func resets(_ yes: Bool) { relay.tell { $0.resets = yes } }

    /// Waits until so many faults have happened since the proxy began.
    func hasFaults(_ count: Int = 1, within seconds: Double = 30) -> Bool {
        eventually(within: seconds) { counts.faults >= count }
    }
}
