import Glibc

/// What the clocks of the system show, in milliseconds. clock_gettime(2).
public enum Clocks {
    /// Since 1970; somebody may set it. CLOCK_REALTIME.
    public static var wall: Int64 { milliseconds(CLOCK_REALTIME) }

    /// Since the machine was started, suspended time counted; nobody can set it. CLOCK_BOOTTIME.
    public static var steady: Int64 { milliseconds(CLOCK_BOOTTIME) }

    private static func milliseconds(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        guard clock_gettime(clock, &time) == 0 else { return 0 }
        return Int64(time.tv_sec) &* 1_000 &+ Int64(time.tv_nsec) / 1_000_000
    }
}
