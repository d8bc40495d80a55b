import Foundation

/// Why a file can't be used, in the words of the system.
enum FileFault {
    /// Why the file can't be opened for reading; nil when it can.
    static func reason(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return String(cString: strerror(errno)) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return String(cString: strerror(errno)) }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return nil
        case S_IFDIR: return String(cString: strerror(EISDIR))
        default: return "not a regular file"
        }
    }

    /// Why the file can't be run as a program; nil when it can.
    static func reasonNotExecutable(_ path: String) -> String? {
        guard access(path, X_OK) != 0 else { return nil }
        let message = String(cString: strerror(errno))
        return reason(path) ?? message
    }

    /// Whether two paths name the same file, also through links.
    static func isSame(_ first: String, _ second: String) -> Bool {
        if canonical(first) == canonical(second) { return true }
        var (a, b) = (stat(), stat())
        return stat(first, &a) == 0 && stat(second, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino
    }

    private static func canonical(_ path: String) -> String {
        URL(fileURLWithPath: path).standardizedFileURL.resolvingSymlinksInPath().path
    }
}
