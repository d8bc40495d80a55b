import CMilter
import Glibc
import Synchronization
import System

/// The socket at which MTAs connect, made by the server itself, so that each way to fail has its own words.
final class MilterListener: Sendable {
    /// What came of taking a connection.
    enum Arrival {
        /// One was taken.
        case connection(Int32)
        /// Nobody waits.
        case none
        /// There was no descriptor for one, which was therefore closed at once: an MTA that were left waiting would wait long.
        case dropped
        /// There is no descriptor, and none could be freed; a pause has been made.
        case shortage
    }

    /// Whether MTAs connect over TCP.
    let isTCP: Bool
    private let socket: MilterSocket
    private let descriptor: Int32
    /// The unix socket that was made, as long as it is there.
    private let file: Mutex<SocketFile?>
    private let isStopped = Atomic<Bool>(false)
    /// A descriptor to give up when the process has none left, so that a connection can be taken and closed; -1 for none.
    private let spare: Mutex<Int32>

    /// Makes the socket of a configuration and listens there; a unix socket that nobody answers at is replaced.
    init(_ configuration: MilterConfiguration) throws(MilterError) {
        socket = configuration.socket
        let maker = SocketMaker(configuration.socket, mode: configuration.socketMode, backlog: configuration.backlog)
        let made = try maker.make()
        descriptor = made.0
        file = Mutex(made.1)
        if case .tcp = configuration.socket.location { isTCP = true } else { isTCP = false }
        spare = Mutex(Self.openSpare())
    }

    deinit {
        close(descriptor)
        spare.withLock { if $0 >= 0 { close($0) } }
    }

    /// Returns when a connection waits, or after the time.
    func waitForConnection(milliseconds: Int32) -> Bool {
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, milliseconds) > 0
    }

    /// Takes the next connection, not blocking.
    ///
    /// - Throws: where the socket itself is unusable, after which no connection will ever come.
    func accept() throws(MilterError) -> Arrival {
        let taken = cmilter_accept(descriptor)
        if taken >= 0 {
            var yes: Int32 = 1
            if isTCP { setsockopt(taken, SOL_SOCKET, SO_KEEPALIVE, &yes, socklen_t(MemoryLayout<Int32>.size)) }
            return .connection(taken)
        }
        switch errno {
        case EMFILE, ENFILE: return dropOne()
        case ENOBUFS, ENOMEM:
            usleep(100_000)
            return .shortage
        case EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP, EFAULT:
            let reason = systemMessage()
            if isStopped.load(ordering: .acquiring) { return .none }
            throw MilterError(.unusable, "socket \(socket): no connection can be taken any more: \(reason)")
        default:
            // Mostly of a connection that was gone before it was taken (accept(2)).
            return .none
        }
    }

    /// Takes a connection by way of the spare descriptor and closes it, so that its MTA does by default as it is configured.
    private func dropOne() -> Arrival {
        spare.withLock { spare in
            guard spare >= 0 else {
                spare = Self.openSpare()
                // What has no descriptor mustn't spin.
                if spare < 0 { usleep(100_000) }
                return .shortage
            }
            close(spare)
            let taken = cmilter_accept(descriptor)
            if taken >= 0 { close(taken) }
            spare = Self.openSpare()
            usleep(1_000)
            return taken >= 0 ? .dropped : .shortage
        }
    }

    private static func openSpare() -> Int32 {
        Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    }

    /// Takes no connections any more, refuses those that wait, and removes the unix socket, if it is still the one that was made.
    func stop() {
        isStopped.store(true, ordering: .releasing)
        file.withLock { file in
            if let made = file, let now = SocketFile(path: made.path), now.device == made.device,
                now.inode == made.inode
            {
                unlink(made.path)
            }
            file = nil
        }
        shutdown(descriptor, Int32(SHUT_RDWR))
    }
}

/// A unix socket as it was made: another one that takes its place later has another inode.
struct SocketFile: Sendable {
    let path: String
    let device: dev_t
    let inode: ino_t

    /// The file at the path; nil when there is none.
    init?(path: String) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        self.path = path
        device = status.st_dev
        inode = status.st_ino
    }
}
