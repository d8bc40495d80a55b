import Foundation
import GRDB
import Glibc
import System

extension SyncState {
    // MARK: Making and checking the file

    /// Makes the file before SQLite does, so that no moment exists in which others may read it; makes an existing one private.
    ///
    /// An existing file is not opened here except with `O_PATH`: closing any other descriptor would drop the locks of every SQLite
    /// connection that this process has to it.
    static func createPrivately(_ path: String) throws(SyncError) {
        guard try !exists(path) else { return try makePrivate(path) }
        do throws(PrivateFile.Failure) {
            Glibc.close(try PrivateFile.open(path, O_RDWR | O_CREAT | O_EXCL))
        } catch {
            // Another process was faster.
            if error.code == EEXIST { return try makePrivate(path) }
            let place = folder(of: path)
            throw SyncError(
                .state,
                error.code == ENOENT
                    ? "the sync state \(path) can't be created: there is no folder \(place)"
                    : "the sync state can't be created: \(error)", advice: advice(error.code, path: path))
        }
    }

    /// Whether there is a file; an error for a symbolic link and for anything else that is not a regular file.
    static func exists(_ path: String) throws(SyncError) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            let code = errno
            if code == ENOENT { return false }
            throw SyncError(
                .state, "the sync state \(path) can't be opened: \(systemMessage(code))",
                advice: advice(code, path: path))
        }
        try check(status, path)
        return true
    }

    private static func check(_ status: stat, _ path: String) throws(SyncError) {
        switch status.st_mode & S_IFMT {
        case S_IFREG: return
        case S_IFLNK:
            throw SyncError(
                .state, "the sync state \(path) is a symbolic link, which is not followed",
                advice: advice(ELOOP, path: path))
        default:
            throw SyncError(
                .state, "the sync state \(path) is not a regular file",
                advice: "move it away, or name another path as sync.state")
        }
    }

    private static func makePrivate(_ path: String) throws(SyncError) {
        // O_PATH, which Swift's module of the C library doesn't have: such a descriptor has no part in locks.
        let descriptor = open(path, 0o10000000 | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else {
            let code = errno
            throw SyncError(
                .state, "the sync state \(path) can't be opened: \(systemMessage(code))",
                advice: advice(code, path: path))
        }
        defer { Glibc.close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return }
        try check(status, path)
        // Others' files keep the mode that they have.
        guard status.st_uid == geteuid(), status.st_mode & 0o077 != 0 else { return }
        _ = chmod("/proc/self/fd/\(descriptor)", 0o600)
    }

    /// An error unless SQLite has opened the file of that very path: it follows a symbolic link that was put there a moment ago.
    static func checkPlace(_ database: Database, path: String) throws {
        guard
            let opened = try String.fetchOne(
                database, sql: "SELECT file FROM pragma_database_list WHERE name = 'main'"),
            let place = realpath(folder(of: path), nil)
        else { return }
        defer { free(place) }
        let name = path.split(separator: "/", omittingEmptySubsequences: false).last.map(String.init) ?? path
        let folder = String(cString: place)
        guard opened != (folder == "/" ? "" : folder) + "/" + name else { return }
        throw SyncError(
            .state, "the sync state \(path) is a symbolic link, which is not followed",
            advice: advice(ELOOP, path: path))
    }

    /// What can be done about a state, its lock or its folder that can't be used for this reason.
    static func advice(_ code: Int32, path: String) -> String { FileAdvice.text(code, path: path, key: "sync.state") }

    // MARK: Damage

    /// How many damaged states are kept; one that comes after them is removed.
    private static let keptDamaged = 4

    /// What a file is that SQLite can't read.
    enum Wreck: Equatable {
        /// A sync state, or what is left of one.
        case ours
        /// A sync state of a newer version.
        case newer
        /// Something else, which must be left as it is.
        case foreign
    }

    /// Judges a file that SQLite calls damaged, or no database, by its first bytes; where they say nothing, by whether a sync has
    /// used this path before, which shows in its lock. What looks like text is nobody's database.
    ///
    /// - Parameter wasUsed: whether there was a lock beside the file before this sync made its own.
    static func wreck(_ path: String, wasUsed: Bool) -> Wreck {
        guard let descriptor = try? PrivateFile.open(path, O_RDONLY) else { return .foreign }
        defer { Glibc.close(descriptor) }
        var header = [UInt8](repeating: 0, count: 100)
        let count = max(0, pread(descriptor, &header, header.count, 0))
        func number(at place: Int) -> Int { header[place..<place + 4].reduce(0) { $0 << 8 | Int($1) } }
        if count == header.count, number(at: 68) == applicationID {
            return number(at: 60) > version ? .newer : .ours
        }
        if header.allSatisfy({ $0 == 0 }) { return .ours }
        // Damage doesn't make text of a database: somebody has put it there.
        if isText(header.prefix(count)) { return .foreign }
        return wasUsed ? .ours : .foreign
    }

    private static func isText(_ bytes: ArraySlice<UInt8>) -> Bool {
        // The last character may be cut.
        let text = String(decoding: bytes, as: UTF8.self).unicodeScalars.dropLast(3)
        return !text.isEmpty
            && text.allSatisfy {
                $0 != "\u{fffd}" && ($0.value >= 0x20 && $0.value != 0x7f || "\t\n\r".unicodeScalars.contains($0))
            }
    }

    /// Whether an earlier sync has used the path.
    static func wasUsed(_ path: String) -> Bool {
        var status = stat()
        return lstat(SyncLock.path(state: path), &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    /// Moves a damaged state out of the way, with what SQLite keeps beside it.
    ///
    /// - Returns: the new path; nil if it was removed, as there are several already.
    static func moveAside(_ path: String, at time: Date = Date()) throws(SyncError) -> String? {
        let name = path.split(separator: "/", omittingEmptySubsequences: false).last.map(String.init) ?? path
        let others = (try? FileManager.default.contentsOfDirectory(atPath: folder(of: path))) ?? []
        let kept = others.filter { $0.hasPrefix("\(name).damaged-") && !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") }
        guard kept.count < keptDamaged else {
            for suffix in ["", "-wal", "-shm"] where unlink(path + suffix) != 0 && errno != ENOENT {
                throw notMoved(path, errno)
            }
            return nil
        }
        let stamp = time.formatted(
            .iso8601.year().month().day().dateSeparator(.omitted).time(includingFractionalSeconds: false).timeSeparator(
                .omitted
            ).timeZone(separator: .omitted))
        for number in 0..<10 {
            let target = "\(path).damaged-\(stamp)" + (number == 0 ? "" : ".\(number)")
            // The database first: SQLite drops a log without its database, but would take a database without its log for a sound one.
            for suffix in ["", "-wal", "-shm"] {
                let code = rename(path + suffix, to: target + suffix)
                if code == 0 || !suffix.isEmpty && code == ENOENT { continue }
                if suffix.isEmpty, code == EEXIST { break }
                throw notMoved(path, code)
            }
            if access(target, F_OK) == 0, access(path, F_OK) != 0 { return target }
        }
        throw notMoved(path, EEXIST)
    }

    private static func notMoved(_ path: String, _ code: Int32) -> SyncError {
        SyncError(
            .state, "the sync state \(path) is damaged, and can't be moved aside: \(systemMessage(code))",
            advice: advice(code, path: path))
    }

    /// A rename that never replaces anything; an errno, or 0.
    private static func rename(_ path: String, to target: String) -> Int32 {
        if link(path, target) == 0 { return unlink(path) == 0 ? 0 : errno }
        guard errno == EPERM || errno == EOPNOTSUPP || errno == EMLINK else { return errno }
        // For file systems without a second name of a file.
        var status = stat()
        if lstat(target, &status) == 0 { return EEXIST }
        return Glibc.rename(path, target) == 0 ? 0 : errno
    }
}
