import Glibc

/// Advice about files that can't be used.
public enum FileAdvice {
    /// What an administrator can do about a file that can't be opened or written for this reason, as a clause.
    ///
    /// - Parameters:
    ///   - code: an errno.
    ///   - key: the key of the configuration that names the file.
    public static func text(_ code: Int32, path: String, key: String? = nil) -> String {
        let place = folder(of: path)
        switch code {
        case ENOSPC, EDQUOT: return "make room on the file system of \(place)"
        case EROFS: return "mount the file system of \(place) for writing"
        case ENOENT, ENOTDIR:
            return "make the folder \(place), writable for the filter's user" + (key.map { ", or correct \($0)" } ?? "")
        case ELOOP: return "remove the link, or name the file that it leads to in the configuration"
        case EACCES, EPERM:
            var status = stat()
            guard stat(path, &status) == 0 || stat(place, &status) == 0, status.st_uid != geteuid() else {
                return "give the filter's user the right to write \(path) and \(place)"
            }
            return
                "it belongs to user \(status.st_uid), and postern runs as user \(geteuid()): chown it to the filter's user"
        default: return "see to \(path) and its folder; the sync goes on by itself afterwards"
        }
    }
}

/// Tells whether the disk fails to read a file. SQLite reports such a file as damaged (`SQLITE_IOERR_CORRUPTFS`).
public enum FileProbe {
    /// The error number of the first file that can't be read whole; nil if all can be read. `read(2)`.
    ///
    /// Must not be called while SQLite has one of the files open in this process: closing a descriptor drops the
    /// process's locks on its file.
    ///
    /// - Parameter paths: files, which needn't exist.
    public static func failure(reading paths: [String]) -> Int32? {
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        for path in paths {
            let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
            guard descriptor >= 0 else {
                if errno == ENOENT { continue }
                return errno
            }
            defer { close(descriptor) }
            while true {
                let count = read(descriptor, &buffer, buffer.count)
                if count == 0 { break }
                if count < 0 && errno != EINTR { return errno }
            }
        }
        return nil
    }
}
