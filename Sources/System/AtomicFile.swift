import Foundation
public import Glibc

/// Replaces a file atomically and durably: whatever happens, its path has the whole old content or the whole new one.
///
/// The content is written to a temporary file in the same folder, `.<name>.<six letters or digits>`, which ``commit()``
/// renames. Without a commit, the temporary file is removed. It is locked with `flock(2)` while it is written. The kernel
/// unlocks it when the process dies: so the next writer removes a killed writer's file, and leaves that of a writer at
/// work.
public final class AtomicFile {
    /// Why a file wasn't replaced.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        /// The error number.
        public let code: Int32
        /// Whether the file was replaced all the same, and only may be lost in a power cut.
        public private(set) var isReplaced = false
        /// The step that failed, with the system's reason, as a clause without the file's name.
        public let description: String
    }

    /// The temporary file, open for reading and writing; closed by this object.
    public let descriptor: Int32
    private let name: String
    private let temporary: String
    /// The folder, kept open in case its path comes to name another folder.
    private let directory: Int32
    private var isCommitted = false

    private static let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    private static let suffixLength = 6

    /// Creates the temporary file and removes leftovers. If root creates it, it belongs to the folder's owner.
    ///
    /// - Parameters:
    ///   - path: the file to replace, which needn't exist; its folder must.
    ///   - mode: the permissions of the new file.
    public init(replacing path: String, mode: mode_t = 0o640) throws(Failure) {
        let place = folder(of: path)
        name = fileName(of: path)
        guard !name.isEmpty, !path.utf8.contains(0) else {
            throw Failure(code: EISDIR, description: "it is the name of a folder, not of a file")
        }
        let flags = O_DIRECTORY | O_CLOEXEC
        let opened = open(place, O_RDONLY | flags)
        // O_PATH opens a folder that can be written but not listed. It can't be synced: `commit` reports that the file
        // may be lost.
        directory = opened >= 0 ? opened : open(place, 0o10000000 | flags)
        guard directory >= 0 else { throw Failure("no file can be made in \(place)") }
        Self.removeLeftovers(in: directory, at: place, of: name)
        do throws(Failure) {
            (descriptor, temporary) = try Self.create(in: directory, at: place, for: name)
        } catch {
            close(directory)
            throw error
        }
        guard fchmod(descriptor, mode) == 0 else { throw Failure("its mode can't be set") }
        guard FolderOwner.giveFile(descriptor, ofFolder: directory) else {
            throw Failure("it can't be given to the owner of \(place)")
        }
    }

    deinit {
        if !isCommitted { unlinkat(directory, temporary, 0) }
        close(descriptor)
        close(directory)
    }

    /// Makes the content durable, gives the file its name and makes that durable: `fsync(2)`, `rename(2)`, `fsync(2)`
    /// of the folder.
    public func commit() throws(Failure) {
        guard fsync(descriptor) == 0 else { throw Failure("syncing it failed") }
        guard renameat(directory, temporary, directory, name) == 0 else {
            throw Failure("renaming it into place failed")
        }
        isCommitted = true
        // Some file systems can't sync a folder and say so with EINVAL.
        guard fsync(directory) == 0 || errno == EINVAL else {
            let code = errno
            throw Failure(
                code: code, isReplaced: true,
                description: "may be lost in a power cut: its folder can't be synced: \(systemMessage(code))")
        }
    }

    private static func create(
        in directory: Int32, at folder: String, for name: String
    ) throws(Failure) -> (Int32, String) {
        for _ in 0..<100 {
            let suffix = String((0..<suffixLength).map { _ in letters.randomElement() ?? "x" })
            let temporary = ".\(name).\(suffix)"
            let descriptor = openat(directory, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            if descriptor < 0 && errno == EEXIST { continue }
            guard descriptor >= 0 else { throw Failure("no file can be made in \(folder)") }
            // Another writer may have removed the file as a leftover before it was locked. Where there are no locks,
            // nobody removes any.
            var status = stat()
            let isLocked = flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK
            let isOurs = isLocked && fstat(descriptor, &status) == 0 && status.st_nlink > 0
            if isOurs { return (descriptor, temporary) }
            close(descriptor)
        }
        throw Failure(code: EEXIST, description: "no free name for a temporary file in \(folder)")
    }

    /// Removes temporary files that nobody holds locked. What can't be removed stays: it does no harm.
    private static func removeLeftovers(in directory: Int32, at folder: String, of name: String) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        for other in names where other.hasPrefix(".\(name).") {
            let suffix = other.dropFirst(name.count + 2)
            guard suffix.count == suffixLength, suffix.allSatisfy({ letters.contains($0) }) else { continue }
            let descriptor = openat(directory, other, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            var status = stat()
            if fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
                flock(descriptor, LOCK_EX | LOCK_NB) == 0
            {
                unlinkat(directory, other, 0)
            }
        }
    }
}

extension AtomicFile.Failure {
    /// A step that failed for a reason of the system.
    fileprivate init(_ step: String, _ code: Int32 = errno) {
        self.init(code: code, description: "\(step): \(systemMessage(code))")
    }
}
