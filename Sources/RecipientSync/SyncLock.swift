import Glibc
import RecipientSources
import System

/// Keeps two syncs on one state apart, whichever processes they are in, with flock(2) on a file beside the state; a process
/// that dies gives it up.
final class SyncLock {
    private let descriptor: Int32

    /// The lock's file.
    static func path(state: String) -> String { state + ".lock" }

    /// - Parameters:
    ///   - state: the path of the state.
    ///   - patience: how long another sync may go on before this gives up.
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
            try Self.lock(descriptor, path, state, patience, check)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        let text = Array("\(getpid())\n".utf8)
        _ = ftruncate(descriptor, 0)
        _ = pwrite(descriptor, text, text.count, 0)
    }

    private static func lock(
        _ descriptor: Int32, _ path: String, _ state: String, _ patience: Duration,
        _ check: () throws(SyncError) -> Void
    ) throws(SyncError) {
        let deadline = ContinuousClock.now + patience
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            let code = errno
            guard code == EWOULDBLOCK else {
                throw SyncError(.state, "\(path) can't be locked: \(systemMessage(code))")
            }
            guard ContinuousClock.now < deadline else {
                throw SyncError(.locked, occupied(state, by: holder(descriptor)))
            }
            try check()
            usleep(20_000)
        }
    }

    private static func occupied(_ state: String, by process: Int?) -> String {
        if process == Int(getpid()) {
            return
                "an earlier sync of process \(getpid()), which is this one, hasn't ended and still works on \(state); "
                + "the next try is when it has"
        }
        return "another sync\(process.map { " (process \($0))" } ?? "") works on \(state); try again when it has ended"
    }

    /// Gives the lock up; the object is of no use afterwards.
    func release() {
        Glibc.close(descriptor)
    }

    private static func holder(_ descriptor: Int32) -> Int? {
        var text = [UInt8](repeating: 0, count: 32)
        let count = pread(descriptor, &text, text.count, 0)
        guard count > 0 else { return nil }
        return Int(String(decoding: text.prefix { $0 != 0x0a && $0 != 0 }, as: UTF8.self))
    }
}
