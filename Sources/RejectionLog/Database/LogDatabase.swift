import Foundation
import GRDB
import GRDBSQLite
import Glibc

/// The writer's connection: WAL, its side files as narrow as the database, locked against a second writer.
final class LogDatabase {
    let queue: DatabaseQueue
    let file: LogFile
    var path: String { file.path }
    private let identity: FileIdentity?

    /// Opens the database, makes it if it is missing, brings an older one up to date, and proves that it can be written.
    init(_ file: LogFile, busyTimeout: TimeInterval) throws {
        self.file = file
        try LogFile.checkKind(file.path)
        try file.create()
        queue = try Self.open(file.path, busyTimeout)
        identity = FileIdentity(path: file.path)
    }

    /// False once the file at the path is another one, or gone: what is written then would be lost.
    var isInPlace: Bool { identity != nil && FileIdentity(path: path) == identity }

    /// Ends the connection. The write-ahead log stays beside the database, so that a user who may only read still can.
    func close() {
        try? queue.close()
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
        // A disk that fails while a transaction is taken back must not end the process: the connection is given up then.
        configuration.allowsUnsafeTransactions = true
        configuration.prepareDatabase { db in
            guard let opened = sqlite3_db_filename(db.sqliteConnection, "main"), String(cString: opened) == path else {
                throw LogError(
                    .permission, path, "can't open the rejection log \(path): it has become a symbolic link",
                    advice: LogError.accessAdvice)
            }
            var keep: CInt = 1
            sqlite3_file_control(db.sqliteConnection, nil, SQLITE_FCNTL_PERSIST_WAL, &keep)
            db.add(function: TallyWriter.function)
            try ReadOnlyDatabase.distrust(db)
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

/// Which file a path names at a moment.
struct FileIdentity: Equatable {
    private let device: dev_t
    private let number: ino_t

    /// Nil where there is none.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        device = status.st_dev
        number = status.st_ino
    }
}

/// How a database is opened by whoever doesn't write to it.
enum ReadOnlyDatabase {
    static var configuration: Configuration {
        var configuration = Configuration()
        configuration.label = "rejection log reader"
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { db in
            try distrust(db)
        }
        return configuration
    }

    /// Has SQLite look harder at what the file says: it may be damaged, or made by somebody else.
    static func distrust(_ db: Database) throws {
        try db.execute(sql: "PRAGMA cell_size_check = ON")
        try db.execute(sql: "PRAGMA trusted_schema = OFF")
    }

    /// What to open when no writer is at work: without a write-ahead log the file is complete, and SQLite needs no side files,
    /// which a mere reader may not be able to make. The path itself if there is a write-ahead log.
    static func restingLocation(_ path: String) -> String {
        var status = stat()
        let pending = stat(path + "-wal", &status) == 0 && status.st_size > 0
        guard !pending, let name = path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) else {
            return path
        }
        return "file://\(name.hasPrefix("/") ? "" : "/")\(name)?immutable=1"
    }
}
