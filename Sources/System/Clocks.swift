public import Glibc

/// The clocks of the system; `clock_gettime(2)`.
///
/// No reading enters the kernel. A clock that can't be read shows 0.
public enum Clocks {
    /// Milliseconds since 1970. An administrator may set this clock, back too; `CLOCK_REALTIME`.
    @inlinable
    public static var wall: Int64 { milliseconds(CLOCK_REALTIME) }

    /// Milliseconds since the machine was started, suspended time included. Nobody can set this clock;
    /// `CLOCK_BOOTTIME`.
    @inlinable
    public static var sinceBoot: Int64 { milliseconds(CLOCK_BOOTTIME) }

    /// Milliseconds since the machine was started, suspended time excluded. Nobody can set this clock;
    /// `CLOCK_MONOTONIC`.
    @inlinable
    public static var monotonic: Int64 { milliseconds(CLOCK_MONOTONIC) }

    /// ``monotonic`` as of the last tick of the kernel, some milliseconds ago; a few nanoseconds a call.
    /// `CLOCK_MONOTONIC_COARSE`.
    @inlinable
    public static var monotonicCoarse: Int64 { milliseconds(CLOCK_MONOTONIC_COARSE) }

    /// Nanoseconds since the machine was started, suspended time excluded; `CLOCK_MONOTONIC`.
    @inlinable @inline(__always)
    public static var monotonicNanoseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
    }

    /// The kernel's identifier of this start of the machine; empty where the system doesn't tell.
    /// `/proc/sys/kernel/random/boot_id`.
    public static let bootID: String = {
        let descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 64) { buffer, count in
            count = max(0, read(descriptor, buffer.baseAddress, buffer.count))
        }
        return String(decoding: bytes.prefix { $0 > 0x20 }, as: UTF8.self)
    }()

    @inlinable @inline(__always)
    static func milliseconds(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        // Without success, the time stays 0.
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) &* 1_000 &+ Int64(time.tv_nsec / 1_000_000)
    }
}
