import Foundation
import Glibc
import System

/// A new file beside the one that it will replace; removed again unless it is committed.
///
/// While it is written it is locked with flock(2), and the system unlocks it when the process dies: that tells a leftover, which the next
/// one removes, from the file of someone who is writing.
final class AtomicFile {
    let descriptor: Int32
    private let path: String
    private let temporary: String
    private let folder: String
    private var isCommitted = false

    private static let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    private static let suffixLength = 6

    /// Creates the file with mode 0640 and removes the leftovers of others.
    init(replacing path: String) throws(IndexFault) {
        let slash = path.lastIndex(of: "/")
        let name = String(slash.map { path[path.index(after: $0)...] } ?? path[...])
        folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        guard !name.isEmpty, !path.utf8.contains(0) else {
            throw IndexFault(.notPublished(EISDIR), "can't be published: it is the name of a folder, not of a file")
        }
        self.path = path
        Self.removeLeftovers(in: folder, of: name)
        (descriptor, temporary) = try Self.create(in: folder, for: name)
        guard fchmod(descriptor, 0o640) == 0 else { throw Self.failure("its mode can't be set") }
    }

    deinit {
        if !isCommitted { unlink(temporary) }
        close(descriptor)
    }

    /// Makes the file durable and gives it its name: fsync(2), rename(2), fsync(2) of the folder.
    func commit() throws(IndexFault) {
        guard fsync(descriptor) == 0 else { throw Self.failure("syncing it failed") }
        guard rename(temporary, path) == 0 else { throw Self.failure("renaming it into place failed") }
        isCommitted = true
        let opened = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { throw Self.doubt(errno) }
        defer { close(opened) }
        // Some file systems can't sync a folder and say so with EINVAL.
        guard fsync(opened) == 0 || errno == EINVAL else { throw Self.doubt(errno) }
    }

    private static func create(in folder: String, for name: String) throws(IndexFault) -> (Int32, String) {
        for _ in 0..<100 {
            let suffix = String((0..<suffixLength).map { _ in letters.randomElement() ?? "x" })
            let temporary = "\(folder)/.\(name).\(suffix)"
            let descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            if descriptor < 0 && errno == EEXIST { continue }
            guard descriptor >= 0 else { throw failure("no file can be made in \(folder)") }
            // Someone who clears away leftovers may have been faster than the lock.
            var attributes = stat()
            let isOurs =
                flock(descriptor, LOCK_EX | LOCK_NB) == 0 && fstat(descriptor, &attributes) == 0
                && attributes.st_nlink > 0
            if isOurs { return (descriptor, temporary) }
            close(descriptor)
        }
        throw IndexFault(.notPublished(EEXIST), "can't be published: no free name for a temporary file in \(folder)")
    }

    /// Removes files of exactly our pattern that nobody holds locked. What can't be removed is left: it does no harm.
    private static func removeLeftovers(in folder: String, of name: String) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        for other in names where other.hasPrefix(".\(name).") {
            let suffix = other.dropFirst(name.count + 2)
            guard suffix.count == suffixLength, suffix.allSatisfy({ letters.contains($0) }) else { continue }
            let leftover = "\(folder)/\(other)"
            let descriptor = open(leftover, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            var attributes = stat()
            if fstat(descriptor, &attributes) == 0, attributes.st_mode & S_IFMT == S_IFREG,
                flock(descriptor, LOCK_EX | LOCK_NB) == 0
            {
                unlink(leftover)
            }
        }
    }

    private static func failure(_ doing: String, _ code: Int32 = errno) -> IndexFault {
        IndexFault(.notPublished(code), "can't be published: \(doing): \(systemMessage(code))")
    }

    private static func doubt(_ code: Int32) -> IndexFault {
        IndexFault(
            .notPublished(code),
            "is published, but may be lost in a power cut: its folder can't be synced: \(systemMessage(code))")
    }
}
