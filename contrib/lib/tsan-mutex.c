/*
 * The slow path of Swift's Mutex.lock, for builds with the thread sanitizer.
 *
 * Instrumented code takes a free Mutex. A Mutex that is held is taken by a futex(2) call in libswiftSynchronization, which isn't
 * instrumented: the sanitizer doesn't see that the lock changed hands, and reports a race for all data that it guards. These functions
 * replace the library's. They take the lock by an instrumented exchange. So no thread waits in the kernel, and the library never has to
 * wake one; a second try for a lock that is held fails.
 */
#include <sched.h>
#include <stdint.h>

__attribute__((swiftcall)) void lock_slow(uint32_t thread, __attribute__((swift_context)) uint32_t *word)
    __asm__("$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF");

__attribute__((swiftcall)) void lock_slow(uint32_t thread, __attribute__((swift_context)) uint32_t *word) {
    uint32_t expected = 0;
    while (!__atomic_compare_exchange_n(word, &expected, thread, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        expected = 0;
        sched_yield();
    }
}

__attribute__((swiftcall)) _Bool try_lock_slow(__attribute__((swift_context)) uint32_t *word)
    __asm__("$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF");

__attribute__((swiftcall)) _Bool try_lock_slow(__attribute__((swift_context)) uint32_t *word) {
    (void)word;
    return 0;
}
