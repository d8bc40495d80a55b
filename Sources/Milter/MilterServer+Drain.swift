import CMilter
import Glibc
import Synchronization

extension MilterServer {
    /// Lets the calls in progress end and their answers go out, holds back all others, and removes the unix socket.
    ///
    /// Afterwards every verdict that a session gave has been written to its MTA, and no session is called again: what
    /// they recorded can be saved, and the process ended. MTAs then find their connections closed and do by default as
    /// they are configured. There is no way back.
    ///
    /// `smfi_stop` is not for this: it ends libmilter's threads with answers unsent and frees what others still use.
    ///
    /// - Parameter timeout: how long to wait for a call that doesn't end.
    /// - Returns: whether all calls ended in time.
    @discardableResult
    public func drain(timeout: Duration) -> Bool {
        shutGate()
        removeSocket()
        let clock = ContinuousClock()
        let deadline = clock.now + timeout
        var quietRounds = 0
        while true {
            quietRounds = hasWorkInProgress() ? 0 : quietRounds + 1
            // Twice: a thread may sleep for a moment on its way to the socket, waiting for memory.
            if quietRounds == 2 { return true }
            guard clock.now < deadline else { return false }
            usleep(1_000)
        }
    }

    private func hasWorkInProgress() -> Bool {
        let activities = activities.withLock { Array($0.values) }
        return activities.contains { activity in
            let (phase, thread) = activity.current
            switch phase {
            case .idle, .parked: return false
            case .inside: return true
            case .answering: return Self.isRunning(thread)
            }
        }
    }

    /// Whether a thread of this process is at work, by its state in `/proc/self/task`: libmilter has written its answer
    /// when the thread sleeps or is gone.
    private static func isRunning(_ thread: Int32) -> Bool {
        let descriptor = Glibc.open("/proc/self/task/\(thread)/stat", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            // Without /proc only time can tell; a thread that is gone has a /proc, but no file in it.
            if access("/proc/self/stat", R_OK) != 0 { usleep(20_000) }
            return false
        }
        defer { close(descriptor) }
        return withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { buffer in
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            guard count > 0 else { return false }
            // pid (name) state …: the name may hold anything, but nothing after it has a parenthesis.
            guard let end = buffer[..<count].lastIndex(of: UInt8(ascii: ")")), end + 2 < count else { return false }
            return buffer[end + 2] == UInt8(ascii: "R") || buffer[end + 2] == UInt8(ascii: "D")
        }
    }
}
