import Glibc

/// The user that owns the folders which a command writes to.
///
/// Root in a folder of somebody else could be led by that user to write elsewhere, and leaves files behind that the
/// user can't write. So a command that root runs there acts as the folder's owner.
public enum FolderOwner {
    /// Why a command of root's can't act as the owner.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        /// What to tell the administrator.
        public let description: String
    }

    /// Gives up root's rights for good and goes on as the owner of the folders, if a user other than root owns one of
    /// them.
    ///
    /// Groups are those of that user. Nothing happens unless root calls, and while all folders are root's or missing.
    /// To be called before other threads are started.
    ///
    /// - Parameter folders: the folders that will be written to, by absolute paths; the parents of each count too.
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
                description: "run by root, postern acts as the owner of the folders that it writes to, "
                    + "but they belong to several users: \(list); run it as the filter's user")
        }
        try become(first.user, for: first.folder)
        return name(of: first.user)
    }

    /// The user who decides where the path leads: the owner of the deepest of its folders that isn't root's, since that
    /// user may have put a link there; root where all are root's.
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
