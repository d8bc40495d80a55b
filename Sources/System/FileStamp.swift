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

    /// The stamp of the file at a path; nil if there is none or it can't be examined. Symbolic links are followed;
    /// `stat(2)`.
    public init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
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
