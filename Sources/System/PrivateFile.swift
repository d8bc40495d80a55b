import Glibc

/// Opens files safely in a folder that another user may own: symbolic links aren't followed, and a file that root
/// creates belongs to the folder's owner.
public enum PrivateFile {
    /// Why a file can't be opened.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        /// The error number, such as `ELOOP` for a symbolic link.
        public let code: Int32
        /// A sentence with the path and the reason.
        public let description: String
    }

    /// Opens a regular file; a new file has mode 0600 and, if root creates it, the owner of its folder. `openat(2)`.
    ///
    /// - Parameters:
    ///   - path: the last component must not be a symbolic link; the others may be.
    ///   - flags: such as `O_RDWR | O_CREAT`; `O_CLOEXEC`, `O_NOFOLLOW` and `O_NONBLOCK` are always added.
    /// - Returns: a descriptor that the caller closes.
    public static func open(_ path: String, _ flags: Int32) throws(Failure) -> Int32 {
        let place = folder(of: path)
        let directory = Glibc.open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else {
            let code = errno
            throw failure(path, "its folder \(place): \(systemMessage(code))", code)
        }
        defer { close(directory) }
        let name = String(path[(path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex)...])
        let always = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
        var descriptor: Int32 = -1
        var isNew = false
        if flags & O_CREAT != 0 {
            descriptor = openat(directory, name, flags | O_EXCL | always, 0o600)
            isNew = descriptor >= 0
            if !isNew, errno != EEXIST { throw failure(path, systemMessage(), errno) }
        }
        if !isNew {
            guard flags & O_EXCL == 0 || flags & O_CREAT == 0 else {
                throw failure(path, systemMessage(EEXIST), EEXIST)
            }
            descriptor = openat(directory, name, flags & ~O_CREAT | always)
        }
        guard descriptor >= 0 else {
            let code = errno
            throw failure(
                path, code == ELOOP ? "it is a symbolic link, which is not followed here" : systemMessage(code), code)
        }
        do throws(Failure) {
            try check(descriptor, path)
            if isNew { try giveToOwner(descriptor, of: directory, path) }
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    private static func check(_ descriptor: Int32, _ path: String) throws(Failure) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(path, systemMessage(), errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw failure(path, "it is not a regular file", EINVAL) }
    }

    /// Gives a file that root has created to the owner of its folder, who couldn't use it otherwise.
    private static func giveToOwner(_ descriptor: Int32, of directory: Int32, _ path: String) throws(Failure) {
        guard geteuid() == 0 else { return }
        var status = stat()
        guard fstat(directory, &status) == 0 else { throw failure(path, systemMessage(), errno) }
        guard status.st_uid != 0 else { return }
        guard fchown(descriptor, status.st_uid, status.st_gid) == 0 else {
            throw failure(path, "it can't be given to its folder's owner: \(systemMessage())", errno)
        }
    }

    private static func failure(_ path: String, _ reason: String, _ code: Int32) -> Failure {
        Failure(code: code, description: "\(path): \(reason)")
    }
}
