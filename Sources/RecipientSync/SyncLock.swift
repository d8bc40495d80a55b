import Glibc
import RecipientSources
import System

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
            try Self.lock(descriptor, path: path, state: state, patience: patience, check: check)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        let text = Array("\(getpid())\n".utf8)
        _ = ftruncate(descriptor, 0)
        _ = pwrite(descriptor, text, text.count, 0)
    }

    private static func lock(
        _ descriptor: Int32, path: String, state: String, patience: Duration, check: () throws(SyncError) -> Void
    ) throws(SyncError) {
        let deadline = ContinuousClock.now + patience
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            let code = errno
            guard code == EWOULDBLOCK else {
                throw SyncError(.state, "\(path) can't be locked: \(systemMessage(code))")
            }
            guard ContinuousClock.now < deadline else {
                throw SyncError(.locked, message(state: state, holder: holder(descriptor)))
            }
            try check()
            usleep(20_000)
        }
    }

    private static func message(state: String, holder process: Int?) -> String {
        if process == Int(getpid()) {
            return
                "an earlier sync of process \(getpid()), which is this one, hasn't ended and still works on \(state); "
                + "this sync tries again when that one has ended"
        }
        return "another sync\(process.map { " (process \($0))" } ?? "") works on \(state); try again when it has ended"
    }

    /// Releases the lock; the object must not be used afterwards.
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
