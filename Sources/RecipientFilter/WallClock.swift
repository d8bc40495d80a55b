import Glibc

/// A clock that isn't set, for spans of time.
enum SteadyClock {
    /// Milliseconds since the machine's start, exact to some milliseconds (`CLOCK_MONOTONIC_COARSE`, some nanoseconds a call).
    static func milliseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
        return Int64(time.tv_sec) &* 1000 &+ Int64(time.tv_nsec / 1_000_000)
    }
}

/// The time of day.
enum WallClock {
    /// Milliseconds since 1970 (`clock_gettime`, which doesn't enter the kernel).
    static func milliseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) &* 1000 &+ Int64(time.tv_nsec / 1_000_000)
    }
}
