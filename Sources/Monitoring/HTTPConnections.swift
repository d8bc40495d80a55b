import Glibc
import System

/// The open connections of an HTTP server, and which of them have to end.
///
/// A connection ends by shutdown(2): libmicrohttpd then finds its end and closes it.
struct HTTPConnections {
    private struct Connection {
        let socket: Int32
        /// The client's address; nil if the system doesn't tell.
        let address: IPAddress?
        /// When it was opened, or answered last.
        var since: ContinuousClock.Instant
        /// Whether it was shut down, and libmicrohttpd is about to close it.
        var isEnding = false
    }

    private let limits: HTTPServer.Limits
    /// Oldest first.
    private var list: [Connection] = []

    init(_ limits: HTTPServer.Limits) { self.limits = limits }

    /// Adds a connection. If there are too many now, in all or of its client, the oldest of them ends.
    mutating func add(_ socket: Int32, now: ContinuousClock.Instant) {
        let added = Connection(socket: socket, address: Self.clientAddress(socket), since: now)
        list.append(added)
        let open = list.indices.filter { !list[$0].isEnding }
        let ofClient = open.filter { list[$0].address == added.address }
        if ofClient.count > limits.connectionsOfAddress, let oldest = ofClient.first {
            end(oldest)
        } else if open.count > limits.connections, let oldest = open.first {
            end(oldest)
        }
    }

    /// Forgets a connection that is being closed.
    mutating func remove(_ socket: Int32) { list.removeAll { $0.socket == socket } }

    /// Gives a connection that was answered its whole time again.
    mutating func renew(_ socket: Int32, now: ContinuousClock.Instant) {
        guard let place = list.firstIndex(where: { $0.socket == socket }) else { return }
        list[place].since = now
    }

    /// Ends the connections that haven't been answered for too long.
    mutating func endOld(now: ContinuousClock.Instant) {
        for place in list.indices where !list[place].isEnding && now - list[place].since > limits.age { end(place) }
    }

    private mutating func end(_ place: Int) {
        shutdown(list[place].socket, Int32(SHUT_RDWR))
        list[place].isEnding = true
    }

    /// The address at the other end of a socket; getpeername(2).
    private static func clientAddress(_ socket: Int32) -> IPAddress? {
        var name = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getpeername(socket, $0, &size) == 0 ? IPAddress($0) : nil
            }
        }
    }
}
