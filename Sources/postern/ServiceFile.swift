import Foundation
import System

/// The file by which other processes find the running filter and learn what became of a reload: `…-serve`, beside the
/// rejection log, which no two filters share.
///
/// The filter holds a record lock on it (fcntl(2), `F_SETLK`) for as long as it lives. Who holds it is the kernel's word, so
/// a file that a dead filter left behind is known for what it is, and nobody signals a stranger that has its number. The
/// file is its owner's alone (mode 0600): a lock of somebody else's would keep the filter from starting.
///
///     4711
///     3 2 accepted
///     what there is to say of reload 2, on lines of their own
///
/// The process first; then how many reloads have begun, how many have ended, and what became of the last one.
enum ServiceFile {
    /// What became of a reload.
    enum Outcome: String, Sendable {
        case accepted, refused
    }

    /// What the file says of reloads.
    struct Reloads: Sendable, Equatable {
        var begun = 0
        var ended = 0
        var outcome = Outcome.accepted
        /// What there is to say of the last one.
        var message = ""
    }

    /// Why the file can't be had.
    struct Failure: Error, CustomStringConvertible {
        let description: String
        let exitStatus: Int32
        /// Whether another filter holds it.
        var isHeld = false
    }

    /// The file of the filter that keeps its log there.
    static func path(database: String) -> String { "\(database)-serve" }

    /// The whole file as the kernel's locks see it.
    private static func wholeFile(_ type: Int32) -> flock {
        var lock = flock()
        lock.l_type = Int16(type)
        lock.l_whence = Int16(SEEK_SET)
        return lock
    }

    // MARK: The filter's side

    /// The filter's hold on its file.
    final class Holder: Sendable {
        private let descriptor: Int32

        /// Makes the file, takes the lock and writes what there is to say of reloads.
        ///
        /// Nothing else in the process may open the file: the kernel drops a record lock with the first descriptor that is closed.
        init(database: String, _ reloads: Reloads) throws(Failure) {
            let path = ServiceFile.path(database: database)
            do throws(PrivateFile.Failure) {
                descriptor = try PrivateFile.open(path, O_RDWR | O_CREAT)
            } catch {
                throw Failure(description: "\(error)", exitStatus: ExitStatus.cannotCreate)
            }
            var lock = ServiceFile.wholeFile(F_WRLCK)
            guard fcntl(descriptor, F_SETLK, &lock) == 0 else {
                let code = errno
                close(descriptor)
                let isHeld = code == EAGAIN || code == EACCES
                throw Failure(
                    description:
                        "\(path) can't be locked: \(isHeld ? "another process holds it" : systemMessage(code))",
                    exitStatus: ExitStatus.unavailable, isHeld: isHeld)
            }
            write(reloads)
        }

        deinit { close(descriptor) }

        /// Says what is to be known of reloads.
        func write(_ reloads: Reloads) {
            // A visitor reads 64 KiB.
            let message = String(String.UnicodeScalarView(reloads.message.unicodeScalars.prefix(12_000)))
            let text = "\(getpid())\n\(reloads.begun) \(reloads.ended) \(reloads.outcome.rawValue)\n\(message)\n"
            let bytes = Array(text.utf8)
            // A full disk costs the message, not the filter.
            guard pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else { return }
            _ = ftruncate(descriptor, off_t(bytes.count))
        }
    }

    // MARK: The other side

    /// The running filter as another process sees it.
    final class Visitor {
        private let descriptor: Int32

        /// Opens the file of the filter that keeps its log there; nil where there is none.
        init?(database: String) throws(Failure) {
            let path = ServiceFile.path(database: database)
            descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            guard descriptor < 0 else { return }
            if errno == ENOENT { return nil }
            let isForbidden = errno == EACCES || errno == EPERM
            throw Failure(
                description: "\(path) can't be read: \(systemMessage())",
                exitStatus: isForbidden ? ExitStatus.notPermitted : ExitStatus.inputOutput)
        }

        deinit { close(descriptor) }

        /// The process that holds the lock; nil where the filter is gone, 0 where it is in a process namespace out of sight.
        var process: pid_t? {
            var lock = ServiceFile.wholeFile(F_WRLCK)
            guard fcntl(descriptor, F_GETLK, &lock) == 0, lock.l_type != Int16(F_UNLCK) else { return nil }
            return max(0, lock.l_pid)
        }

        /// What the file says; nil where it is half written.
        var reloads: Reloads? {
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            let count = pread(descriptor, &bytes, bytes.count, 0)
            guard count > 0 else { return nil }
            let lines = String(decoding: bytes[..<count], as: UTF8.self)
                .split(separator: "\n", maxSplits: 2, omittingEmptySubsequences: false)
            guard lines.count == 3, lines[2].hasSuffix("\n") else { return nil }
            let words = lines[1].split(separator: " ")
            guard words.count == 3, let begun = Int(words[0]), let ended = Int(words[1]),
                let outcome = Outcome(rawValue: String(words[2]))
            else { return nil }
            return Reloads(begun: begun, ended: ended, outcome: outcome, message: String(lines[2].dropLast()))
        }
    }
}
