public import Foundation
public import Glibc

/// Why a part of the running filter, such as the log, doesn't work at present, while the rest goes on.
///
/// A part reports a failure when it stops working, tries again by itself, and reports nil when it works again.
public struct PartFailure: Error, Sendable, Equatable, Codable, CustomStringConvertible {
    /// One sentence for an administrator: the subject, then what happened, with the values.
    public var reason: String
    /// The remedy, as a clause.
    public var advice: String
    /// The time at which the part stopped working.
    public var since: Date
    /// The time of the next try; nil if only an administrator can mend the part.
    public var nextTry: Date?

    /// A failure; by default one that begins now.
    public init(reason: String, advice: String, since: Date = Date(), nextTry: Date? = nil) {
        self.reason = reason
        self.advice = advice
        self.since = since
        self.nextTry = nextTry
    }

    /// The reason.
    public var description: String { reason }
}

/// Advice about files that can't be used.
public enum FileAdvice {
    /// The remedy for a file that can't be opened or written, as a clause.
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
        default: return "check the permissions of \(path) and its folder; the sync then resumes without a restart"
        }
    }
}

/// The system's text for an error number, such as "No such file or directory"; `strerror_r(3)`.
///
/// - Parameter code: an `errno` value; by default that of the last call of the thread.
public func systemMessage(_ code: Int32 = errno) -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
