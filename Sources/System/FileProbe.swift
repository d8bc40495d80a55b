import Glibc

/// Tells a damaged file from one that the disk doesn't give: SQLite calls both damaged (`SQLITE_IOERR_CORRUPTFS`).
public enum FileProbe {
    /// Reads the files from end to end with `read(2)`.
    ///
    /// Not to be called while SQLite has one of them open in this process: closing a descriptor drops the process's
    /// locks on its file.
    ///
    /// - Parameter paths: files; those that don't exist are passed over.
    /// - Returns: the error number of the first file that can't be read; nil where all can.
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
