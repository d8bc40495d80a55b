import Dispatch
import Foundation
import Glibc
import Synchronization

/// Standard error, for messages: a message that can't be written is dropped and counted, and nothing else happens.
///
/// A command writes its messages itself. A daemon starts a thread for them (``startThread(notice:)``): then ``write(_:)`` only puts them in
/// line, and nobody ever waits for the reader.
public final class MessageStream: Sendable {
    /// The standard error of the process.
    public static let standardError = MessageStream(descriptor: STDERR_FILENO)

    /// The most bytes of messages that wait for the thread; further messages are dropped.
    static let capacity = 1 << 20
    /// The most bytes that a pipe takes at once or not at all (`PIPE_BUF`).
    private static let chunk = 4096
    /// Milliseconds until a reader that takes nothing counts as a failure.
    private static let patience: Int32 = 2_000

    private struct State {
        var hasThread = false
        var waiting: [String] = []
        var waitingBytes = 0
        /// Messages dropped, in all and since the last notice.
        var dropped = 0
        var untold = 0
        /// Whether the thread writes at the moment.
        var isWriting = false
        var failure: PartFailure?
    }

    private let descriptor: Int32
    private let state = Mutex(State())
    private let bell = SteadySemaphore()

    /// A stream that writes to this descriptor, which stays the caller's.
    init(descriptor: Int32) { self.descriptor = descriptor }

    /// How many messages were dropped.
    public var dropped: Int { state.withLock { $0.dropped } }

    /// Why messages can't be written at the moment; nil while they can be.
    public var failure: PartFailure? { state.withLock { $0.failure } }

    /// Writes one message, of whole lines; once there is a thread for that, puts it in line for it and returns at once.
    public func write(_ message: String) {
        let isQueued = state.withLock { state in
            guard state.hasThread else { return false }
            let size = message.utf8.count
            if state.waitingBytes + size > Self.capacity {
                state.dropped += 1
                state.untold += 1
            } else {
                state.waiting.append(message)
                state.waitingBytes += size
            }
            return true
        }
        if isQueued {
            bell.signal()
        } else if !put(message) {
            state.withLock { $0.dropped += 1 }
        }
    }

    /// Starts a thread that writes the messages from now on; without effect the second time.
    ///
    /// - Parameter notice: the line that says how many messages were dropped, written once messages can be written again.
    public func startThread(notice: @escaping @Sendable (Int) -> String) {
        let isFirst = state.withLock { state in
            defer { state.hasThread = true }
            return !state.hasThread
        }
        guard isFirst else { return }
        let thread = NamedThread("messages") { [self] in
            while true {
                bell.wait()
                writeWaiting(notice)
            }
        }
        // Without a thread, callers write and wait as before.
        if thread.failure != nil { state.withLock { $0.hasThread = false } }
    }

    /// Waits until all messages so far are written or dropped.
    ///
    /// - Returns: false if they weren't within this time; they are lost if the process ends.
    @discardableResult
    public func flush(within time: Duration) -> Bool {
        let deadline = ContinuousClock.now + time
        while state.withLock({ $0.isWriting || !$0.waiting.isEmpty }) {
            guard ContinuousClock.now < deadline else { return false }
            usleep(2_000)
        }
        return true
    }

    private func writeWaiting(_ notice: (Int) -> String) {
        while true {
            let (messages, untold) = state.withLock { state in
                let messages = state.waiting
                state.waiting = []
                state.waitingBytes = 0
                state.isWriting = !messages.isEmpty
                return (messages, state.untold)
            }
            guard !messages.isEmpty else { return }
            // The notice first: what was dropped came before these.
            if untold > 0, put(notice(untold)) { state.withLock { $0.untold -= untold } }
            for message in messages where !put(message) {
                state.withLock { state in
                    state.dropped += 1
                    state.untold += 1
                }
            }
        }
    }

    /// Writes a message; false where it can't be written, or not all of it.
    private func put(_ message: String) -> Bool {
        var message = message
        let code = message.withUTF8 { put(UnsafeRawBufferPointer($0)) }
        state.withLock { state in
            guard let code else { return state.failure = nil }
            let reason =
                code == ETIMEDOUT
                ? "messages: nobody reads standard error"
                : "messages: standard error can't be written: \(systemMessage(code))"
            guard state.failure?.reason != reason else { return }
            state.failure = PartFailure(
                reason: reason, advice: "see where the service manager sends standard error",
                since: state.failure?.since ?? Date())
        }
        return code == nil
    }

    /// Nil, or the error number; `ETIMEDOUT` where the reader takes nothing.
    private func put(_ bytes: UnsafeRawBufferPointer) -> Int32? {
        var done = 0
        while done < bytes.count {
            var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            let ready = poll(&polled, 1, Self.patience)
            if ready < 0 && errno == EINTR { continue }
            guard ready != 0 else { return ETIMEDOUT }
            let count = Glibc.write(
                descriptor, bytes.baseAddress.map { $0 + done }, min(Self.chunk, bytes.count - done))
            if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
            guard count > 0 else { return count < 0 ? errno : EIO }
            done += count
        }
        return nil
    }
}

/// The descriptors of standard input, output and error.
public enum StandardDescriptors {
    /// Opens those that the process was started without, so that no file or socket gets their number and is written to by mistake: reading
    /// finds the end, writing fails. To be called first of all.
    public static func secure() {
        for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
            // The lowest free number is this one, as those below are open.
            _ = open("/dev/null", O_RDONLY)
        }
    }
}
