import Dispatch
import Foundation
import Synchronization

/// Where other processes ask the running filter for its figures: a unix socket beside its ``ServiceFile``, `…-status`, which is
/// the owner's alone (mode 0600). It is there whatever `http.listen` says.
///
/// Whoever connects is sent a JSON document, and that is all. The path is reached by way of its folder's descriptor, as the
/// name of a unix socket may have 107 octets only.
enum StatusSocket {
    /// The socket of the filter that keeps its log there.
    static func path(database: String) -> String { "\(database)-status" }

    /// The address of a path, with a descriptor that must stay open while it is used.
    private static func withAddress<R>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? {
        let url = URL(fileURLWithPath: path)
        let folder = open(url.deletingLastPathComponent().path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { return nil }
        defer { close(folder) }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array("/proc/self/fd/\(folder)/\(url.lastPathComponent)".utf8)
        guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        return withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, size) }
        }
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
        let descriptor = makeSocket()
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard withAddress(path(database: database), { connect(descriptor, $0, $1) }) == 0 else { return nil }
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

    /// The filter's end.
    final class Holder: Sendable {
        private let path: String
        private let descriptor: Int32
        private let figures: @Sendable () -> FilterFigures
        private let isStopping = Atomic<Bool>(false)

        /// Makes the socket; nil where that can't be, which costs `postern status` its figures and nothing else.
        ///
        /// The caller holds the ``ServiceFile`` of this log: a socket that is there is a dead filter's.
        init?(database: String, _ figures: @escaping @Sendable () -> FilterFigures) {
            path = StatusSocket.path(database: database)
            self.figures = figures
            descriptor = StatusSocket.makeSocket()
            guard descriptor >= 0 else { return nil }
            unlink(path)
            let former = umask(0o177)
            let status = StatusSocket.withAddress(path) { bind(descriptor, $0, $1) }
            umask(former)
            guard status == 0, listen(descriptor, 8) == 0 else {
                close(descriptor)
                return nil
            }
        }

        /// Starts the thread that answers.
        func start() {
            let thread = Thread { [self] in
                while !isStopping.load(ordering: .acquiring) { serve() }
            }
            thread.name = "status"
            thread.start()
        }

        /// Removes the socket.
        func stop() {
            isStopping.store(true, ordering: .releasing)
            unlink(path)
        }

        private func serve() {
            // Returns after two seconds without anyone, as the time-out of the socket has it.
            let client = accept(descriptor, nil, nil)
            guard client >= 0 else {
                if errno != EAGAIN && errno != EINTR { sleep(1) }
                return
            }
            defer { close(client) }
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
}
