import CLDAP
import Glibc
import Synchronization
import System

/// Connects to a server without libldap, so that each failure has a message of its own, and waiting ends when the sync is stopped.
enum LDAPSocket {
    /// A connected socket; the caller closes it.
    static func connect(
        to uri: LDAPURI, timeout: Duration, check: () throws(SourceError) -> Void
    ) throws(LDAPError) -> Int32 {
        if uri.scheme == .ldapi { return try connect(path: uri.host, timeout: timeout, check: check) }
        let addresses = try HostResolver.addresses(of: uri.host, port: uri.port, timeout: timeout, check: check)
        var last: LDAPError?
        for address in addresses {
            do throws(LDAPError) {
                return try connect(address, timeout: timeout, check: check)
            } catch {
                if error.cancellation != nil { throw error }
                last = error
            }
        }
        throw last ?? failure("the name \(uri.host) has no address")
    }

    private static func connect(
        _ address: HostResolver.Address, timeout: Duration, check: () throws(SourceError) -> Void
    ) throws(LDAPError) -> Int32 {
        let descriptor = try make(address.family)
        do throws(LDAPError) {
            let status = address.bytes.withUnsafeBytes { bytes in
                bytes.withMemoryRebound(to: sockaddr.self) {
                    Glibc.connect(descriptor, $0.baseAddress, socklen_t(bytes.count))
                }
            }
            if status != 0 {
                guard errno == EINPROGRESS else { throw failure(systemMessage()) }
                try wait(descriptor, timeout: timeout, check: check)
            }
            configure(descriptor)
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// A socket that doesn't block.
    private static func make(_ family: Int32) throws(LDAPError) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family, kind, 0)
        guard descriptor >= 0 else { throw failure(systemMessage()) }
        return descriptor
    }

    private static func wait(
        _ descriptor: Int32, timeout: Duration, check: () throws(SourceError) -> Void
    ) throws(LDAPError) {
        let deadline = ContinuousClock.now + timeout
        while true {
            var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            let ready = poll(&entry, 1, 200)
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            if ready > 0 { break }
            guard ContinuousClock.now < deadline else { throw failure("no answer within \(timeout.inSeconds)") }
        }
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
        guard code == 0 else { throw failure(systemMessage(code)) }
    }

    private static func connect(
        path: String, timeout: Duration, check: () throws(SourceError) -> Void
    ) throws(LDAPError) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { target in
            guard path.utf8.count < target.count else { return false }
            target.copyBytes(from: path.utf8)
            return true
        }
        guard fits else { throw failure("the socket \(path) can't be used: the path is too long") }
        let descriptor = try make(AF_UNIX)
        do throws(LDAPError) {
            let deadline = ContinuousClock.now + timeout
            while true {
                let status = withUnsafePointer(to: &address) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                    }
                }
                if status == 0 { break }
                // The server's queue is full. A unix socket can't be polled for that.
                guard errno == EAGAIN else {
                    throw failure("the socket \(path) can't be used: \(systemMessage())")
                }
                do throws(SourceError) { try check() } catch { throw .cancelled(error) }
                guard ContinuousClock.now < deadline else { throw failure("no answer within \(timeout.inSeconds)") }
                usleep(50_000)
            }
            configure(descriptor)
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// Sets timeouts for reading and writing: libldap doesn't apply its own timeout to the rest of a message that has begun, and a server may
    /// stop in the middle. Keep-alives detect a peer that has vanished.
    private static func configure(_ descriptor: Int32) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
        var reading = timeval(tv_sec: 0, tv_usec: 250_000)
        var writing = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &reading, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &writing, socklen_t(MemoryLayout<timeval>.size))
        set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, 60)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL, 15)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT, 4)
        set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    static func failure(_ text: String) -> LDAPError {
        LDAPError(.connect, LDAP_SERVER_DOWN, "can't be reached: \(text)")
    }
}

/// Does work with SIGPIPE blocked on this thread, and discards the signals of that time: libldap writes to sockets that the server may have
/// closed. The signal isn't ignored in general, as it ends a command whose reader has gone.
func withoutBrokenPipeSignal<Value, Failure: Error>(_ work: () throws(Failure) -> Value) throws(Failure) -> Value {
    var signals = sigset_t()
    var before = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGPIPE)
    pthread_sigmask(SIG_BLOCK, &signals, &before)
    defer {
        if sigismember(&before, SIGPIPE) == 0 {
            var none = timespec()
            while sigtimedwait(&signals, nil, &none) > 0 {}
            pthread_sigmask(SIG_SETMASK, &before, nil)
        }
    }
    return try work()
}

/// The sockets of open connections. Any thread can end all waiting for them: a read in the middle of a TLS handshake, a bind or a page then
/// returns at once.
final class OpenSockets: Sendable {
    private let descriptors = Mutex<Set<Int32>>([])

    /// Adds a socket. The caller must ask afterwards whether to go on, as ``shutDown()`` may have been called just before.
    func add(_ descriptor: Int32) { descriptors.withLock { _ = $0.insert(descriptor) } }

    /// Removes a socket, which must be done before it is closed: the number may then stand for another file.
    func remove(_ descriptor: Int32) { descriptors.withLock { _ = $0.remove(descriptor) } }

    /// Shuts all sockets down for reading and writing, `shutdown(2)`; they stay open.
    func shutDown() {
        descriptors.withLock { descriptors in
            for descriptor in descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
    }
}
