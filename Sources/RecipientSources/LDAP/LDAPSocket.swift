import CLDAP
import Glibc
import System

/// Opens the connection to a server by itself rather than through libldap, so that each way to fail has its own words, and waiting
/// ends when the sync is given up.
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
            guard ContinuousClock.now < deadline else { throw failure("no answer within \(timeout.text)") }
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
                // A server that takes no connections has its queue full, and there is nothing to poll for.
                guard errno == EAGAIN else {
                    throw failure("the socket \(path) can't be used: \(systemMessage())")
                }
                do throws(SourceError) { try check() } catch { throw .cancelled(error) }
                guard ContinuousClock.now < deadline else { throw failure("no answer within \(timeout.text)") }
                usleep(50_000)
            }
            configure(descriptor)
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// Makes reading and writing give up by itself: libldap reads the rest of a message that has begun without looking at its own
    /// time-out, and a server may stop in the middle of one. A peer that has gone without a word is found out by keep-alives.
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

extension Duration {
    /// In whole seconds, in words.
    package var text: String {
        let seconds = components.seconds
        return seconds == 1 ? "1 second" : "\(seconds) seconds"
    }
}

/// Runs work with SIGPIPE held back from this thread, and takes the one that came of it: libldap writes to sockets whose other end
/// may have gone, and a program that writes its result to a pipe wants to keep the signal.
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
