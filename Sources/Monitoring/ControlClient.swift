package import Foundation
import Glibc
import System

/// The running filter as `postern status` and `postern reload` reach it, by its ``ControlSocket``.
package final class ControlClient {
    /// Why the filter can't be asked.
    package struct Failure: Error, CustomStringConvertible {
        /// What is wrong.
        package enum Kind: Sendable {
            /// No filter runs.
            case notRunning
            /// Only root and the filter's user may ask it.
            case notPermitted
            /// The socket can't be used.
            case unusable
            /// The filter ended before it had answered.
            case ended
            /// The filter didn't answer in time.
            case noAnswer
            /// The filter is of a version that doesn't know the request.
            case otherVersion
        }

        /// What is wrong.
        package let kind: Kind
        /// A sentence.
        package let description: String
    }

    private let descriptor: Int32
    /// The filter's process; 0 if it is in a container out of sight.
    package let process: pid_t

    /// Connects to the filter that keeps its log there.
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
            // The filter would end the connection without a word.
            code = EACCES
        }
        close(descriptor)
        throw failure(code, path, database)
    }

    /// Whether a user's program that listens at the abstract address may be the filter: anybody may listen there.
    private static func isTrusted(_ user: uid_t, folder: Int32) -> Bool {
        var status = stat()
        return user == 0 || user == geteuid() || fstat(folder, &status) == 0 && user == status.st_uid
    }

    private static func failure(_ code: Int32, _ path: String, _ database: String) -> Failure {
        switch code {
        case ENOENT, ECONNREFUSED, ENOTDIR:
            Failure(kind: .notRunning, description: "no filter is running that keeps its log in \(database)")
        case EACCES, EPERM:
            Failure(
                kind: .notPermitted,
                description: "\(path): \(systemMessage(code)); only root and the filter's user may ask the filter")
        default: Failure(kind: .unusable, description: "\(path): \(systemMessage(code))")
        }
    }

    // MARK: Requests

    /// What the filter is doing; nil if it doesn't say in time.
    package func status() -> FilterStatus? {
        guard case .success(let document) = answer(to: .status, within: .seconds(ControlSocket.patience)) else {
            return nil
        }
        return try? JSON.value(FilterStatus.self, from: document)
    }

    /// Has the filter read its configuration again, and waits for the result.
    package func reload(acceptsOlderIndex: Bool, within limit: Duration) throws(Failure) -> ControlSocket.ReloadResult {
        let document = try answer(to: .reload(acceptsOlderIndex: acceptsOlderIndex), within: limit).get()
        if let result = try? JSON.value(ControlSocket.ReloadResult.self, from: document) { return result }
        guard document.isEmpty else {
            throw Failure(
                kind: .otherVersion,
                description:
                    "process \(process) is of another version of Postern, which this command can't ask: restart it, or reload with "
                    + "kill -USR1 \(process)")
        }
        throw Failure(kind: .ended, description: "process \(process) ended before it had answered")
    }

    /// The document that the filter sends for a request; empty if it ends the connection without one.
    private func answer(to request: ControlSocket.Request, within limit: Duration) -> Result<Data, Failure> {
        // A filter of the first versions sends its status at once and closes: then sending fails, and the document can be read.
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
            guard count < 0, errno == EAGAIN || errno == EINTR else { return .success(document) }
            guard ContinuousClock.now < deadline else {
                return .failure(
                    Failure(
                        kind: .noAnswer,
                        description:
                            "process \(process) hasn't answered in \(limit.components.seconds) seconds; see its messages"
                    ))
            }
        }
        return .success(document)
    }
}
