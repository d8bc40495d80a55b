import Glibc

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
