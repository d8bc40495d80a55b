import Foundation
import Glibc
import System

/// A new file beside the one that it will replace; removed again unless it is committed.
///
/// While it is written it is locked with flock(2), and the system unlocks it when the process dies: that tells a leftover, which the next
/// one removes, from the file of someone who is writing.
final class AtomicFile {
    let descriptor: Int32
    private let name: String
    private let temporary: String
    /// The folder, open: what is made, renamed and removed lies in that one, even if its path comes to name another.
    private let directory: Int32
    private var isCommitted = false

    private static let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    private static let suffixLength = 6

    /// Creates the file with mode 0640 and removes the leftovers of others. A file that root makes belongs to the folder's owner.
    init(replacing path: String) throws(IndexFault) {
        let place = folder(of: path)
        name = String(path[(path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex)...])
        guard !name.isEmpty, !path.utf8.contains(0) else {
            throw IndexFault(.notPublished(EISDIR), "can't be published: it is the name of a folder, not of a file")
        }
        let flags = O_DIRECTORY | O_CLOEXEC
        let opened = open(place, O_RDONLY | flags)
        // O_PATH, for a folder that can be written but not listed: there, the file may be lost in a power cut, which is said.
        directory = opened >= 0 ? opened : open(place, 0o10000000 | flags)
        guard directory >= 0 else { throw Self.failure("no file can be made in \(place)") }
        Self.removeLeftovers(in: directory, place, of: name)
        do throws(IndexFault) {
            (descriptor, temporary) = try Self.create(in: directory, place, for: name)
        } catch {
            close(directory)
            throw error
        }
        guard fchmod(descriptor, 0o640) == 0 else { throw Self.failure("its mode can't be set") }
        try giveToOwner(place)
    }

    deinit {
        if !isCommitted { unlinkat(directory, temporary, 0) }
        close(descriptor)
        close(directory)
    }

    /// Makes the file durable and gives it its name: fsync(2), rename(2), fsync(2) of the folder.
    func commit() throws(IndexFault) {
        guard fsync(descriptor) == 0 else { throw Self.failure("syncing it failed") }
        guard renameat(directory, temporary, directory, name) == 0 else {
            throw Self.failure("renaming it into place failed")
        }
        isCommitted = true
        // Some file systems can't sync a folder and say so with EINVAL.
        guard fsync(directory) == 0 || errno == EINVAL else { throw Self.doubt(errno) }
    }

    /// A filter that runs as the folder's owner must be able to read what root publishes.
    private func giveToOwner(_ folder: String) throws(IndexFault) {
        guard geteuid() == 0 else { return }
        var status = stat()
        guard fstat(directory, &status) == 0 else { throw Self.failure("the owner of \(folder) can't be found out") }
        guard status.st_uid != 0 else { return }
        guard fchown(descriptor, status.st_uid, status.st_gid) == 0 else {
            throw Self.failure("it can't be given to the owner of \(folder)")
        }
    }

    private static func create(
        in directory: Int32, _ folder: String, for name: String
    ) throws(IndexFault) -> (Int32, String) {
        for _ in 0..<100 {
            let suffix = String((0..<suffixLength).map { _ in letters.randomElement() ?? "x" })
            let temporary = ".\(name).\(suffix)"
            let descriptor = openat(directory, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            if descriptor < 0 && errno == EEXIST { continue }
            guard descriptor >= 0 else { throw failure("no file can be made in \(folder)") }
            // Someone who clears away leftovers may have been faster than the lock; where there are no locks, nobody clears anything away.
            var attributes = stat()
            let isLocked = flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK
            let isOurs = isLocked && fstat(descriptor, &attributes) == 0 && attributes.st_nlink > 0
            if isOurs { return (descriptor, temporary) }
            close(descriptor)
        }
        throw IndexFault(.notPublished(EEXIST), "can't be published: no free name for a temporary file in \(folder)")
    }

    /// Removes files of exactly our pattern that nobody holds locked. What can't be removed is left: it does no harm.
    private static func removeLeftovers(in directory: Int32, _ folder: String, of name: String) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        for other in names where other.hasPrefix(".\(name).") {
            let suffix = other.dropFirst(name.count + 2)
            guard suffix.count == suffixLength, suffix.allSatisfy({ letters.contains($0) }) else { continue }
            let descriptor = openat(directory, other, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            var attributes = stat()
            if fstat(descriptor, &attributes) == 0, attributes.st_mode & S_IFMT == S_IFREG,
                flock(descriptor, LOCK_EX | LOCK_NB) == 0
            {
                unlinkat(directory, other, 0)
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
