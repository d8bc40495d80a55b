import Foundation
import GRDB
import Glibc

/// Reads a rejection log, also while a filter writes to it, without ever holding it up.
///
/// Reading needs read permission on the database and its `-wal` and `-shm` beside it, nothing more.
public final class RejectionReader: Sendable {
    /// The database, without symbolic links.
    public let path: String
    let queue: DatabaseQueue

    /// Opens an existing database.
    ///
    /// Errors: there is none, it isn't readable, it isn't a rejection log, is damaged or of a newer Postern. It is never
    /// changed.
    public init(path given: String) throws(LogError) {
        path = LogFile.canonical(given)
        var status = stat()
        if stat(path, &status) != 0 {
            let reason = errno
            throw reason == EACCES
                ? LogError(
                    .permission, path, "can't read the rejection log \(path): \(String(cString: strerror(reason)))")
                : LogError(.notFound, path, "no rejection log yet at \(path): the filter makes it at its first start")
        }
        guard access(path, R_OK) == 0 else {
            let reason = errno
            throw LogError(
                .permission, path, "can't read the rejection log \(path): \(String(cString: strerror(reason)))")
        }
        do {
            queue = try Self.open(path)
        } catch {
            throw LogError(error, path: path, doing: "read")
        }
    }

    private static func open(_ path: String) throws -> DatabaseQueue {
        do {
            return try open(path, at: path)
        } catch let error as DatabaseError
            where error.resultCode == .SQLITE_CANTOPEN || error.resultCode == .SQLITE_READONLY
        {
            // No filter is at work, and this user can't make the side files: the file alone is all there is.
            return try open(path, at: ReadOnlyDatabase.restingLocation(path))
        }
    }

    private static func open(_ path: String, at location: String) throws -> DatabaseQueue {
        let queue = try DatabaseQueue(path: location, configuration: ReadOnlyDatabase.configuration)
        let version = try queue.read { try LogSchema.inspect($0, path: path) }
        guard version == LogSchema.version else {
            throw LogError(
                .notFound, path,
                version == 0
                    ? "no rejection log yet at \(path): the file is empty"
                    : "the rejection log \(path) is of an older Postern (schema \(version)); start the filter once to migrate it"
            )
        }
        return queue
    }

    func read<T>(_ body: (Database) throws -> T) throws(LogError) -> T {
        do {
            return try queue.read(body)
        } catch {
            throw LogError(error, path: path, doing: "read")
        }
    }
}
