package import Foundation
import Glibc

/// What tells one state of a file from another without reading it.
package struct FileStamp: Codable, Equatable, Sendable {
    var device: UInt64
    var inode: UInt64
    var size: Int64
    /// Last modification and last status change, in nanoseconds since 1970; the latter can't be set back.
    var modified: Int64
    var changed: Int64

    init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        modified = Self.nanoseconds(status.st_mtim)
        changed = Self.nanoseconds(status.st_ctim)
    }

    /// The stamp of what the path names now; nil if that can't be said.
    package init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    package init?(descriptor: Int32) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return nil }
        self.init(status)
    }

    /// Whether a further change would surely show in the stamp: clocks of file systems tick in milliseconds, some in seconds.
    package func isSettled(at time: Date) -> Bool {
        Double(max(modified, changed)) / 1e9 < time.timeIntervalSince1970 - 2
    }

    private static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}
