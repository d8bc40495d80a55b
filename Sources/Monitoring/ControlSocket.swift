import Foundation
import Glibc
import System

/// The unix socket by which `postern status` and `postern reload` talk to the running filter: `…-status`, beside the rejection log.
///
/// The client sends one line, ``Request``, and is sent one JSON document: ``FilterStatus`` or ``ReloadResult``. Only root and the filter's own user
/// may connect: the file has mode 0600. If the folder can't be written, the filter listens in Linux's abstract namespace (unix(7)), where it looks
/// at the client's user. The socket is there whatever `http.listen` says.
package enum ControlSocket {
    /// What a client asks for.
    package enum Request: Equatable, Sendable {
        /// `status`
        case status
        /// `reload`, or `reload accept-older`: reads the configuration again, and takes over the index file even if it is of an older generation.
        case reload(acceptsOlderIndex: Bool)

        /// The request of a line; nil for any other.
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

    /// What became of a reload.
    package struct ReloadResult: Codable, Sendable, Equatable {
        /// What became of the index file that a person wanted to be taken over.
        package struct OlderIndex: Codable, Sendable, Equatable {
            /// Whether the file's list is in use now.
            package var isInUse: Bool
            /// Which list is in use, or why the file's isn't.
            package var message: String

            /// A result.
            package init(isInUse: Bool, message: String) {
                self.isInUse = isInUse
                self.message = message
            }
        }

        /// Whether the configuration is in force; else the former one stays.
        package var isInForce: Bool
        /// What is in force, or every fault on a line of its own.
        package var message: String
        /// What became of the index file; nil if none was to be taken over.
        package var olderIndex: OlderIndex?

        /// A result; of a very long message only the beginning is kept.
        package init(isInForce: Bool, message: String, olderIndex: OlderIndex? = nil) {
            self.isInForce = isInForce
            self.message = String(String.UnicodeScalarView(message.unicodeScalars.prefix(12_000)))
            self.olderIndex = olderIndex
        }
    }

    /// The longest line of a request, and the longest document, in bytes.
    static let longestRequest = 64
    static let longestDocument = 1 << 20
    /// How long each end waits for the other to send or to take a byte.
    static let patience = 2

    /// The socket of the filter that keeps its log there.
    static func path(database: String) -> String { "\(database)-status" }

    // MARK: Addresses

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

    /// Calls the body with the address of a file in a folder, given by the folder's descriptor: an address has room for 107 bytes only.
    static func withAddress<R>(
        file name: String, in folder: Int32, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? { withAddress(Array("/proc/self/fd/\(folder)/\(name)".utf8), body) }

    /// Calls the body with the abstract address of a log. An address has room for 107 bytes only, so a hash of the path (FNV-1a) stands for it.
    static func withAbstractAddress<R>(
        database: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R? {
        let hash = database.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return withAddress([0] + Array("postern-status-\(String(hash, radix: 16))".utf8), body)
    }

    /// The path's folder, open, and the path's last component; the caller closes the descriptor, which is negative if the folder can't be opened.
    static func openFolder(of path: String) -> (descriptor: Int32, name: String) {
        let descriptor = open(folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        return (descriptor, path.split(separator: "/").last.map(String.init) ?? path)
    }

    static func makeSocket() -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        setTimeouts(of: descriptor)
        return descriptor
    }

    /// Keeps the other end of a connection from making this one wait for long.
    static func setTimeouts(of descriptor: Int32, seconds: Int = patience) {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    /// The process and user at the other end of a connection (`SO_PEERCRED`); the process is 0 if it is in a container out of sight.
    static func peer(of descriptor: Int32) -> (process: pid_t, user: uid_t)? {
        // struct ucred, which Swift doesn't import: process, user, group.
        var peer: (pid_t, uid_t, gid_t) = (0, 0, 0)
        var size = socklen_t(MemoryLayout.size(ofValue: peer))
        guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 else { return nil }
        return (peer.0, peer.1)
    }

    /// Sends a text; false if the other end doesn't take it.
    @discardableResult
    static func send(_ text: String, on descriptor: Int32) -> Bool {
        var text = text
        return text.withUTF8 { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.send(
                    descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
    }
}
