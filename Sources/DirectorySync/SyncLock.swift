import Glibc
import System

/// Keeps two syncs on one state apart, whichever processes they are in, with flock(2) on a file beside the state; a process
/// that dies gives it up.
final class SyncLock {
    private let descriptor: Int32

    /// - Parameters:
    ///   - state: the path of the state.
    ///   - patience: how long another sync may go on before this gives up.
    init(state: String, patience: Duration) throws(SyncError) {
        let path = state + ".lock"
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw SyncError(.state, "the lock \(path) can't be opened: \(systemMessage())")
        }
        let deadline = ContinuousClock.now + patience
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            let code = errno
            guard code == EWOULDBLOCK, ContinuousClock.now < deadline else {
                let holder = Self.holder(descriptor)
                Glibc.close(descriptor)
                throw code == EWOULDBLOCK
                    ? SyncError(
                        .locked,
                        "another sync\(holder.map { " (process \($0))" } ?? "") works on \(state); try again when it has ended"
                    )
                    : SyncError(.state, "\(path) can't be locked: \(systemMessage(code))")
            }
            usleep(20_000)
        }
        let text = Array("\(getpid())\n".utf8)
        _ = ftruncate(descriptor, 0)
        _ = pwrite(descriptor, text, text.count, 0)
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
