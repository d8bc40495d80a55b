import CSystem
import Glibc

/// A thread of the process with a name that `ps -L -o comm`, `top -H` and debuggers show.
public final class NamedThread: Sendable {
    /// The most bytes that the kernel keeps of a name.
    public static let longestName = 15

    /// The name, such as `log`.
    public let name: String
    /// Why the system couldn't start the thread (an `errno` value, mostly `EAGAIN`: too many threads); nil if it runs
    /// or has ended.
    public let failure: Int32?
    private let ended: SteadySemaphore

    /// Starts a thread; a message on standard error says so if the system can't.
    ///
    /// - Parameters:
    ///   - name: at most 15 bytes.
    ///   - stackSize: in bytes; nil for the system's default, mostly 8 MiB of address space.
    ///   - body: what the thread does; the thread ends when it returns.
    @discardableResult
    public static func start(
        _ name: String, stackSize: Int? = nil, _ body: @escaping @Sendable () -> Void
    ) -> NamedThread {
        let thread = NamedThread(name, stackSize: stackSize, body)
        if let code = thread.failure {
            MessageStream.standardError.write("thread \(name): the system can't start it: \(systemMessage(code))\n")
        }
        return thread
    }

    /// Starts a thread as ``start(_:stackSize:_:)`` does, without a message if the system can't: the caller looks at
    /// ``failure``.
    public init(_ name: String, stackSize: Int? = nil, _ body: @escaping @Sendable () -> Void) {
        precondition(name.utf8.count <= Self.longestName, "the thread's name \"\(name)\" is too long")
        self.name = name
        ended = SteadySemaphore()
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        if let stackSize { pthread_attr_setstacksize(&attributes, stackSize) }
        let task = Unmanaged.passRetained(ThreadTask(name: name, ended: ended, body: body))
        var thread = pthread_t()
        let code = pthread_create(&thread, &attributes, runThread, task.toOpaque())
        failure = code == 0 ? nil : code
        if code != 0 { task.release() }
    }

    /// Names the calling thread, which a library has started.
    public static func nameCurrent(_ name: String) { pthread_setname_np(pthread_self(), name) }

    /// Waits until the thread has ended, but not longer than the limit; any number of threads may wait.
    ///
    /// - Parameter limit: nil to wait for as long as it takes.
    /// - Returns: whether the thread has ended, or was never started.
    @discardableResult
    public func waitForEnd(within limit: Duration? = nil) -> Bool {
        guard failure == nil else { return true }
        if let limit {
            guard ended.wait(within: limit) else { return false }
        } else {
            ended.wait()
        }
        // For the next one that waits.
        ended.signal()
        return true
    }
}

/// What a new thread is given.
private final class ThreadTask: Sendable {
    let name: String
    let ended: SteadySemaphore
    let body: @Sendable () -> Void

    init(name: String, ended: SteadySemaphore, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.ended = ended
        self.body = body
    }
}

/// The first function of a thread; its argument is a retained ``ThreadTask``.
private func runThread(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let task = Unmanaged<ThreadTask>.fromOpaque(argument).takeRetainedValue()
    NamedThread.nameCurrent(task.name)
    task.body()
    task.ended.signal()
    return nil
}
