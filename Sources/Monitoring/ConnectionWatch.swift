import Dispatch
import Foundation
import Glibc
import System

/// Ends the connections of a listening port that last too long, send too much, or are too many: FlyingFox, which serves them,
/// has no such limits, and none of them may cost the process its memory or its descriptors.
///
/// Looks at the process's own descriptors four times a second. A connection is shut down by a duplicate of its descriptor that
/// was seen to be of this address and port, so that a number that is used anew meanwhile is no danger, nor are the connections of MTAs at the same
/// port of another address.
final class ConnectionWatch: Sendable {
    /// The most that may be open, how long each may last, and how much it may send, in octets.
    struct Limits: Sendable {
        var connections = 64
        var age = Duration.seconds(15)
        var received: UInt64 = 16 << 10
    }

    private struct Connection {
        let identity: UInt64
        let descriptor: Int32
        let isOver: Bool
    }

    private let place: SocketName
    private let limits: Limits
    private let stopping = SteadySemaphore()
    private let ended = SteadySemaphore()

    /// A watch that starts with ``start()``.
    ///
    /// - Parameter place: where the socket that is watched listens.
    init(place: SocketName, limits: Limits = Limits()) {
        self.place = place
        self.limits = limits
    }

    func start() {
        NamedThread.start("http watch") { [self] in
            var firstSeen: [UInt64: ContinuousClock.Instant] = [:]
            while !stopping.wait(within: .milliseconds(250)) { look(&firstSeen) }
            ended.signal()
        }
    }

    func stop() {
        stopping.signal()
        ended.wait()
    }

    private func look(_ firstSeen: inout [UInt64: ContinuousClock.Instant]) {
        let now = ContinuousClock.now
        let connections = connections()
        defer { for connection in connections { close(connection.descriptor) } }
        let known = firstSeen
        firstSeen = [:]
        for connection in connections { firstSeen[connection.identity] = known[connection.identity] ?? now }
        // The oldest first: whoever comes new, an operator with a trouble perhaps, gets in.
        let byAge = connections.sorted {
            (firstSeen[$0.identity] ?? now, $0.identity) < (firstSeen[$1.identity] ?? now, $1.identity)
        }
        for (place, connection) in byAge.enumerated() {
            let isOld = now - (firstSeen[connection.identity] ?? now) > limits.age
            if isOld || connection.isOver || place < byAge.count - limits.connections {
                end(connection)
            }
        }
    }

    /// What has come and isn't read is thrown away: FlyingFox takes a time for a header line that grows with its square.
    private func end(_ connection: Connection) {
        shutdown(connection.descriptor, Int32(SHUT_RDWR))
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        for _ in 0..<1_000 {
            guard recv(connection.descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT)) > 0 else { return }
        }
    }

    /// The connections to the place, each by a descriptor that the caller closes.
    private func connections() -> [Connection] {
        guard let folder = opendir("/proc/self/fd") else { return [] }
        defer { closedir(folder) }
        var found: [Connection] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let number = Int32(name), isOfPlace(number) else { continue }
            let descriptor = fcntl(number, F_DUPFD_CLOEXEC, 0)
            guard descriptor >= 0 else { continue }
            // The number may have changed hands before it was duplicated.
            guard isOfPlace(descriptor), let connection = connection(descriptor) else {
                close(descriptor)
                continue
            }
            found.append(connection)
        }
        return found
    }

    private func connection(_ descriptor: Int32) -> Connection? {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return nil }
        // glibc's structure may end before tcpi_bytes_received, which the kernel gives all the same (linux/tcp.h).
        var info = [UInt8](repeating: 0, count: 256)
        var size = socklen_t(info.count)
        let offset = 128
        var received: UInt64 = 0
        if getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &info, &size) == 0, size >= offset + 8 {
            received = info.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
        }
        return Connection(
            identity: UInt64(status.st_ino), descriptor: descriptor, isOver: received > limits.received)
    }

    /// Whether the descriptor is a connection to the place, not the socket that listens there.
    private func isOfPlace(_ descriptor: Int32) -> Bool {
        var listens: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0, listens == 0 else {
            return false
        }
        var name = sockaddr_storage()
        size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutableBytes(of: &name) { bytes in
            guard let base = bytes.baseAddress,
                getsockname(descriptor, base.assumingMemoryBound(to: sockaddr.self), &size) == 0
            else { return false }
            return SocketName(UnsafeRawBufferPointer(bytes)).map { place.takes($0) } ?? false
        }
    }
}
