import Foundation
import GRDB
import GRDBSQLite
import Glibc
import System

/// The writer's connection to the database, in WAL mode.
final class LogDatabase {
    let queue: DatabaseQueue
    let file: LogFile
    private let stamp: FileStamp?

    /// Opens the database, creates it if it is missing, migrates an older version, and checks that it can be written.
    init(_ file: LogFile, busyTimeout: TimeInterval) throws {
        self.file = file
        try LogFile.checkKind(file.path)
        try file.create()
        queue = try Self.open(file.path, busyTimeout: busyTimeout)
        stamp = FileStamp(path: file.path)
    }

    /// False once the path leads to another file or to none: whatever is written then would be lost.
    var isInPlace: Bool {
        guard let stamp, let found = FileStamp(path: file.path) else { return false }
        return stamp.isSameFile(as: found)
    }

    /// Closes the connection. The write-ahead log stays beside the database, so that users who may only read still can.
    func close() { try? queue.close() }

    private static func open(_ path: String, busyTimeout: TimeInterval) throws -> DatabaseQueue {
        // A connection that can write may change the file when it closes; a read-only one inspects the file first.
        let inspector = try DatabaseQueue(
            path: ReadOnlyDatabase.idleLocation(path), configuration: ReadOnlyDatabase.configuration)
        let version = try inspector.inDatabase { try LogSchema.inspect($0, path: path) }
        try inspector.close()

        var configuration = Configuration()
        configuration.label = "rejection log"
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(busyTimeout)
        // A disk that fails during a rollback must not end the process: the connection is closed then.
        configuration.allowsUnsafeTransactions = true
        configuration.prepareDatabase { db in
            guard let opened = sqlite3_db_filename(db.sqliteConnection, "main"), String(cString: opened) == path else {
                throw LogError(
                    .permission, path: path, "can't open the rejection log \(path): it has become a symbolic link",
                    advice: LogError.accessAdvice)
            }
            var keep: CInt = 1
            sqlite3_file_control(db.sqliteConnection, nil, SQLITE_FCNTL_PERSIST_WAL, &keep)
            db.add(function: TallyWriter.function)
            try ReadOnlyDatabase.distrust(db)
            // auto_vacuum has an effect in a database without tables only.
            try db.execute(
                sql: """
                    PRAGMA auto_vacuum = INCREMENTAL;
                    PRAGMA wal_autocheckpoint = 4000;
                    PRAGMA journal_size_limit = 33554432;
                    PRAGMA synchronous = NORMAL;
                    PRAGMA cache_size = -8000;
                    """)
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

/// How readers open the database.
enum ReadOnlyDatabase {
    static var configuration: Configuration {
        var configuration = Configuration()
        configuration.label = "rejection log reader"
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { try distrust($0) }
        return configuration
    }

    /// Makes SQLite check the file more strictly: it may be damaged, or come from somebody else.
    static func distrust(_ db: Database) throws {
        try db.execute(sql: "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF")
    }

    /// The location to open while no filter writes: without a write-ahead log the file is complete, and SQLite needs
    /// none of the files beside it, which a reader may not create. The path itself if there is a write-ahead log.
    static func idleLocation(_ path: String) -> String {
        let isPending = FileStamp(path: path + "-wal").map { $0.size > 0 } ?? false
        guard !isPending, let name = path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) else {
            return path
        }
        return "file://\(name.hasPrefix("/") ? "" : "/")\(name)?immutable=1"
    }
}

/// The database as a file: its path, and the lock file `…-lock`, which keeps a second writer out while this value
/// lives.
///
/// The folder may be a symbolic link. The database and the files beside it must not be links, because the folder may
/// belong to another user than the one that runs the filter.
final class LogFile: Sendable {
    /// The path of the database, its folder without symbolic links.
    let path: String
    private let lock: CInt

    private static let damagedMark = ".damaged-"
    private static let stampStyle = Date.ISO8601FormatStyle(dateSeparator: .omitted, timeSeparator: .omitted)
    /// The ends of the names of the database and the files that SQLite keeps beside it.
    private static let suffixes = ["", "-wal", "-shm", "-journal"]
    private static let folderAdvice = "create the folder and give it to the filter's user"

    /// Locks the database, which need not exist yet.
    init(path given: String) throws(LogError) {
        let path = Self.canonical(given)
        let folder = folder(of: path)
        var status = stat()
        guard stat(folder, &status) == 0 else {
            throw Self.failure(path, "its folder \(folder)", code: errno)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw LogError(
                .notFound, path: path, "can't open the rejection log \(path): \(folder) is not a folder",
                advice: Self.folderAdvice)
        }
        guard access(folder, W_OK | X_OK) == 0 else {
            throw Self.failure(path, "its folder \(folder) must be writable", code: errno)
        }
        try Self.checkKind(path)
        do {
            lock = try PrivateFile.open(path + "-lock", O_RDWR | O_CREAT)
        } catch {
            throw Self.failure(path, "its lock file \(error)", code: error.code, isWhole: true)
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            let owner = Self.owner(ofLock: lock)
            Glibc.close(lock)
            throw LogError(
                .inUse, path: path, "the rejection log \(path) is in use by another filter\(owner)",
                advice: "give each filter a log.database of its own, or end the other filter")
        }
        let text = "\(getpid())\n"
        if ftruncate(lock, 0) == 0 { _ = write(lock, text, text.utf8.count) }
        self.path = path
    }

    deinit {
        Glibc.close(lock)
    }

    /// Creates the database if it is missing, empty and with mode 0600.
    ///
    /// The file gets its name only after its descriptor is closed: once SQLite has a file open, closing another
    /// descriptor of it would drop the locks of the whole process (`fcntl(2)`, advisory record locking).
    func create() throws(LogError) {
        if Self.exists(path) {
            guard access(path, R_OK | W_OK) == 0 else { throw Self.failure(path, "the file", code: errno) }
            return
        }
        let fresh = path + "-new"
        // An attempt that was interrupted may have left the file.
        unlink(fresh)
        do {
            Glibc.close(try PrivateFile.open(fresh, O_WRONLY | O_CREAT | O_EXCL))
        } catch {
            throw Self.failure(path, error.description, code: error.code, isWhole: true)
        }
        defer { unlink(fresh) }
        guard link(fresh, path) != 0, errno != EEXIST else { return }
        // Some file systems have no hard links.
        guard rename(fresh, path) == 0 else { throw Self.failure(path, "the file", code: errno) }
    }

    /// Moves the database and the files beside it to `PATH.damaged-YYYYMMDDTHHMMSSZ`, without overwriting a file.
    ///
    /// - Returns: the new path of the database.
    func moveAside(at time: Date) throws(LogError) -> String {
        let plain = "\(path)\(Self.damagedMark)\(time.formatted(Self.stampStyle))"
        var target = plain
        for number in 2...1_000 where Self.suffixes.contains(where: { Self.exists(target + $0) }) {
            target = "\(plain)-\(number)"
        }
        // The database first: without its write-ahead log it would look undamaged, though its last commits are missing.
        // SQLite removes an old write-ahead log beside a new database.
        for suffix in Self.suffixes where Self.exists(path + suffix) {
            let code = Self.exists(target + suffix) ? EEXIST : rename(path + suffix, target + suffix) == 0 ? 0 : errno
            if code != 0 { throw Self.failure(path, "it is damaged, and moving it to \(target) failed", code: code) }
        }
        return target
    }

    /// The time at which the newest damaged copy was moved aside; nil if there is none.
    var newestDamaged: Date? {
        let start = (path as NSString).lastPathComponent + Self.damagedMark
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder(of: path))) ?? []
        return names.compactMap { name in
            guard name.hasPrefix(start) else { return nil }
            return try? Date(String(name.dropFirst(start.count).prefix(16)), strategy: Self.stampStyle)
        }.max()
    }

    private static func exists(_ path: String) -> Bool { FileStamp(path: path, followsLinks: false) != nil }

    /// Throws an error for symbolic links, and for a database that isn't a regular file.
    static func checkKind(_ path: String) throws(LogError) {
        var status = stat()
        for file in suffixes.map({ path + $0 }) where lstat(file, &status) == 0 {
            let kind = status.st_mode & S_IFMT
            if kind == S_IFLNK {
                throw LogError(
                    .permission, path: path,
                    "can't open the rejection log \(path): \(file) is a symbolic link, and Postern doesn't follow it",
                    advice: "give log.database the file's own path, or make the folder the link")
            }
            if kind != S_IFREG {
                throw LogError(
                    .notALog, path: path, "\(file) is not a rejection log: it is not a regular file",
                    advice: "move it away, or give log.database another path")
            }
        }
    }

    /// The path with the symbolic links of its folder resolved, so that two paths of one database have the same lock.
    static func canonical(_ path: String) -> String {
        guard let real = realpath(folder(of: path), nil) else { return path }
        defer { free(real) }
        return (String(cString: real) as NSString).appendingPathComponent((path as NSString).lastPathComponent)
    }

    /// Why the database can't be opened.
    ///
    /// - Parameters:
    ///   - code: the error number.
    ///   - isWhole: whether `words` already say what the error number means.
    private static func failure(_ path: String, _ words: String, code: CInt, isWhole: Bool = false) -> LogError {
        let (kind, advice): (LogError.Code, String) =
            switch code {
            case ENOENT, ENOTDIR: (.notFound, folderAdvice)
            case EROFS: (.permission, "mount the file system for writing")
            case EACCES, EPERM, ELOOP: (.permission, LogError.accessAdvice)
            case ENOSPC, EDQUOT: (.failed, LogError.spaceAdvice)
            default: (.failed, "")
            }
        let end = isWhole ? "" : ": \(systemMessage(code))"
        return LogError(kind, path: path, "can't open the rejection log \(path): \(words)\(end)", advice: advice)
    }

    /// The process that holds the lock, in parentheses; empty if the lock file doesn't name it.
    private static func owner(ofLock descriptor: CInt) -> String {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        let digits = bytes.prefix(max(count, 0)).prefix { (48...57).contains($0) }
        return digits.isEmpty ? "" : " (process \(String(decoding: digits, as: UTF8.self)))"
    }
}
