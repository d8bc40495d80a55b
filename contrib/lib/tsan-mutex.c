/*
 * The slow way into Swift's Mutex, for builds with the thread sanitizer.
 *
 * A Mutex that is free is taken by instrumented code, one that is held by a futex(2) call within libswiftSynchronization,
 * which isn't instrumented: the sanitizer doesn't see that the lock was handed over, and reports a race for everything that
 * it guards. This takes that function's place and takes the lock by an instrumented exchange instead. Nobody ever waits in
 * the kernel then, so the library's way of waking is never needed, and a second try for a lock that is held fails.
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
