import Foundation
import Glibc
import System

/// The database as a file: its path, and the lock file `…-lock`, which keeps a second writer out while this value
/// lives.
///
/// The folder may be a symbolic link. The database and the files beside it must not be links, because the folder may
/// belong to another user than the one that runs the filter.
final class LogFile: Sendable {
    /// The path of the database, its folder without symbolic links.
    let path: String
    private let lock: CInt

    /// Locks the database, which need not exist yet.
    init(path given: String) throws(LogError) {
        let path = Self.canonical(given)
        let folder = folder(of: path)
        var status = stat()
        guard stat(folder, &status) == 0 else {
            throw Self.refused(path, "its folder \(folder)", errno)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw LogError(
                .notFound, path, "can't open the rejection log \(path): \(folder) is not a folder",
                advice: Self.folderAdvice)
        }
        guard access(folder, W_OK | X_OK) == 0 else {
            throw Self.refused(path, "its folder \(folder) must be writable", errno)
        }
        try Self.checkKind(path)
        do {
            lock = try PrivateFile.open(path + "-lock", O_RDWR | O_CREAT)
        } catch {
            throw Self.refused(path, "its lock file \(error)", error.code, isWhole: true)
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            let owner = Self.owner(lock)
            Glibc.close(lock)
            throw LogError(
                .inUse, path, "the rejection log \(path) is in use by another filter\(owner)",
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
        var status = stat()
        if lstat(path, &status) == 0 {
            guard access(path, R_OK | W_OK) == 0 else { throw Self.refused(path, "the file", errno) }
            return
        }
        let fresh = path + "-new"
        // An attempt that was interrupted may have left the file.
        unlink(fresh)
        do {
            Glibc.close(try PrivateFile.open(fresh, O_WRONLY | O_CREAT | O_EXCL))
        } catch {
            throw Self.refused(path, error.description, error.code, isWhole: true)
        }
        defer { unlink(fresh) }
        guard link(fresh, path) != 0, errno != EEXIST else { return }
        // Some file systems have no hard links.
        guard rename(fresh, path) == 0 else { throw Self.refused(path, "the file", errno) }
    }

    /// Moves the database and the files beside it to `PATH.damaged-YYYYMMDDTHHMMSSZ`, without overwriting a file.
    ///
    /// - Returns: the new path of the database.
    func moveAside(at time: Date) throws(LogError) -> String {
        let stamp = time.formatted(Self.stampStyle)
        var target = "\(path)\(Self.damagedMark)\(stamp)"
        for number in 2...1_000 where Self.sidecars.contains(where: { Self.exists(target + $0) }) {
            target = "\(path)\(Self.damagedMark)\(stamp)-\(number)"
        }
        // The database first: without its write-ahead log it would look undamaged, though its last commits are missing.
        // SQLite removes an old write-ahead log beside a new database.
        for suffix in Self.sidecars where Self.exists(path + suffix) {
            guard !Self.exists(target + suffix) else { throw Self.refused(path, "moving it aside", EEXIST) }
            guard rename(path + suffix, target + suffix) == 0 else {
                throw Self.refused(path, "it is damaged, and moving it aside", errno)
            }
        }
        return target
    }

    /// The time at which the newest damaged copy was moved aside; nil if there is none.
    var newestDamaged: Date? {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder(of: path))) ?? []
        return names.compactMap { other in
            guard other.hasPrefix(name + Self.damagedMark) else { return nil }
            let stamp = other.dropFirst(name.count + Self.damagedMark.count).prefix(16)
            return try? Date(String(stamp), strategy: Self.stampStyle)
        }.max()
    }

    private static var stampStyle: Date.ISO8601FormatStyle {
        Date.ISO8601FormatStyle(dateSeparator: .omitted, timeSeparator: .omitted)
    }
    private static let damagedMark = ".damaged-"
    private static let sidecars = ["", "-wal", "-shm", "-journal"]
    private static let folderAdvice = "create the folder and give it to the filter's user"

    private static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// Throws an error for symbolic links, and for a database that isn't a regular file.
    static func checkKind(_ path: String) throws(LogError) {
        var status = stat()
        for suffix in ["", "-wal", "-shm", "-journal"] where lstat(path + suffix, &status) == 0 {
            let kind = status.st_mode & S_IFMT
            if kind == S_IFLNK {
                throw LogError(
                    .permission, path,
                    "can't open the rejection log \(path): \(path)\(suffix) is a symbolic link, and Postern doesn't follow it",
                    advice: "give log.database the file's own path, or make the folder the link")
            }
            if kind != S_IFREG {
                throw LogError(
                    .notALog, path, "\(path)\(suffix) is not a rejection log: it is not a regular file",
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

    private static func refused(_ path: String, _ what: String, _ code: CInt, isWhole: Bool = false) -> LogError {
        let kind: LogError.Code =
            switch code {
            case ENOENT, ENOTDIR: .notFound
            case EACCES, EPERM, EROFS, ELOOP: .permission
            default: .failed
            }
        let advice: String =
            switch code {
            case ENOENT, ENOTDIR: folderAdvice
            case EROFS: "mount the file system for writing"
            case ENOSPC, EDQUOT: LogError.spaceAdvice
            case EACCES, EPERM, ELOOP: LogError.accessAdvice
            default: ""
            }
        return LogError(
            kind, path, "can't open the rejection log \(path): \(what)" + (isWhole ? "" : ": \(systemMessage(code))"),
            advice: advice)
    }

    private static func owner(_ descriptor: CInt) -> String {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        let digits = bytes.prefix(max(count, 0)).prefix { (48...57).contains($0) }
        return digits.isEmpty ? "" : " (process \(String(decoding: digits, as: UTF8.self)))"
    }
}
