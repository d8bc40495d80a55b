import Foundation
import GRDB
import GRDBSQLite

/// The writer's connection: WAL, its side files as narrow as the database, locked against a second writer.
final class LogDatabase {
    let queue: DatabaseQueue
    let path: String
    private var file: LogFile?

    init(path given: String, busyTimeout: TimeInterval) throws(LogError) {
        let file = try LogFile(path: given)
        path = file.path
        do {
            queue = try Self.open(file.path, busyTimeout)
        } catch {
            throw LogError(error, path: file.path, doing: "open")
        }
        self.file = consume file
    }

    /// Ends the connection, then lets the next writer in. The write-ahead log stays beside the database, so that a user who
    /// may only read still can.
    func close() {
        try? queue.close()
        file = nil
    }

    private static func open(_ path: String, _ busyTimeout: TimeInterval) throws -> DatabaseQueue {
        // A connection that can write may touch the file when it closes: one that can't looks first.
        let looking = try DatabaseQueue(
            path: ReadOnlyDatabase.restingLocation(path), configuration: ReadOnlyDatabase.configuration)
        let version = try looking.inDatabase { try LogSchema.inspect($0, path: path) }
        try looking.close()

        var configuration = Configuration()
        configuration.label = "rejection log"
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(busyTimeout)
        configuration.prepareDatabase { db in
            var keep: CInt = 1
            sqlite3_file_control(db.sqliteConnection, nil, SQLITE_FCNTL_PERSIST_WAL, &keep)
            db.add(function: TallyWriter.function)
            // Only a database without tables still takes this one.
            try db.execute(sql: "PRAGMA auto_vacuum = INCREMENTAL")
            try db.execute(sql: "PRAGMA wal_autocheckpoint = 4000")
            try db.execute(sql: "PRAGMA journal_size_limit = 33554432")
            try db.execute(sql: "PRAGMA synchronous = NORMAL")
            try db.execute(sql: "PRAGMA cache_size = -8000")
        }
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        try queue.inDatabase { db in
            try LogSchema.migrate(db, from: version)
            // The version must stand in the file's own header, where an older Postern looks for it.
            if version < LogSchema.version { try db.checkpoint(.truncate) }
        }
        return queue
    }
}
