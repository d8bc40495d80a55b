import Foundation
import Glibc
import System

/// The database's place on disk: its path, and the sidecar `…-lock` that keeps a second writer out for as long as this value
/// lives, whatever ends the process.
///
/// The folder may be reached through a symbolic link; the database and the files beside it must not be links, since the folder
/// may belong to somebody else than the user that runs the filter.
final class LogFile: Sendable {
    /// The database, its folder without symbolic links.
    let path: String
    private let lock: CInt

    /// Takes the lock; the database may be missing.
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
                advice: "give each filter a log.database of its own, or end the other one")
        }
        let text = "\(getpid())\n"
        if ftruncate(lock, 0) == 0 { _ = write(lock, text, text.utf8.count) }
        self.path = path
    }

    deinit {
        Glibc.close(lock)
    }

    /// Makes the database, empty and with mode 0600, if it is missing.
    ///
    /// Its descriptor is closed before it has its name: once SQLite has a file open, closing another descriptor of that file would
    /// drop the locks of the whole process (`fcntl(2)`, advisory record locking).
    func create() throws(LogError) {
        var status = stat()
        if lstat(path, &status) == 0 {
            guard access(path, R_OK | W_OK) == 0 else { throw Self.refused(path, "the file", errno) }
            return
        }
        let fresh = path + "-new"
        // Left by an attempt that was cut off.
        unlink(fresh)
        do {
            Glibc.close(try PrivateFile.open(fresh, O_WRONLY | O_CREAT | O_EXCL))
        } catch {
            throw Self.refused(path, error.description, error.code, isWhole: true)
        }
        defer { unlink(fresh) }
        guard link(fresh, path) != 0, errno != EEXIST else { return }
        // Some file systems have no links.
        guard rename(fresh, path) == 0 else { throw Self.refused(path, "the file", errno) }
    }

    /// Moves the database and the files beside it out of the way, to `PATH.damaged-YYYYMMDDTHHMMSSZ`; nothing is overwritten.
    ///
    /// - Returns: the new path of the database.
    func moveAside(at time: Date) throws(LogError) -> String {
        let stamp = time.formatted(Self.stampStyle)
        var target = "\(path)\(Self.damagedMark)\(stamp)"
        for number in 2...1_000 where Self.sidecars.contains(where: { Self.exists(target + $0) }) {
            target = "\(path)\(Self.damagedMark)\(stamp)-\(number)"
        }
        // The database first: without its write-ahead log it would look sound, though its last commits are missing. SQLite removes such a
        // log beside a new database.
        for suffix in Self.sidecars where Self.exists(path + suffix) {
            guard !Self.exists(target + suffix) else { throw Self.refused(path, "moving it aside", EEXIST) }
            guard rename(path + suffix, target + suffix) == 0 else {
                throw Self.refused(path, "it is damaged, and moving it aside", errno)
            }
        }
        return target
    }

    /// When the newest damaged copy beside the database was moved there; nil if there is none.
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
    private static let folderAdvice = "make the folder and give it to the filter's user"

    private static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// Refuses links, and a database that isn't a regular file.
    static func checkKind(_ path: String) throws(LogError) {
        var status = stat()
        for suffix in ["", "-wal", "-shm", "-journal"] where lstat(path + suffix, &status) == 0 {
            let kind = status.st_mode & S_IFMT
            if kind == S_IFLNK {
                throw LogError(
                    .permission, path,
                    "can't open the rejection log \(path): \(path)\(suffix) is a symbolic link, which is not followed here",
                    advice: "give log.database the file's own path, or make the folder the link")
            }
            if kind != S_IFREG {
                throw LogError(
                    .notALog, path, "\(path)\(suffix) is not a rejection log: it is not a regular file",
                    advice: "move it away, or give log.database another path")
            }
        }
    }

    /// The path with its folder's symbolic links resolved, so that two names of one database meet at one lock.
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
