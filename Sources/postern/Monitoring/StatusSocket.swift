import Dispatch
import Foundation
import Glibc
import Synchronization
import System

/// Where other processes ask the running filter for its figures: a unix socket beside its ``ServiceFile``, `…-status`, which is
/// the owner's alone (mode 0600), and one in Linux's abstract namespace (unix(7)) for when the folder can't be written. They are there whatever
/// `http.listen` says.
///
/// Root and the filter's own user are sent a JSON document when they connect, and that is all.
enum StatusSocket {
    /// The socket of the filter that keeps its log there.
    static func path(database: String) -> String { "\(database)-status" }

    /// The name in the abstract namespace; it has 107 bytes at most, so a hash of the path (FNV-1a) stands for it.
    private static func abstractName(database: String) -> String {
        let hash = database.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return "postern-status-\(String(hash, radix: 16))"
    }

    private static func withAddress<R>(
        _ name: [UInt8], _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard name.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        // The name of an abstract socket begins with a NUL and ends with the address.
        let size = MemoryLayout<sa_family_t>.size + name.count + (name.first == 0 ? 0 : 1)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(size)) }
        }
    }

    /// The address of a path, which is reached by way of its folder's descriptor: the name of a unix socket may have 107 bytes only.
    private static func withPath<R>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R? {
        let url = URL(fileURLWithPath: path)
        let folder = open(url.deletingLastPathComponent().path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { return nil }
        defer { close(folder) }
        return withAddress(Array("/proc/self/fd/\(folder)/\(url.lastPathComponent)".utf8), body)
    }

    private static func withAbstractName<R>(
        _ database: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? { withAddress([0] + Array(abstractName(database: database).utf8), body) }

    /// The user at the other end of a connection (`SO_PEERCRED`); nil where the kernel doesn't say.
    private static func peer(_ descriptor: Int32) -> uid_t? {
        // struct ucred, which Swift doesn't import: process, user, group.
        var peer: (pid_t, uid_t, gid_t) = (0, 0, 0)
        var size = socklen_t(MemoryLayout.size(ofValue: peer))
        guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 else { return nil }
        return peer.1
    }

    private static func makeSocket() -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        // Nobody may keep the other end waiting.
        var patience = timeval(tv_sec: 2, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        return descriptor
    }

    /// The filter's figures; nil where there is no filter, it is out of reach, or it gives no answer in time.
    static func figures(database: String) -> FilterFigures? {
        guard let descriptor = connect(database) else { return nil }
        defer { close(descriptor) }
        var document = Data()
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        while document.count < 1 << 20 {
            let count = read(descriptor, &bytes, bytes.count)
            guard count >= 0 else { return nil }
            if count == 0 { break }
            document.append(contentsOf: bytes[..<count])
        }
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(FilterFigures.self, from: document)
    }

    private static func connect(_ database: String) -> Int32? {
        let descriptor = makeSocket()
        guard descriptor >= 0 else { return nil }
        if withPath(path(database: database), { Glibc.connect(descriptor, $0, $1) }) == 0 { return descriptor }
        if withAbstractName(database, { Glibc.connect(descriptor, $0, $1) }) == 0 {
            // Anybody may take an abstract name: only root, this user and the owner of the log's folder are believed.
            var folderStatus = stat()
            let hasFolder = stat(folder(of: database), &folderStatus) == 0
            if let user = peer(descriptor), user == 0 || user == geteuid() || hasFolder && user == folderStatus.st_uid {
                return descriptor
            }
        }
        close(descriptor)
        return nil
    }

    /// The filter's end.
    final class Holder: Sendable {
        private let database: String
        private let path: String
        private let figures: @Sendable () -> FilterFigures
        private let isStopping = Atomic<Bool>(false)
        private let descriptors: Mutex<(file: Int32, abstract: Int32)>

        /// Makes what can be made of the two sockets.
        ///
        /// The caller holds the ``ServiceFile`` of this log, if that can be held: a socket that is there is a dead filter's.
        init(database: String, _ figures: @escaping @Sendable () -> FilterFigures) {
            self.database = database
            path = StatusSocket.path(database: database)
            self.figures = figures
            descriptors = Mutex((-1, StatusSocket.listener { StatusSocket.withAbstractName(database, $0) }))
            makeFile()
        }

        /// Makes the socket beside the log, if it isn't there yet; false where that isn't possible.
        @discardableResult
        func makeFile() -> Bool {
            descriptors.withLock { descriptors in
                guard descriptors.file < 0 else { return true }
                unlink(path)
                // Nobody is answered before the permissions are set: a socket that doesn't listen yet refuses.
                descriptors.file = StatusSocket.listener { [path] body in
                    StatusSocket.withPath(path) { address, size in
                        let status = body(address, size)
                        return status == 0 ? chmod(path, 0o600) : status
                    }
                }
                return descriptors.file >= 0
            }
        }

        /// Starts the thread that answers.
        func start() {
            NamedThread.start("status") { [self] in
                while !isStopping.load(ordering: .acquiring) { serve() }
            }
        }

        /// Removes the socket.
        func stop() {
            isStopping.store(true, ordering: .releasing)
            if descriptors.withLock({ $0.file >= 0 }) { unlink(path) }
        }

        private func serve() {
            let (file, abstract) = descriptors.withLock { $0 }
            var polled = [file, abstract].filter { $0 >= 0 }.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&polled, nfds_t(polled.count), 1_000) > 0 else { return }
            for socket in polled where socket.revents != 0 { answer(at: socket.fd, checksUser: socket.fd == abstract) }
        }

        private func answer(at descriptor: Int32, checksUser: Bool) {
            let client = accept(descriptor, nil, nil)
            guard client >= 0 else {
                if errno != EAGAIN && errno != EINTR { sleep(1) }
                return
            }
            defer { close(client) }
            if checksUser {
                guard let user = StatusSocket.peer(client), user == 0 || user == geteuid() else { return }
            }
            _ = fcntl(client, F_SETFD, FD_CLOEXEC)
            var patience = timeval(tv_sec: 2, tv_usec: 0)
            setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
            var text = (try? JSON.text(figures())) ?? "{}"
            text.withUTF8 { bytes in
                var done = 0
                while done < bytes.count {
                    let rest = bytes.count - done
                    let count = send(client, bytes.baseAddress.map { $0 + done }, rest, Int32(MSG_NOSIGNAL))
                    guard count > 0 else { return }
                    done += count
                }
            }
        }
    }

    /// A socket that listens where the body binds it; -1 where that isn't possible.
    private static func listener(
        _ bind: (_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32?
    ) -> Int32 {
        let descriptor = makeSocket()
        guard descriptor >= 0 else { return -1 }
        _ = fchmod(descriptor, 0o600)
        guard bind({ Glibc.bind(descriptor, $0, $1) }) == 0, listen(descriptor, 8) == 0 else {
            close(descriptor)
            return -1
        }
        return descriptor
    }
}
