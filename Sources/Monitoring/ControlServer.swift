import Foundation
import Glibc
import Synchronization
import System

/// The filter's end of the ``ControlSocket``: answers `postern status` and `postern reload` on a thread named `control`.
///
/// If the socket beside the log can't be made, the thread tries again every few seconds.
package final class ControlServer: Sendable {
    /// Another filter writes the same log.
    package struct InUse: Error, CustomStringConvertible {
        /// One sentence.
        package let description: String
    }

    /// Begins a reload and returns at once; calls `ended` with the result, on any thread.
    package typealias Reload =
        @Sendable (
            _ acceptsOlderIndex: Bool, _ ended: @escaping @Sendable (ControlSocket.ReloadResult) -> Void
        ) -> Void

    /// The seconds between two attempts to make the socket, and between two ticks.
    private static let interval = 10

    private struct Sockets {
        /// The descriptor of the socket beside the log; negative if it couldn't be made.
        var file: Int32 = -1
        /// The descriptor of the abstract socket.
        var abstract: Int32 = -1
    }

    private let database: String
    private let health: ServiceHealth
    private let sockets = Mutex(Sockets())
    private let thread = Mutex<NamedThread?>(nil)
    private let isStopping = Atomic<Bool>(false)

    /// Makes the sockets as far as possible; clients wait until ``start(status:reload:tick:)``.
    ///
    /// - Throws: if another filter answers at the socket, since two filters can't write one log.
    package init(database: String, _ health: ServiceHealth) throws(InUse) {
        self.database = database
        self.health = health
        let failure = try openFile()
        let abstract = Self.listener { bind in ControlSocket.withAbstractAddress(database: database, bind) }
        sockets.withLock { $0.abstract = abstract }
        report(failure)
    }

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - status: the state of the filter. Called on the thread; must not wait.
    ///   - tick: called on the thread every few seconds.
    package func start(
        status: @escaping @Sendable () -> FilterStatus, reload: @escaping Reload, tick: @escaping @Sendable () -> Void
    ) {
        thread.withLock { thread in
            thread = NamedThread.start("control") { [self] in
                var next = ContinuousClock.now + .seconds(Self.interval)
                while !isStopping.load(ordering: .acquiring) {
                    serve(status, reload)
                    guard ContinuousClock.now >= next else { continue }
                    next = .now + .seconds(Self.interval)
                    report(retry())
                    tick()
                }
            }
        }
    }

    /// Removes the socket beside the log; the thread ends within a second.
    package func stop() {
        isStopping.store(true, ordering: .releasing)
        sockets.withLock { sockets in
            if sockets.file >= 0 { unlink(ControlSocket.path(database: database)) }
        }
    }

    // MARK: Sockets

    private func retry() -> String? {
        guard sockets.withLock({ $0.file < 0 }) else { return nil }
        do throws(InUse) { return try openFile() } catch { return error.description }
    }

    private func report(_ failure: String?) {
        health.report(
            .control,
            failure.map {
                PartFailure(
                    reason: $0,
                    advice:
                        "make \(folder(of: database)) writable for the filter; until then reload with kill -USR1 \(getpid())",
                    nextTry: Date() + TimeInterval(Self.interval))
            })
    }

    /// Makes the socket beside the log.
    ///
    /// - Returns: why that isn't possible; nil if it is made.
    private func openFile() throws(InUse) -> String? {
        let path = ControlSocket.path(database: database)
        let (folder, name) = ControlSocket.openFolder(of: path)
        guard folder >= 0 else { return "\(path): \(systemMessage())" }
        defer { close(folder) }
        // Of two filters that start at once, each could remove the other's socket, which doesn't listen yet.
        guard Self.lock(folder) else { return "\(path): another process has locked the folder" }
        let probe = ControlSocket.makeSocket()
        defer { close(probe) }
        let answer =
            ControlSocket.withAddress(file: name, in: folder) { connect(probe, $0, $1) == 0 ? 0 : errno }
            ?? ENAMETOOLONG
        if answer == 0 || answer == EAGAIN {
            throw InUse(description: "\(path) is in use: another filter writes the log \(database)")
        }
        guard answer != EACCES, answer != ENAMETOOLONG else { return "\(path): \(systemMessage(answer))" }
        // No filter listens at the socket: a killed filter has left it.
        unlinkat(folder, name, 0)
        var code: Int32 = 0
        let file = Self.listener { bind in
            ControlSocket.withAddress(file: name, in: folder) { address, size in
                let status = bind(address, size) == 0 ? chmod("/proc/self/fd/\(folder)/\(name)", 0o600) : -1
                code = status == 0 ? 0 : errno
                return status
            }
        }
        guard file >= 0 else { return "\(path): the socket can't be made: \(systemMessage(code))" }
        sockets.withLock { $0.file = file }
        return nil
    }

    /// Locks a folder until its descriptor is closed; false if another process holds the lock for two seconds.
    private static func lock(_ folder: Int32) -> Bool {
        for _ in 0..<100 {
            if flock(folder, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK { return true }
            usleep(20_000)
        }
        return false
    }

    /// A socket that listens at the address to which `bindTo` binds it; -1 if that isn't possible.
    ///
    /// `bindTo` sets the permissions of its file. No client gets in before that, since a socket refuses clients until it listens.
    private static func listener(
        _ bindTo: (_ bind: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32?
    ) -> Int32 {
        let descriptor = ControlSocket.makeSocket()
        guard descriptor >= 0 else { return -1 }
        _ = fchmod(descriptor, 0o600)
        guard bindTo({ bind(descriptor, $0, $1) }) == 0, listen(descriptor, 8) == 0 else {
            close(descriptor)
            return -1
        }
        return descriptor
    }

    // MARK: Clients

    private func serve(_ status: () -> FilterStatus, _ reload: Reload) {
        let (file, abstract) = sockets.withLock { ($0.file, $0.abstract) }
        var polled = [file, abstract].filter { $0 >= 0 }.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        guard poll(&polled, nfds_t(polled.count), 1_000) > 0 else { return }
        for socket in polled where socket.revents != 0 {
            let client = accept(socket.fd, nil, nil)
            if client >= 0 {
                _ = fcntl(client, F_SETFD, FD_CLOEXEC)
                answer(ControlConnection(client), isAbstract: socket.fd == abstract, status: status, reload: reload)
            } else if errno != EAGAIN && errno != EINTR {
                sleep(1)
            }
        }
    }

    private func answer(
        _ client: ControlConnection, isAbstract: Bool, status: () -> FilterStatus, reload: Reload
    ) {
        // Anybody may connect to an abstract socket.
        if isAbstract {
            guard let user = ControlSocket.peer(of: client.descriptor)?.user, user == 0 || user == geteuid() else {
                return
            }
        }
        switch client.readRequest() {
        case .status: client.send(status())
        case .reload(let acceptsOlderIndex): reload(acceptsOlderIndex) { client.send($0) }
        case nil: return
        }
    }
}

/// A client's connection; closed when its last reference goes.
private final class ControlConnection: Sendable {
    let descriptor: Int32

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        ControlSocket.setTimeouts(of: descriptor)
    }

    deinit { close(descriptor) }

    /// Reads the client's request; nil if no known request comes in time.
    func readRequest() -> ControlSocket.Request? {
        var line: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: ControlSocket.longestRequest)
        while line.count < ControlSocket.longestRequest, !line.contains(0x0A) {
            let count = read(descriptor, &bytes, bytes.count)
            guard count > 0 else { break }
            line += bytes[..<count]
        }
        return ControlSocket.Request(line: String(decoding: line.prefix { $0 != 0x0A }, as: UTF8.self))
    }

    func send(_ document: some Encodable) {
        ControlSocket.send((try? JSON.text(document)) ?? "{}", on: descriptor)
    }
}
