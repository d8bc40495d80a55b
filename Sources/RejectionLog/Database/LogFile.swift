import Foundation
import Glibc

/// The database's place on disk: its canonical path, its creation with narrow rights, and the sidecar `…-lock` that keeps
/// a second writer out for as long as this value's descriptor is open, whatever ends the process.
struct LogFile: ~Copyable {
    let path: String
    private let lock: CInt

    /// Creates the database file (empty, mode 0600) if it is missing, and takes the lock.
    init(path given: String) throws(LogError) {
        let path = Self.canonical(given)
        let folder = (path as NSString).deletingLastPathComponent
        var status = stat()
        guard stat(folder, &status) == 0 else {
            throw Self.refused(path, "its folder \(folder)", errno)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw LogError(.notFound, path, "can't open the rejection log \(path): \(folder) is not a folder")
        }
        guard access(folder, W_OK | X_OK) == 0 else {
            throw Self.refused(path, "its folder \(folder) must be writable", errno)
        }
        if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            throw LogError(.notALog, path, "\(path) is not a rejection log: it is not a regular file")
        }
        let sidecar = open(path + "-lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard sidecar >= 0 else { throw Self.refused(path, "its lock file \(path)-lock", errno) }
        guard flock(sidecar, LOCK_EX | LOCK_NB) == 0 else {
            let owner = Self.owner(sidecar)
            Glibc.close(sidecar)
            throw LogError(
                .inUse, path,
                "the rejection log \(path) is in use by another filter\(owner); each needs a database of its own")
        }
        let created = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        if created >= 0 {
            Glibc.close(created)
        } else if errno != EEXIST || access(path, R_OK | W_OK) != 0 {
            let reason = errno
            Glibc.close(sidecar)
            throw Self.refused(path, "the file", reason)
        }
        let text = "\(getpid())\n"
        if ftruncate(sidecar, 0) == 0 { _ = write(sidecar, text, text.utf8.count) }
        self.path = path
        lock = sidecar
    }

    deinit {
        Glibc.close(lock)
    }

    /// The path without symbolic links, so that two names of one database meet at one lock.
    static func canonical(_ path: String) -> String {
        if let real = realpath(path, nil) {
            defer { free(real) }
            return String(cString: real)
        }
        let parts = path as NSString
        let folder = parts.deletingLastPathComponent
        guard let real = realpath(folder.isEmpty ? "." : folder, nil) else { return path }
        defer { free(real) }
        return (String(cString: real) as NSString).appendingPathComponent(parts.lastPathComponent)
    }

    private static func refused(_ path: String, _ what: String, _ code: CInt) -> LogError {
        let kind: LogError.Code =
            switch code {
            case ENOENT, ENOTDIR: .notFound
            case EACCES, EPERM, EROFS, ELOOP: .permission
            default: .failed
            }
        return LogError(kind, path, "can't open the rejection log \(path): \(what): \(String(cString: strerror(code)))")
    }

    private static func owner(_ descriptor: CInt) -> String {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        let digits = bytes.prefix(max(count, 0)).prefix { (48...57).contains($0) }
        return digits.isEmpty ? "" : " (process \(String(decoding: digits, as: UTF8.self)))"
    }
}
