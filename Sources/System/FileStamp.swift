public import Foundation
import Glibc

/// The identity, size and times of a file: a change of the file shows in its stamp, without reading the file.
public struct FileStamp: Codable, Hashable, Sendable {
    /// The device that holds the file.
    public var device: UInt64
    /// The file's number on its device.
    public var inode: UInt64
    /// The size in bytes.
    public var size: Int64
    /// The last change of the content, in nanoseconds since 1970. The file's owner can set this time.
    public var modified: Int64
    /// The last change of content, name, owner or mode, in nanoseconds since 1970. Nobody can set this time.
    public var changed: Int64

    /// The stamp in the result of `stat(2)`.
    public init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        modified = Self.nanoseconds(status.st_mtim)
        changed = Self.nanoseconds(status.st_ctim)
    }

    /// The stamp of the file at a path; nil if there is none or it can't be examined. `stat(2)`, `lstat(2)`.
    ///
    /// - Parameter followsLinks: whether the stamp of a symbolic link is that of the file that it leads to.
    public init?(path: String, followsLinks: Bool = true) {
        var status = stat()
        guard (followsLinks ? stat(path, &status) : lstat(path, &status)) == 0 else { return nil }
        self.init(status)
    }

    /// The stamp of an open file; nil if it can't be examined. `fstat(2)`.
    public init?(descriptor: Int32) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return nil }
        self.init(status)
    }

    /// Whether both stamps are of the same file, whatever was written to it in between.
    public func isSameFile(as other: FileStamp) -> Bool { device == other.device && inode == other.inode }

    /// Whether nobody has written to the file between the two stamps. The change time is left out: renaming and linking
    /// change it, too.
    public func hasSameContent(as other: FileStamp) -> Bool {
        isSameFile(as: other) && size == other.size && modified == other.modified
    }

    /// Whether a change after this time would surely show in the stamp: the clocks of file systems tick in
    /// milliseconds, some in seconds.
    public func isSettled(at time: Date) -> Bool {
        Double(max(modified, changed)) / 1e9 < time.timeIntervalSince1970 - 2
    }

    private static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}

/// Tells whether the disk fails to read a file, which SQLite reports as damaged (`SQLITE_IOERR_CORRUPTFS`).
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

/// The folder of a file's path, as `dirname(1)` prints it: "." for a name without a slash.
public func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

/// The last component of a file's path; empty if the path ends with a slash.
func fileName(of path: String) -> String {
    String(path.split(separator: "/", omittingEmptySubsequences: false).last ?? "")
}
