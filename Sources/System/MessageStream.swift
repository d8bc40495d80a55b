import Dispatch
import Foundation
import Glibc
import Synchronization

/// Writes messages to standard error; a message that can't be written is dropped and counted.
///
/// In a command, ``write(_:)`` writes at once. In a daemon, which calls ``startThread(notice:)``, it queues the message
/// for a thread, and never waits for the reader of standard error.
public final class MessageStream: Sendable {
    /// The standard error of the process.
    public static let standardError = MessageStream(descriptor: STDERR_FILENO)

    /// The most bytes of queued messages; further messages are dropped.
    static let capacity = 1 << 20
    /// The most bytes that a pipe takes at once or not at all (`PIPE_BUF`).
    private static let chunk = 4096
    /// Milliseconds without reading after which the reader of standard error counts as failed.
    private static let readerTimeout: Int32 = 2_000

    private struct State {
        var hasThread = false
        var waiting: [String] = []
        var waitingBytes = 0
        /// The number of messages dropped: all, and those since the last notice.
        var dropped = 0
        var droppedSinceNotice = 0
        /// Whether the thread is writing.
        var isWriting = false
        var failure: PartFailure?
    }

    private let descriptor: Int32
    private let state = Mutex(State())
    private let hasMessages = SteadySemaphore()

    /// A stream that writes to a descriptor, which the caller closes.
    init(descriptor: Int32) { self.descriptor = descriptor }

    /// The number of messages dropped.
    public var dropped: Int { state.withLock { $0.dropped } }

    /// Why messages can't be written at present; nil if they can.
    public var failure: PartFailure? { state.withLock { $0.failure } }

    /// Writes a message of whole lines; in a daemon, queues it and returns at once.
    public func write(_ message: String) {
        let isQueued = state.withLock { state in
            guard state.hasThread else { return false }
            let size = message.utf8.count
            if state.waitingBytes + size > Self.capacity {
                state.dropped += 1
                state.droppedSinceNotice += 1
            } else {
                state.waiting.append(message)
                state.waitingBytes += size
            }
            return true
        }
        if isQueued {
            hasMessages.signal()
        } else if !writeNow(message) {
            state.withLock { $0.dropped += 1 }
        }
    }

    /// Starts a thread that writes the messages from now on; further calls do nothing.
    ///
    /// - Parameter notice: makes the line that reports how many messages were dropped; written once messages can be
    ///   written again.
    public func startThread(notice: @escaping @Sendable (Int) -> String) {
        let isFirst = state.withLock { state in
            defer { state.hasThread = true }
            return !state.hasThread
        }
        guard isFirst else { return }
        let thread = NamedThread("messages") { [self] in
            while true {
                hasMessages.wait()
                writeWaiting(notice)
            }
        }
        // Without a thread, callers go on to write at once.
        if thread.failure != nil { state.withLock { $0.hasThread = false } }
    }

    /// Waits until all queued messages are written or dropped, but not longer than a given time.
    ///
    /// - Returns: false if messages are still queued; they are lost if the process ends.
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
            let (messages, unnoticed) = state.withLock { state in
                let messages = state.waiting
                state.waiting = []
                state.waitingBytes = 0
                state.isWriting = !messages.isEmpty
                return (messages, state.droppedSinceNotice)
            }
            guard !messages.isEmpty else { return }
            // The notice first: the dropped messages came before these.
            if unnoticed > 0, writeNow(notice(unnoticed)) { state.withLock { $0.droppedSinceNotice -= unnoticed } }
            for message in messages where !writeNow(message) {
                state.withLock { state in
                    state.dropped += 1
                    state.droppedSinceNotice += 1
                }
            }
        }
    }

    /// Writes a message now; false if it can't be written whole.
    private func writeNow(_ message: String) -> Bool {
        var message = message
        let code = message.withUTF8 { writeNow(UnsafeRawBufferPointer($0)) }
        state.withLock { state in
            guard let code else { return state.failure = nil }
            let reason =
                code == ETIMEDOUT
                ? "messages: the reader of standard error takes no more data (timeout)"
                : "messages: standard error can't be written: \(systemMessage(code))"
            guard state.failure?.reason != reason else { return }
            state.failure = PartFailure(
                reason: reason, advice: "check StandardError= of the unit, and that its reader works",
                since: state.failure?.since ?? Date())
        }
        return code == nil
    }

    /// Writes bytes now; returns the error number, `ETIMEDOUT` if nobody reads, nil if all were written.
    private func writeNow(_ bytes: UnsafeRawBufferPointer) -> Int32? {
        var done = 0
        while done < bytes.count {
            var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            let ready = poll(&polled, 1, Self.readerTimeout)
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
    /// Opens `/dev/null` for each of them that the process was started without: otherwise, a file or socket would get
    /// the descriptor's number and be written to by mistake. Reading finds the end of the file, writing fails. Must be
    /// called before any file is opened.
    public static func secure() {
        for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
            // open(2) returns the lowest free number, which is this one.
            _ = open("/dev/null", O_RDONLY)
        }
    }
}
