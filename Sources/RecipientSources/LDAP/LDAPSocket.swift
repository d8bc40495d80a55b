import CLDAP
import Foundation
import Glibc
import Synchronization
import System

/// Connects to a server without libldap, so that each failure has a message of its own, and waiting ends when the sync
/// is stopped.
enum LDAPSocket {
    /// A connected socket; the caller closes it.
    static func connect(
        to uri: LDAPURI, timeout: Duration, check: () throws(SourceError) -> Void
    ) throws(LDAPError) -> Int32 {
        let isLocal = uri.scheme == .ldapi
        let addresses =
            isLocal
            ? [try address(ofSocket: uri.host)]
            : try HostResolver.addresses(of: uri.host, port: uri.port, timeout: timeout, check: check)
        var last: LDAPError?
        for address in addresses {
            do throws(LDAPError) {
                let descriptor = try make(address.family)
                do throws(LDAPError) {
                    try connect(
                        descriptor, to: address, subject: isLocal ? "the socket \(uri.host) can't be used: " : "",
                        timeout: timeout, check: check)
                    configure(descriptor)
                    return descriptor
                } catch {
                    close(descriptor)
                    throw error
                }
            } catch {
                if error.cancellation != nil { throw error }
                last = error
            }
        }
        throw last ?? failure("the name \(uri.host) has no address")
    }

    private static func address(ofSocket path: String) throws(LDAPError) -> HostResolver.Address {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { target in
            guard path.utf8.count < target.count else { return false }
            target.copyBytes(from: path.utf8)
            return true
        }
        guard fits else { throw failure("the socket \(path) can't be used: the path is too long") }
        return HostResolver.Address(family: AF_UNIX, bytes: withUnsafeBytes(of: address) { Array($0) })
    }

    /// - Parameter subject: the beginning of a message about the system's error.
    private static func connect(
        _ descriptor: Int32, to address: HostResolver.Address, subject: String, timeout: Duration,
        check: () throws(SourceError) -> Void
    ) throws(LDAPError) {
        let deadline = ContinuousClock.now + timeout
        while true {
            let status = address.bytes.withUnsafeBytes { bytes in
                bytes.withMemoryRebound(to: sockaddr.self) {
                    Glibc.connect(descriptor, $0.baseAddress, socklen_t(bytes.count))
                }
            }
            if status == 0 { return }
            if errno == EINPROGRESS { return try wait(descriptor, timeout: timeout, check: check) }
            // The queue of a unix socket's server is full, which can't be polled for.
            guard errno == EAGAIN, address.family == AF_UNIX else { throw failure(subject + systemMessage()) }
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard ContinuousClock.now < deadline else { throw failure("no answer within \(timeout.inSeconds)") }
            usleep(50_000)
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

    /// Sets timeouts for reading and writing: libldap doesn't apply its own timeout to the rest of a message that has
    /// begun, and a server may stop in the middle. Keep-alives detect a peer that has vanished.
    private static func configure(_ descriptor: Int32) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
        var reading = timeval(tv_sec: 0, tv_usec: 250_000)
        var writing = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &reading, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &writing, socklen_t(MemoryLayout<timeval>.size))
        set(SO_KEEPALIVE, level: SOL_SOCKET, of: descriptor, to: 1)
        set(TCP_KEEPIDLE, level: Int32(IPPROTO_TCP), of: descriptor, to: 60)
        set(TCP_KEEPINTVL, level: Int32(IPPROTO_TCP), of: descriptor, to: 15)
        set(TCP_KEEPCNT, level: Int32(IPPROTO_TCP), of: descriptor, to: 4)
        set(TCP_NODELAY, level: Int32(IPPROTO_TCP), of: descriptor, to: 1)
    }

    private static func set(_ option: Int32, level: Int32, of descriptor: Int32, to value: Int32) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    static func failure(_ text: String) -> LDAPError {
        LDAPError(.connect, code: LDAP_SERVER_DOWN, "can't be reached: \(text)")
    }
}

/// Does work with SIGPIPE blocked on this thread, and discards the signals of that time: libldap writes to sockets that
/// the server may have closed. The signal isn't ignored in general, as it ends a command whose output nobody reads.
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

/// The sockets of open connections. Any thread can end all waiting for them: a read in the middle of a TLS handshake, a
/// bind or a page then returns at once.
final class OpenSockets: Sendable {
    private let descriptors = Mutex<Set<Int32>>([])

    /// Adds a socket. The caller must ask afterwards whether to go on, as ``shutDown()`` may have been called just
    /// before.
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

/// Finds the addresses of hosts within a limited time. getaddrinfo(3) can't be interrupted, so it runs on a thread of
/// its own, which continues in the background after the timeout. A host has at most one such thread.
enum HostResolver {
    /// An address in the form of connect(2).
    struct Address: Sendable, Equatable {
        var family: Int32
        var bytes: [UInt8]
    }

    /// The addresses of a host, or why there are none.
    typealias Result = Swift.Result<[Address], Failure>
    /// Looks up a host, without a timeout.
    typealias LookUp = @Sendable (_ host: String, _ port: UInt16) -> Result

    struct Failure: Error {
        let reason: String
    }

    private final class Running: Sendable {
        let result = Mutex<Result?>(nil)
    }

    private static let running = Mutex<[String: Running]>([:])

    /// The addresses of a host.
    ///
    /// - Parameter check: called several times a second; throws to end the waiting.
    static func addresses(
        of host: String, port: UInt16, timeout: Duration, lookUp: @escaping LookUp = system,
        check: () throws(SourceError) -> Void
    ) throws(LDAPError) -> [Address] {
        if case .success(let list) = ask(host, port, flags: AI_NUMERICHOST) { return list }
        let query = start("\(host):\(port)") { lookUp(host, port) }
        let deadline = ContinuousClock.now + timeout
        while query.result.withLock({ $0 == nil }) {
            usleep(20_000)
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard ContinuousClock.now < deadline else {
                throw failure(host, "no answer within \(timeout.inSeconds)")
            }
        }
        switch query.result.withLock({ $0 }) {
        case .success(let list): return list
        case .failure(let error): throw failure(host, error.reason)
        case nil: throw failure(host, "no answer")
        }
    }

    /// Starts a lookup, or joins the one of the same name that is running.
    private static func start(_ name: String, _ work: @escaping @Sendable () -> Result) -> Running {
        running.withLock { running in
            if let known = running[name] { return known }
            let query = Running()
            running[name] = query
            NamedThread.start("resolver", stackSize: 512 << 10) {
                let result = work()
                query.result.withLock { $0 = result }
                Self.running.withLock { $0[name] = nil }
            }
            return query
        }
    }

    @Sendable private static func system(_ host: String, _ port: UInt16) -> Result { ask(host, port, flags: 0) }

    private static func ask(_ host: String, _ port: UInt16, flags: Int32) -> Result {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = flags
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, String(port), &hints, &list)
        guard status == 0 else {
            return .failure(
                Failure(reason: status == EAI_SYSTEM ? systemMessage() : String(cString: gai_strerror(status))))
        }
        defer { freeaddrinfo(list) }
        var found: [Address] = []
        var next = list
        while let entry = next?.pointee {
            let bytes = UnsafeRawBufferPointer(start: entry.ai_addr, count: Int(entry.ai_addrlen))
            found.append(Address(family: entry.ai_family, bytes: Array(bytes)))
            next = entry.ai_next
        }
        return .success(found)
    }

    private static func failure(_ host: String, _ reason: String) -> LDAPError {
        LDAPSocket.failure("the name \(host) can't be resolved: \(reason)")
    }
}
