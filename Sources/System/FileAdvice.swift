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
