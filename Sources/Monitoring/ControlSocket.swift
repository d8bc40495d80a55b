package import Foundation
import Glibc
import System

/// The unix socket by which `postern status` and `postern reload` talk to the running filter: `…-status`, beside the rejection log.
///
/// The client sends one line, ``Request``. The filter sends one JSON document: ``FilterStatus`` or ``ReloadResult``. Only root and the filter's own
/// user may connect: the file has mode 0600. The filter also listens in Linux's abstract namespace (unix(7)), for the case that the folder can't
/// be written; there it checks the client's user. The socket doesn't depend on `http.listen`.
package enum ControlSocket {
    /// A client's request.
    enum Request: Equatable {
        /// `status`
        case status
        /// `reload`: the filter reads the configuration again; or `reload accept-older`: before that, it takes over the index file even if its
        /// generation is older.
        case reload(acceptsOlderIndex: Bool)

        /// The request of a line; nil for an unknown line.
        init?(line: some StringProtocol) {
            switch line {
            case "status": self = .status
            case "reload": self = .reload(acceptsOlderIndex: false)
            case "reload accept-older": self = .reload(acceptsOlderIndex: true)
            default: return nil
            }
        }

        /// The request as a line, without its end.
        var line: String {
            switch self {
            case .status: "status"
            case .reload(let acceptsOlderIndex): acceptsOlderIndex ? "reload accept-older" : "reload"
            }
        }
    }

    /// The result of a reload.
    package struct ReloadResult: Codable, Sendable, Equatable {
        /// The result of `postern reload --accept-older` for the index file.
        package struct OlderIndex: Codable, Sendable, Equatable {
            /// Whether the file's list is in use now.
            package var isInUse: Bool
            /// The index in use, or why the file isn't used.
            package var message: String

            /// A result.
            package init(isInUse: Bool, message: String) {
                self.isInUse = isInUse
                self.message = message
            }
        }

        /// Whether the new configuration is in force; if not, the former one stays.
        package var isInForce: Bool
        /// A clause about the configuration in force, or a line for each fault.
        package var message: String
        /// The result for the index file; nil if `--accept-older` wasn't given.
        package var olderIndex: OlderIndex?

        /// A result; a very long message is cut.
        package init(isInForce: Bool, message: String, olderIndex: OlderIndex? = nil) {
            self.isInForce = isInForce
            self.message = String(String.UnicodeScalarView(message.unicodeScalars.prefix(12_000)))
            self.olderIndex = olderIndex
        }
    }

    /// The longest line of a request and the longest document, in bytes.
    static let longestRequest = 64
    static let longestDocument = 1 << 20
    /// The seconds that each end waits for the other to send or to read.
    static let patience = 2

    /// The path of the socket of the filter that writes this log.
    static func path(database: String) -> String { "\(database)-status" }

    // MARK: Addresses

    private static func withAddress<R>(
        _ name: [UInt8], _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard name.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        // The name of an abstract socket begins with a NUL, and none ends it.
        let size = MemoryLayout<sa_family_t>.size + name.count + (name.first == 0 ? 0 : 1)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(size)) }
        }
    }

    /// Calls the body with the address of a file in a folder. The address names the folder by its descriptor, since it has room for 107 bytes only.
    static func withAddress<R>(
        file name: String, in folder: Int32, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? { withAddress(Array("/proc/self/fd/\(folder)/\(name)".utf8), body) }

    /// Calls the body with the abstract address for a log. It has a hash of the log's path (FNV-1a), since it has room for 107 bytes only.
    static func withAbstractAddress<R>(
        database: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? {
        let hash = database.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return withAddress([0] + Array("postern-status-\(String(hash, radix: 16))".utf8), body)
    }

    /// Opens the folder of a path. The caller closes the descriptor, which is negative if the folder can't be opened.
    ///
    /// - Returns: the descriptor, and the last component of the path.
    static func openFolder(of path: String) -> (descriptor: Int32, name: String) {
        let descriptor = open(folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        return (descriptor, path.split(separator: "/").last.map(String.init) ?? path)
    }

    /// A unix socket with timeouts, which the caller closes.
    static func makeSocket() -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        setTimeouts(of: descriptor)
        return descriptor
    }

    /// Ends each read and write on a connection after ``patience``.
    static func setTimeouts(of descriptor: Int32) {
        var limit = timeval(tv_sec: patience, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    /// The process and user at the other end of a connection (`SO_PEERCRED`); the process is 0 if it runs in another PID namespace.
    static func peer(of descriptor: Int32) -> (process: pid_t, user: uid_t)? {
        // struct ucred, which Swift doesn't import: process, user, group.
        var peer: (pid_t, uid_t, gid_t) = (0, 0, 0)
        var size = socklen_t(MemoryLayout.size(ofValue: peer))
        guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 else { return nil }
        return (peer.0, peer.1)
    }

    /// Sends a text, unless the other end closes the connection or doesn't read in time.
    static func send(_ text: String, on descriptor: Int32) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }
}

/// A connection of `postern status` or `postern reload` to the running filter, by its ``ControlSocket``.
package final class ControlClient {
    /// Why the filter can't be asked.
    package struct Failure: Error, CustomStringConvertible {
        /// The kind of failure.
        package enum Kind: Sendable {
            /// No filter runs.
            case notRunning
            /// Only root and the filter's user may ask the filter.
            case notPermitted
            /// The socket can't be used.
            case unusable
            /// The filter ended before it had answered.
            case ended
            /// The filter didn't answer in time.
            case noAnswer
            /// The filter's version doesn't know the request.
            case otherVersion
        }

        /// The kind of failure, from which commands get their exit status.
        package let kind: Kind
        /// One sentence.
        package let description: String
    }

    private let descriptor: Int32
    /// The filter's process ID; 0 if the filter runs in another PID namespace.
    package let process: pid_t

    /// Connects to the filter that writes this log.
    package init(database: String) throws(Failure) {
        descriptor = try Self.connect(database)
        process = ControlSocket.peer(of: descriptor)?.process ?? 0
    }

    deinit { close(descriptor) }

    private static func connect(_ database: String) throws(Failure) -> Int32 {
        let path = ControlSocket.path(database: database)
        let (folder, name) = ControlSocket.openFolder(of: path)
        var code = errno
        defer { close(folder) }
        let descriptor = ControlSocket.makeSocket()
        if folder >= 0 {
            code =
                ControlSocket.withAddress(file: name, in: folder) {
                    Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno
                } ?? ENAMETOOLONG
        }
        if code == 0 { return descriptor }
        let abstractCode = ControlSocket.withAbstractAddress(database: database) {
            Glibc.connect(descriptor, $0, $1)
        }
        if abstractCode == 0, let user = ControlSocket.peer(of: descriptor)?.user, isTrusted(user, folder: folder) {
            if geteuid() == 0 || geteuid() == user { return descriptor }
            // The filter would close the connection without an answer.
            code = EACCES
        }
        close(descriptor)
        throw failure(code, path: path, database: database)
    }

    /// Whether a program of this user that listens at the abstract address may be the filter. Any user may listen there.
    private static func isTrusted(_ user: uid_t, folder: Int32) -> Bool {
        var status = stat()
        return user == 0 || user == geteuid() || fstat(folder, &status) == 0 && user == status.st_uid
    }

    private static func failure(_ code: Int32, path: String, database: String) -> Failure {
        switch code {
        case ENOENT, ECONNREFUSED, ENOTDIR:
            Failure(kind: .notRunning, description: "no filter is running that writes the log \(database)")
        case EACCES, EPERM:
            Failure(
                kind: .notPermitted,
                description: "\(path): \(systemMessage(code)); only root and the filter's user may ask the filter")
        default: Failure(kind: .unusable, description: "\(path): \(systemMessage(code))")
        }
    }

    /// The state of the filter; nil if it doesn't answer in time.
    func status() -> FilterStatus? {
        let document = try? answer(to: .status, within: .seconds(ControlSocket.patience))
        return document.flatMap { try? JSON.value(FilterStatus.self, from: $0) }
    }

    /// Tells the filter to read its configuration again, and waits for the result.
    package func reload(acceptsOlderIndex: Bool, within limit: Duration) throws(Failure) -> ControlSocket.ReloadResult {
        let document = try answer(to: .reload(acceptsOlderIndex: acceptsOlderIndex), within: limit)
        if let result = try? JSON.value(ControlSocket.ReloadResult.self, from: document) { return result }
        guard document.isEmpty else {
            throw Failure(
                kind: .otherVersion,
                description:
                    "process \(process) runs another version of Postern, which doesn't know this request; restart the filter, or "
                    + "reload with kill -USR1 \(process)")
        }
        throw Failure(kind: .ended, description: "process \(process) ended before it answered")
    }

    /// The document that the filter sends for a request; empty if it closes the connection without a document.
    private func answer(to request: ControlSocket.Request, within limit: Duration) throws(Failure) -> Data {
        // A filter of the first versions sends its status at once and closes the connection: the request can't be sent, and is not needed.
        ControlSocket.send(request.line + "\n", on: descriptor)
        let deadline = ContinuousClock.now + limit
        var document = Data()
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        while document.count < ControlSocket.longestDocument {
            let count = read(descriptor, &bytes, bytes.count)
            if count > 0 {
                document.append(contentsOf: bytes[..<count])
                continue
            }
            guard count < 0, errno == EAGAIN || errno == EINTR else { break }
            guard ContinuousClock.now < deadline else {
                throw Failure(
                    kind: .noAnswer,
                    description:
                        "process \(process) hasn't answered in \(limit.components.seconds) seconds; see its messages")
            }
        }
        return document
    }
}
