import Glibc

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
