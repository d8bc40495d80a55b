import GRDB

extension LogError {
    /// What SQLite's refusal means for a rejection log.
    init(_ error: any Error, path: String, doing: String) {
        if let error = error as? LogError {
            self = error
            return
        }
        guard let error = error as? DatabaseError else {
            self.init(.failed, path, "can't \(doing) the rejection log \(path): \(error)")
            return
        }
        let words = error.message ?? "\(error.resultCode)"
        switch error.resultCode {
        case .SQLITE_NOTADB:
            self.init(.notALog, path, "\(path) is not a rejection log: it is no SQLite database; it was left as it is")
        case .SQLITE_CORRUPT:
            self.init(
                .corrupt, path,
                "the rejection log \(path) is damaged (\(words)); move it away, and a new one is made at the next start"
            )
        case .SQLITE_PERM, .SQLITE_READONLY, .SQLITE_AUTH:
            self.init(.permission, path, "can't \(doing) the rejection log \(path): \(words)")
        case .SQLITE_CANTOPEN:
            self.init(
                .permission, path,
                "can't \(doing) the rejection log \(path): \(words); the file and its folder must be accessible to this user"
            )
        case .SQLITE_FULL:
            self.init(.failed, path, "can't \(doing) the rejection log \(path): the disk is full")
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self.init(.failed, path, "can't \(doing) the rejection log \(path): another program keeps it locked")
        default:
            self.init(.failed, path, "can't \(doing) the rejection log \(path): \(words)")
        }
    }
}
