import CMilter
import Glibc
import Synchronization
import System

/// The socket that MTAs connect to.
final class MilterListener: Sendable {
    /// The result of accepting a connection.
    enum Arrival {
        /// A connection was accepted; its descriptor.
        case connection(Int32)
        /// No MTA waits.
        case none
        /// There was no descriptor left, and the connection was closed at once: the MTA would wait long otherwise.
        case dropped
        /// There was no descriptor left, and none could be freed; the call has paused.
        case shortage
    }

    /// Whether MTAs connect over TCP.
    let isTCP: Bool
    private let socket: MilterSocket
    private let descriptor: Int32
    /// The unix socket that the server created, until it is removed.
    private let file: Mutex<SocketFile?>
    private let isStopped = Atomic<Bool>(false)
    /// A spare descriptor, closed when the process has none left, so that a connection can be accepted and closed; -1
    /// if there is none.
    private let spare: Mutex<Int32>

    /// Creates the socket of a configuration and listens there. A unix socket that no process listens at is replaced.
    init(_ configuration: MilterConfiguration) throws(MilterError) {
        socket = configuration.socket
        let maker = SocketMaker(
            socket: socket, mode: configuration.socketMode.map { $0 & 0o777 },
            backlog: configuration.backlog ?? Int32(SOMAXCONN))
        let file: SocketFile?
        (descriptor, file) = try maker.make()
        self.file = Mutex(file)
        if case .tcp = configuration.socket.location { isTCP = true } else { isTCP = false }
        spare = Mutex(Self.openSpare())
    }

    deinit {
        close(descriptor)
        spare.withLock { if $0 >= 0 { close($0) } }
    }

    /// Waits for a connection, but not longer than this; whether one has come.
    func waitForConnection(milliseconds: Int32) -> Bool {
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, milliseconds) > 0
    }

    /// Accepts the next connection, without blocking.
    ///
    /// - Throws: if the socket itself has become unusable, and no connection will ever come.
    func accept() throws(MilterError) -> Arrival {
        let taken = cmilter_accept(descriptor)
        if taken >= 0 {
            if isTCP { setOption(SO_KEEPALIVE, of: taken) }
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
            throw MilterError(.unusable, "socket \(socket): the filter can't accept connections any more: \(reason)")
        default:
            // Mostly an error of a connection that was gone before it was accepted; accept(2).
            return .none
        }
    }

    /// Accepts a connection by means of the spare descriptor and closes it: the MTA then does what it is configured to
    /// do without a filter.
    private func dropOne() -> Arrival {
        spare.withLock { spare in
            guard spare >= 0 else {
                spare = Self.openSpare()
                // Not to spin while there is no descriptor.
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

    /// Stops listening, refuses the connections that wait, and removes the unix socket unless another process has
    /// replaced it.
    func stop() {
        isStopped.store(true, ordering: .releasing)
        file.withLock { file in
            if let made = file, FileStamp(path: made.path, followsLinks: false)?.isSameFile(as: made.stamp) == true {
                unlink(made.path)
            }
            file = nil
        }
        shutdown(descriptor, Int32(SHUT_RDWR))
    }
}

/// A unix socket in the file system, as the server has created it.
private typealias SocketFile = (path: String, stamp: FileStamp)

/// Sets an option of a socket to 1; `setsockopt(2)`.
func setOption(_ option: Int32, level: Int32 = SOL_SOCKET, of descriptor: Int32) {
    var yes: Int32 = 1
    setsockopt(descriptor, level, option, &yes, socklen_t(MemoryLayout<Int32>.size))
}

/// Creates the socket that a filter listens at; its errors name the socket and the reason.
private struct SocketMaker {
    let socket: MilterSocket
    let mode: UInt32?
    let backlog: Int32

    /// A listening, non-blocking socket, which the caller closes, and its file if it is a unix socket.
    func make() throws(MilterError) -> (Int32, SocketFile?) {
        switch socket.location {
        case .unix(let path): try makeFile(path)
        case .tcp(let family, let host, let port): (try makePort(family, host, port), nil)
        }
    }

    private func fault(_ kind: MilterError.Kind, _ reason: String) -> MilterError {
        MilterError(kind, "socket \(socket): \(reason)")
    }

    // MARK: unix

    private func makeFile(_ path: String) throws(MilterError) -> (Int32, SocketFile?) {
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFSOCK else {
                throw fault(
                    .unusable, "the path names a file that is not a socket; remove the file, or name another path")
            }
            try removeStale(path)
        }
        let descriptor = try makeSocket(AF_UNIX)
        // The file has these permissions from its creation on, less the umask. Nobody can connect before the socket
        // listens.
        if let mode { _ = fchmod(descriptor, mode) }
        let code = withUnixAddress(path) { bind(descriptor, $0, $1) == 0 ? 0 : errno }
        if code != 0 { close(descriptor) }
        switch code {
        case 0: break
        case ENOENT, ENOTDIR: throw fault(.unusable, "the folder of the path doesn't exist")
        case EACCES, EPERM: throw fault(.notPermitted, "no permission to create a socket in its folder")
        case EADDRINUSE: throw fault(.inUse, "another process has just created it")
        default: throw fault(.unusable, systemMessage(code))
        }
        let file = FileStamp(path: path, followsLinks: false).map { (path, $0) }
        if let mode, chmod(path, mode) != 0 {
            let reason = systemMessage()
            close(descriptor)
            throw fault(.notPermitted, "the permissions can't be set: \(reason)")
        }
        try listen(descriptor)
        return (descriptor, file)
    }

    /// Removes a socket that no process listens at any more.
    private func removeStale(_ path: String) throws(MilterError) {
        let descriptor = try makeSocket(AF_UNIX)
        defer { close(descriptor) }
        switch withUnixAddress(path, { connect(descriptor, $0, $1) == 0 ? 0 : errno }) {
        case 0, EAGAIN, EINPROGRESS: throw fault(.inUse, "another process already listens there")
        case ECONNREFUSED: break
        case ENOENT: return
        case EACCES, EPERM:
            throw fault(.notPermitted, "no permission to test the existing socket, so it can't be replaced")
        case EPROTOTYPE: throw fault(.inUse, "the existing socket is not a stream socket")
        case let code: throw fault(.unusable, "the existing socket can't be tested: \(systemMessage(code))")
        }
        if unlink(path) != 0 && errno != ENOENT {
            throw fault(.notPermitted, "a stale socket can't be removed: \(systemMessage())")
        }
    }

    private func withUnixAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let isCopied = withUnsafeMutableBytes(of: &address.sun_path) { target in
            guard path.utf8.count < target.count else { return false }
            target.copyBytes(from: path.utf8)
            return true
        }
        guard isCopied else { return ENAMETOOLONG }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    // MARK: TCP

    private func makePort(_ family: MilterSocket.Family, _ host: String?, _ port: UInt16) throws(MilterError) -> Int32 {
        var hints = addrinfo()
        hints.ai_family = family == .ipv4 ? AF_INET : AF_INET6
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var found: UnsafeMutablePointer<addrinfo>?
        let resolution = getaddrinfo(host, String(port), &hints, &found)
        defer { if let found { freeaddrinfo(found) } }
        guard resolution == 0, let found, let address = found.pointee.ai_addr else {
            let reason = resolution == 0 ? "it has no address" : String(cString: gai_strerror(resolution))
            throw fault(
                .unusable, "the host \"\(host ?? "")\" has no \(family == .ipv4 ? "IPv4" : "IPv6") address: \(reason)")
        }
        let descriptor = try makeSocket(hints.ai_family)
        setOption(SO_REUSEADDR, of: descriptor)
        guard bind(descriptor, address, found.pointee.ai_addrlen) == 0 else {
            let code = errno
            close(descriptor)
            throw fault(ofPort: code, family, host, port)
        }
        try listen(descriptor)
        return descriptor
    }

    private func fault(
        ofPort code: Int32, _ family: MilterSocket.Family, _ host: String?, _ port: UInt16
    ) -> MilterError {
        switch code {
        case EADDRINUSE: fault(.inUse, "another process already listens at the port")
        case EACCES, EPERM: fault(.notPermitted, "no permission to listen at port \(port)")
        case EADDRNOTAVAIL: fault(.unusable, "\(host ?? "") is not an address of this machine")
        case EAFNOSUPPORT: fault(.unusable, "this machine has no \(family == .ipv4 ? "IPv4" : "IPv6")")
        default: fault(.unusable, systemMessage(code))
        }
    }

    // MARK: both

    private func makeSocket(_ family: Int32) throws(MilterError) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = Glibc.socket(family, kind, 0)
        guard descriptor >= 0 else {
            throw fault(
                .unusable,
                errno == EAFNOSUPPORT
                    ? (family == AF_INET6
                        ? "this machine has no IPv6"
                        : family == AF_INET ? "this machine has no IPv4" : "the kernel doesn't support unix sockets")
                    : systemMessage())
        }
        return descriptor
    }

    /// Starts listening. If that fails, for example because another process has bound the port too, closes the
    /// descriptor.
    private func listen(_ descriptor: Int32) throws(MilterError) {
        guard Glibc.listen(descriptor, backlog) == 0 else {
            let code = errno
            close(descriptor)
            throw fault(
                code == EADDRINUSE ? .inUse : .unusable,
                code == EADDRINUSE ? "another process already listens at the port" : systemMessage(code))
        }
    }
}
