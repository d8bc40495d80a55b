import Foundation
import GRDB
import GRDBSQLite
import Glibc

/// The writer's connection to the database, in WAL mode.
final class LogDatabase {
    let queue: DatabaseQueue
    let file: LogFile
    var path: String { file.path }
    private let identity: FileIdentity?

    /// Opens the database, creates it if it is missing, migrates an older version, and checks that it can be written.
    init(_ file: LogFile, busyTimeout: TimeInterval) throws {
        self.file = file
        try LogFile.checkKind(file.path)
        try file.create()
        queue = try Self.open(file.path, busyTimeout)
        identity = FileIdentity(path: file.path)
    }

    /// False once the file at the path is another one, or gone: what is written then would be lost.
    var isInPlace: Bool { identity != nil && FileIdentity(path: path) == identity }

    /// Closes the connection. The write-ahead log stays beside the database, so that users who may only read still can.
    func close() {
        try? queue.close()
    }

    private static func open(_ path: String, _ busyTimeout: TimeInterval) throws -> DatabaseQueue {
        // A connection that can write may change the file when it closes; a read-only one inspects the file first.
        let looking = try DatabaseQueue(
            path: ReadOnlyDatabase.restingLocation(path), configuration: ReadOnlyDatabase.configuration)
        let version = try looking.inDatabase { try LogSchema.inspect($0, path: path) }
        try looking.close()

        var configuration = Configuration()
        configuration.label = "rejection log"
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(busyTimeout)
        // A disk that fails during a rollback must not end the process: the connection is closed then.
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
            // This setting has an effect in a database without tables only.
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

/// How readers open the database.
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

    /// Makes SQLite check the file more strictly: it may be damaged, or come from somebody else.
    static func distrust(_ db: Database) throws {
        try db.execute(sql: "PRAGMA cell_size_check = ON")
        try db.execute(sql: "PRAGMA trusted_schema = OFF")
    }

    /// The location to open while no writer is at work: without a write-ahead log the file is complete, and SQLite
    /// needs none of the side files that a reader may not create. The path itself if there is a write-ahead log.
    static func restingLocation(_ path: String) -> String {
        var status = stat()
        let pending = stat(path + "-wal", &status) == 0 && status.st_size > 0
        guard !pending, let name = path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) else {
            return path
        }
        return "file://\(name.hasPrefix("/") ? "" : "/")\(name)?immutable=1"
    }
}
