import Glibc

/// Lets a command that root runs act as the owner of the folders that it writes to.
///
/// In a folder of another user, root might follow a link of that user's to another place, and would leave files that
/// the user can't write.
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
    /// - Throws: ``Failure`` if the folders belong to several users, or the change of user fails.
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
            throw Failure(
                description:
                    "\(folder) belongs to \(name(of: user)), and postern can't act as that user: \(systemMessage())")
        }
    }

    private static func name(of user: uid_t) -> String {
        guard let entry = getpwuid(user) else { return "user \(user)" }
        return String(cString: entry.pointee.pw_name)
    }
}
