import Foundation
import GRDB
import Glibc
import Synchronization
import System

/// Reads a rejection log, also while a filter writes to it, without delaying the filter.
///
/// Reading needs read permission on the database and the files `-wal` and `-shm` beside it. If another database takes
/// the place of the opened one, the reader opens that.
public final class RejectionReader: Sendable {
    private struct Connection: Sendable {
        let queue: DatabaseQueue
        let file: FileIdentity?
    }

    /// The path of the database, its folder without symbolic links.
    public let path: String
    private let connection: Mutex<Connection>

    /// Opens an existing database.
    ///
    /// It throws an error if the database is missing, not readable, damaged, not a rejection log, or of a newer
    /// Postern. The database is never changed.
    public init(path given: String) throws(LogError) {
        path = LogFile.canonical(given)
        connection = Mutex(try Self.connect(path))
    }

    private static func connect(_ path: String) throws(LogError) -> Connection {
        var status = stat()
        if lstat(path, &status) != 0 {
            let code = errno
            throw code == EACCES
                ? unreadable(path, code)
                : LogError(
                    .notFound, path, "no rejection log yet at \(path)",
                    advice: "the filter creates it at its first start"
                )
        }
        try LogFile.checkKind(path)
        guard access(path, R_OK) == 0 else { throw unreadable(path, errno) }
        do {
            let file = FileIdentity(path: path)
            return Connection(queue: try open(path), file: file)
        } catch {
            throw LogError(error, path: path, doing: "read")
        }
    }

    private static func unreadable(_ path: String, _ code: CInt) -> LogError {
        LogError(
            .permission, path, "can't read the rejection log \(path): \(systemMessage(code))",
            advice: LogError.accessAdvice)
    }

    private static func open(_ path: String) throws -> DatabaseQueue {
        do {
            return try open(path, at: path)
        } catch let error as DatabaseError
            where error.resultCode == .SQLITE_CANTOPEN || error.resultCode == .SQLITE_READONLY
        {
            // No filter is at work, and this user may not create the side files: the file alone is complete.
            return try open(path, at: ReadOnlyDatabase.restingLocation(path))
        }
    }

    private static func open(_ path: String, at location: String) throws -> DatabaseQueue {
        let queue = try DatabaseQueue(path: location, configuration: ReadOnlyDatabase.configuration)
        let version = try queue.read { try LogSchema.inspect($0, path: path) }
        guard version == LogSchema.version else {
            throw version == 0
                ? LogError(
                    .notFound, path, "no rejection log yet at \(path): the file is empty",
                    advice: "the filter creates it at its first start")
                : LogError(
                    .notFound, path, "the rejection log \(path) is of an older Postern (schema \(version))",
                    advice: "start the filter once to migrate it")
        }
        return queue
    }

    func read<T>(_ body: (Database) throws -> T) throws(LogError) -> T {
        let queue = try current()
        do {
            return try queue.read(body)
        } catch {
            throw LogError(error, path: path, doing: "read")
        }
    }

    /// The connection to the database that is at the path at present.
    private func current() throws(LogError) -> DatabaseQueue {
        let found = FileIdentity(path: path)
        let known = connection.withLock { $0 }
        if found == known.file || found == nil { return known.queue }
        let fresh = try Self.connect(path)
        connection.withLock { $0 = fresh }
        return fresh.queue
    }
}
