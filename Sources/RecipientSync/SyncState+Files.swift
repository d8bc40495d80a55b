import Foundation
import GRDB
import Glibc
import RecipientSources
import System

extension SyncState {
    // MARK: The file

    /// Creates the file with mode 0600 before SQLite does, so that nobody else can ever read it; makes an existing file private.
    ///
    /// An existing file is opened with `O_PATH` only: closing any other descriptor would drop the locks of all SQLite connections that
    /// this process has to it.
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

    /// Whether there is a regular file; an error if there is anything else, such as a symbolic link.
    static func exists(_ path: String) throws(SyncError) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            let code = errno
            if code == ENOENT { return false }
            throw unusable(path, "can't be opened", code: code)
        }
        try check(status, path)
        return true
    }

    /// The error of a state or its lock that a system call can't use.
    private static func unusable(_ path: String, _ problem: String, code: Int32) -> SyncError {
        SyncError(
            .state, "the sync state \(path) \(problem): \(systemMessage(code))", advice: advice(code, path: path))
    }

    private static func isLink(_ path: String) -> SyncError {
        SyncError(
            .state, "the sync state \(path) is a symbolic link, which is not followed",
            advice: advice(ELOOP, path: path))
    }

    private static func check(_ status: stat, _ path: String) throws(SyncError) {
        switch status.st_mode & S_IFMT {
        case S_IFREG: return
        case S_IFLNK: throw isLink(path)
        default:
            throw SyncError(
                .state, "the sync state \(path) is not a regular file",
                advice: "move it away, or name another path as sync.state")
        }
    }

    private static func makePrivate(_ path: String) throws(SyncError) {
        // O_PATH, which Swift's Glibc module lacks: a descriptor that takes no part in locks.
        let descriptor = open(path, 0o10000000 | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else { throw unusable(path, "can't be opened", code: errno) }
        defer { Glibc.close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return }
        try check(status, path)
        // A file of another user keeps its mode.
        guard status.st_uid == geteuid(), status.st_mode & 0o077 != 0 else { return }
        _ = chmod("/proc/self/fd/\(descriptor)", 0o600)
    }

    /// Throws unless SQLite has opened the file at that very path: it would follow a symbolic link that was made a moment ago.
    static func checkPlace(_ database: Database, path: String) throws {
        guard
            let opened = try String.fetchOne(
                database, sql: "SELECT file FROM pragma_database_list WHERE name = 'main'"),
            let place = realpath(folder(of: path), nil)
        else { return }
        defer { free(place) }
        let name = name(of: path)
        let folder = String(cString: place)
        if opened != (folder == "/" ? "" : folder) + "/" + name { throw isLink(path) }
    }

    private static func name(of path: String) -> String {
        path.split(separator: "/", omittingEmptySubsequences: false).last.map(String.init) ?? path
    }

    /// What to do about a state, its lock or its folder that can't be used.
    ///
    /// - Parameter code: the error number.
    static func advice(_ code: Int32, path: String) -> String { FileAdvice.text(code, path: path, key: "sync.state") }

    // MARK: Damage

    /// How many damaged states are kept; further ones are removed.
    private static let keptDamaged = 4

    /// The kind of a file that SQLite can't read.
    enum DamagedFile: Equatable {
        /// A sync state, or what is left of one.
        case syncState
        /// A sync state of a newer version.
        case newerSyncState
        /// Another file, which must be left as it is.
        case other
    }

    /// The kind of a file that SQLite calls damaged, or no database. Its first bytes tell; if they don't, a file is a sync state if a
    /// sync has used its path before, which its lock shows. Text is never a sync state.
    ///
    /// - Parameter wasUsed: whether there was a lock beside the file before this sync made its own.
    static func damagedFile(_ path: String, wasUsed: Bool) -> DamagedFile {
        guard let descriptor = try? PrivateFile.open(path, O_RDONLY) else { return .other }
        defer { Glibc.close(descriptor) }
        var header = [UInt8](repeating: 0, count: 100)
        let count = max(0, pread(descriptor, &header, header.count, 0))
        func number(at place: Int) -> Int { header[place..<place + 4].reduce(0) { $0 << 8 | Int($1) } }
        if count == header.count, number(at: 68) == applicationID {
            return number(at: 60) > version ? .newerSyncState : .syncState
        }
        if header.allSatisfy({ $0 == 0 }) { return .syncState }
        // Damage doesn't turn a database into text: somebody has put the text there.
        if isText(header.prefix(count)) { return .other }
        return wasUsed ? .syncState : .other
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

    /// Renames a damaged state and the files that SQLite keeps beside it.
    ///
    /// - Returns: the new path; nil if the state was removed, because several damaged ones are kept already.
    static func moveAside(_ path: String, at time: Date = Date()) throws(SyncError) -> String? {
        let name = name(of: path)
        let others = (try? FileManager.default.contentsOfDirectory(atPath: folder(of: path))) ?? []
        let kept = others.filter { $0.hasPrefix("\(name).damaged-") && !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") }
        guard kept.count < keptDamaged else {
            for suffix in ["", "-wal", "-shm"] where unlink(path + suffix) != 0 && errno != ENOENT {
                throw unusable(path, "is damaged and can't be removed", code: errno)
            }
            return nil
        }
        let format = Date.ISO8601FormatStyle(dateSeparator: .omitted, timeSeparator: .omitted)
        let stamp = time.formatted(format)
        for number in 0..<10 {
            let target = "\(path).damaged-\(stamp)" + (number == 0 ? "" : ".\(number)")
            // The database first: SQLite ignores a log without its database, but trusts a database without its log.
            for suffix in ["", "-wal", "-shm"] {
                let code = rename(path + suffix, to: target + suffix)
                if code == 0 || !suffix.isEmpty && code == ENOENT { continue }
                if suffix.isEmpty, code == EEXIST { break }
                throw unusable(path, "is damaged and can't be renamed", code: code)
            }
            if access(target, F_OK) == 0, access(path, F_OK) != 0 { return target }
        }
        throw unusable(path, "is damaged and can't be renamed", code: EEXIST)
    }

    /// Renames a file unless the target exists; returns an error number, or 0.
    private static func rename(_ path: String, to target: String) -> Int32 {
        if link(path, target) == 0 { return unlink(path) == 0 ? 0 : errno }
        guard errno == EPERM || errno == EOPNOTSUPP || errno == EMLINK else { return errno }
        // For file systems without hard links.
        var status = stat()
        if lstat(target, &status) == 0 { return EEXIST }
        return Glibc.rename(path, target) == 0 ? 0 : errno
    }
}

/// The lock that keeps other syncs from a state, in whatever process: flock(2) on a file beside the state. The kernel releases it when
/// the process dies.
final class SyncLock {
    private let descriptor: Int32

    static func path(state: String) -> String { state + ".lock" }

    /// Waits for the lock.
    ///
    /// - Parameters:
    ///   - state: the path of the state.
    ///   - patience: how long to wait for another sync to end.
    ///   - check: called while waiting; throws to give up.
    init(
        state: String, patience: Duration, check: () throws(SyncError) -> Void = { () throws(SyncError) in }
    ) throws(SyncError) {
        let path = Self.path(state: state)
        do throws(PrivateFile.Failure) {
            descriptor = try PrivateFile.open(path, O_RDWR | O_CREAT)
        } catch {
            throw SyncError(
                .state, "the sync's lock can't be used: \(error)", advice: SyncState.advice(error.code, path: path))
        }
        do throws(SyncError) {
            try lock(path: path, state: state, patience: patience, check: check)
        } catch {
            release()
            throw error
        }
        let text = Array("\(getpid())\n".utf8)
        _ = ftruncate(descriptor, 0)
        _ = pwrite(descriptor, text, text.count, 0)
    }

    private func lock(
        path: String, state: String, patience: Duration, check: () throws(SyncError) -> Void
    ) throws(SyncError) {
        let deadline = ContinuousClock.now + patience
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            let code = errno
            guard code == EWOULDBLOCK else {
                throw SyncError(.state, "\(path) can't be locked: \(systemMessage(code))")
            }
            guard ContinuousClock.now < deadline else {
                throw SyncError(.locked, Self.message(state: state, holder: holder))
            }
            try check()
            usleep(20_000)
        }
    }

    private static func message(state: String, holder process: Int?) -> String {
        if process == Int(getpid()) {
            return "an earlier sync of this program (process \(getpid())) still works on \(state); "
                + "this sync tries again when the earlier one has ended"
        }
        return "another sync\(process.map { " (process \($0))" } ?? "") works on \(state); try again when it has ended"
    }

    /// Releases the lock; the object must not be used afterwards.
    func release() { Glibc.close(descriptor) }

    /// The id of the process that has the lock.
    private var holder: Int? {
        var text = [UInt8](repeating: 0, count: 32)
        let count = pread(descriptor, &text, text.count, 0)
        guard count > 0 else { return nil }
        return Int(String(decoding: text.prefix { $0 != 0x0a && $0 != 0 }, as: UTF8.self))
    }
}
