import Glibc
import System

/// Finds out whether a socket can be opened, and why not: libmilter says so to syslog alone.
struct SocketProbe {
    private let socket: MilterSocket

    init(_ socket: MilterSocket) { self.socket = socket }

    /// The socket in libmilter's syntax, any host name resolved; a stale unix socket is gone afterwards.
    func check() throws(MilterError) -> String {
        switch socket.location {
        case .unix(let path): try checkPath(path)
        case .tcp(let family, let host, let port): try checkPort(family, host, port)
        }
    }

    private func fault(_ kind: MilterError.Kind, _ reason: String) -> MilterError {
        MilterError(kind, "socket \(socket): \(reason)")
    }

    // MARK: unix

    private func checkPath(_ path: String) throws(MilterError) -> String {
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFSOCK else {
                throw fault(.unusable, "there is a file that is no socket; it stays as it is")
            }
            try removeStale(path)
        }
        let code = withUnixAddress(path) { address, length in
            Self.tryBinding(AF_UNIX, address, length)
        }
        switch code {
        case 0: unlink(path)
        case ENOENT, ENOTDIR: throw fault(.unusable, "the folder of the path doesn't exist")
        case EACCES, EPERM: throw fault(.notPermitted, "no permission to make a socket in its folder")
        case EADDRINUSE: throw fault(.inUse, "another process has just made it")
        default: throw fault(.unusable, systemMessage(code))
        }
        return "unix:\(path)"
    }

    /// Removes a socket that nobody listens at any more.
    private func removeStale(_ path: String) throws(MilterError) {
        let code = withUnixAddress(path) { address, length -> Int32 in
            let descriptor = Self.makeSocket(AF_UNIX)
            guard descriptor >= 0 else { return errno }
            defer { close(descriptor) }
            return connect(descriptor, address, length) == 0 ? 0 : errno
        }
        switch code {
        case 0, EAGAIN, EINPROGRESS: throw fault(.inUse, "another process answers there already")
        case ECONNREFUSED: break
        case ENOENT: return
        case EACCES, EPERM: throw fault(.notPermitted, "no permission for the socket that is there")
        case EPROTOTYPE: throw fault(.inUse, "a socket of another kind is there")
        default: throw fault(.unusable, "the socket that is there: \(systemMessage(code))")
        }
        if unlink(path) != 0 && errno != ENOENT {
            let reason = systemMessage(errno)
            throw fault(.notPermitted, "a stale socket is there and can't be removed: \(reason)")
        }
    }

    private func withUnixAddress(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
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

    private func checkPort(
        _ family: MilterSocket.Family, _ host: String?, _ port: UInt16
    ) throws(MilterError) -> String {
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
        switch Self.tryBinding(hints.ai_family, address, found.pointee.ai_addrlen) {
        case 0: break
        case EADDRINUSE: throw fault(.inUse, "another process listens at the port already")
        case EACCES, EPERM: throw fault(.notPermitted, "no permission for port \(port)")
        case EADDRNOTAVAIL: throw fault(.unusable, "the address \(host ?? "") is none of this machine's")
        case EAFNOSUPPORT: throw fault(.unusable, "this machine has no \(family == .ipv4 ? "IPv4" : "IPv6")")
        case let code: throw fault(.unusable, systemMessage(code))
        }
        let prefix = family == .ipv4 ? "inet" : "inet6"
        guard host != nil else { return "\(prefix):\(port)" }
        // As a number, so that libmilter can't come to another address than the one that was tried.
        guard let numeric = Self.numericHost(address, found.pointee.ai_addrlen) else {
            throw fault(.unusable, "its address can't be written as a number")
        }
        return "\(prefix):\(port)@[\(numeric)]"
    }

    private static func numericHost(_ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { buffer in
            guard let start = buffer.baseAddress,
                getnameinfo(address, length, start, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST) == 0
            else { return nil }
            return String(cString: start)
        }
    }

    // MARK: both

    private static func makeSocket(_ family: Int32) -> Int32 {
        Glibc.socket(
            family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
    }

    /// Binds and listens as libmilter will; 0, or the `errno` of what failed.
    private static func tryBinding(_ family: Int32, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> Int32 {
        let descriptor = makeSocket(family)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        var yes: Int32 = 1
        if family != AF_UNIX {
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        }
        guard bind(descriptor, address, length) == 0 else { return errno }
        // A TCP port is only known to be free once it could be listened at; a unix socket must answer nobody yet.
        guard family == AF_UNIX || listen(descriptor, 1) == 0 else { return errno }
        return 0
    }
}
