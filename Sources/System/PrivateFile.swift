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
        let name = fileName(of: path)
        let always = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
        var descriptor: Int32 = -1
        var isNew = false
        if flags & O_CREAT != 0 {
            descriptor = openat(directory, name, flags | O_EXCL | always, 0o600)
            isNew = descriptor >= 0
            if !isNew, errno != EEXIST { throw failure(path, systemMessage(), errno) }
        }
        if !isNew {
            let mustBeNew = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL
            guard !mustBeNew else { throw failure(path, systemMessage(EEXIST), EEXIST) }
            descriptor = openat(directory, name, flags & ~O_CREAT | always)
        }
        guard descriptor >= 0 else {
            let code = errno
            throw failure(
                path, code == ELOOP ? "it is a symbolic link, which is not followed here" : systemMessage(code), code)
        }
        do throws(Failure) {
            var status = stat()
            guard fstat(descriptor, &status) == 0 else { throw failure(path, systemMessage(), errno) }
            guard status.st_mode & S_IFMT == S_IFREG else { throw failure(path, "it is not a regular file", EINVAL) }
            guard !isNew || FolderOwner.giveFile(descriptor, ofFolder: directory) else {
                throw failure(path, "it can't be given to its folder's owner: \(systemMessage())", errno)
            }
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    private static func failure(_ path: String, _ reason: String, _ code: Int32) -> Failure {
        Failure(code: code, description: "\(path): \(reason)")
    }
}

/// Lets root write to a folder of another user: as that user, or leaving the user its new files.
///
/// Otherwise, root might follow a link of that user's to another place, and would leave files that the user can't
/// write.
public enum FolderOwner {
    /// Why a command can't act as the folders' owner.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        /// A sentence for the administrator.
        public let description: String
    }

    /// Makes the process act as the owner of the folders, with the owner's groups, and gives up root's rights for good.
    ///
    /// Does nothing unless the process is root's and another user owns one of the folders. Must be called before other
    /// threads are started.
    ///
    /// - Parameter folders: the absolute paths of the folders to write to; the folders above each count, too.
    /// - Returns: the name of the user that the process acts as now; nil if nothing has changed.
    @discardableResult
    public static func become(for folders: [String]) throws(Failure) -> String? {
        guard geteuid() == 0 else { return nil }
        var owners: [(folder: String, user: uid_t)] = []
        for folder in folders {
            guard let (place, user) = owner(of: folder), user != 0 else { continue }
            if !owners.contains(where: { $0.user == user }) { owners.append((place, user)) }
        }
        guard let first = owners.first else { return nil }
        guard owners.count == 1 else {
            let list = owners.map { "\($0.folder) to \(name(of: $0.user))" }.joined(separator: ", ")
            throw Failure(
                description: "postern, run by root, acts as the owner of the folders that it writes to, "
                    + "but these belong to several users: \(list); run it as the filter's user")
        }
        try become(first.user, for: first.folder)
        return name(of: first.user)
    }

    /// Gives a file that root has just created to the owner of its folder, who couldn't use it otherwise. `fchown(2)`.
    ///
    /// - Returns: false if that failed; `errno` has the reason.
    static func giveFile(_ descriptor: Int32, ofFolder directory: Int32) -> Bool {
        guard geteuid() == 0 else { return true }
        var status = stat()
        guard fstat(directory, &status) == 0 else { return false }
        return status.st_uid == 0 || fchown(descriptor, status.st_uid, status.st_gid) == 0
    }

    /// The user who controls where the path leads: the owner of the deepest folder in it that isn't root's, who could
    /// put a link there; nil if all are root's.
    private static func owner(of path: String) -> (folder: String, user: uid_t)? {
        var place = path.isEmpty ? "." : path
        while true {
            var status = stat()
            if stat(place, &status) == 0, status.st_uid != 0 { return (place, status.st_uid) }
            let parent = folder(of: place)
            guard parent != place else { return nil }
            place = parent
        }
    }

    private static func become(_ user: uid_t, for folder: String) throws(Failure) {
        let entry = getpwuid(user)
        let (group, login) = entry.map { ($0.pointee.pw_gid, String(cString: $0.pointee.pw_name)) } ?? (gid_t(user), "")
        let hasGroups = login.isEmpty ? setgroups(0, nil) == 0 : initgroups(login, group) == 0
        guard hasGroups, setgid(group) == 0, setuid(user) == 0 else {
            let reason = systemMessage()
            throw Failure(
                description: "\(folder) belongs to \(name(of: user)), and postern can't act as that user: \(reason)")
        }
    }

    private static func name(of user: uid_t) -> String {
        guard let entry = getpwuid(user) else { return "user \(user)" }
        return String(cString: entry.pointee.pw_name)
    }
}
