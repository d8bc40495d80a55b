import CSystem
import Glibc

/// A thread of the process with a name that `ps -L -o comm`, `top -H` and debuggers show.
public final class NamedThread: Sendable {
    /// The most bytes that the kernel keeps of a name.
    public static let longestName = 15

    /// The name, such as `log`.
    public let name: String
    /// Why the system couldn't start the thread: an `errno` value, mostly `EAGAIN` for too many threads; nil if it did.
    public let failure: Int32?
    private let ended: SteadySemaphore

    /// Starts a thread; a message on standard error says so if the system can't.
    ///
    /// - Parameters:
    ///   - name: at most 15 bytes.
    ///   - stackSize: in bytes; nil for the system's default, mostly 8 MiB of address space.
    ///   - body: the work of the thread, which ends when the body returns.
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
        let task = Unmanaged.passRetained(
            ThreadTask { [ended] in
                Self.nameCurrent(name)
                body()
                ended.signal()
            })
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
        // For the next thread that waits.
        ended.signal()
        return true
    }
}

/// The work of a new thread.
private final class ThreadTask: Sendable {
    let work: @Sendable () -> Void

    init(_ work: @escaping @Sendable () -> Void) { self.work = work }
}

/// The first function of a thread; its argument is a retained ``ThreadTask``.
private func runThread(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    Unmanaged<ThreadTask>.fromOpaque(argument).takeRetainedValue().work()
    return nil
}

/// A counting semaphore whose timeouts don't depend on the wall clock.
///
/// On Linux, `DispatchSemaphore` waits until a time of the wall clock: if that clock is set back meanwhile, the wait is
/// longer by as much.
public final class SteadySemaphore {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// The count; protected by the mutex.
    private let value = UnsafeMutablePointer<Int>.allocate(capacity: 1)

    /// A semaphore with count 0.
    public init() {
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        condition.initialize(to: pthread_cond_t())
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
        value.initialize(to: 0)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
        value.deallocate()
    }

    /// Wakes one waiting thread, or lets the next one that waits go on at once.
    public func signal() {
        pthread_mutex_lock(mutex)
        value.pointee += 1
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Waits until the semaphore is signalled.
    public func wait() {
        pthread_mutex_lock(mutex)
        while value.pointee == 0 { pthread_cond_wait(condition, mutex) }
        value.pointee -= 1
        pthread_mutex_unlock(mutex)
    }

    /// Waits until the semaphore is signalled, but not longer than the limit.
    ///
    /// - Returns: whether it was signalled.
    public func wait(within limit: Duration) -> Bool {
        var end = timespec()
        clock_gettime(CLOCK_MONOTONIC, &end)
        let (seconds, attoseconds) = max(.zero, min(limit, .seconds(1_000_000_000))).components
        end.tv_sec += Int(seconds)
        end.tv_nsec += Int(attoseconds / 1_000_000_000)
        if end.tv_nsec >= 1_000_000_000 {
            end.tv_sec += 1
            end.tv_nsec -= 1_000_000_000
        }
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while value.pointee == 0 {
            if pthread_cond_timedwait(condition, mutex, &end) == ETIMEDOUT { break }
        }
        guard value.pointee > 0 else { return false }
        value.pointee -= 1
        return true
    }
}

// The count is protected by the mutex.
extension SteadySemaphore: @unchecked Sendable {}
