import Foundation
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

    /// The kernel's identifier of this start of the machine; empty if unknown.
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

/// The time zone of the process, from the environment variable `TZ` as `date(1)` understands it.
///
/// Foundation knows the names of the tz database only. The C library also accepts `:Europe/Berlin`, a file's path and
/// POSIX rules, such as `CET-1CEST,M3.5.0,M10.5.0/3`, and takes any other text for UTC.
public enum ProcessTimeZone {
    /// Replaces the value of `TZ` by the equivalent name of the tz database, so that every part of the process shows
    /// the same times. Must be called once, before other threads run.
    ///
    /// - Returns: a warning if the value is not a time zone, or no zone of the database is equivalent; nil otherwise.
    public static func adopt() -> String? {
        guard let text = getenv("TZ").map({ String(cString: $0) }) else { return nil }
        guard let name = name(for: text) else {
            set("UTC")
            return
                "TZ=\"\(text)\" is not a time zone, so times are in UTC; accepted: a name such as \"Europe/Berlin\", "
                + "a file of /usr/share/zoneinfo or POSIX rules such as \"CET-1CEST,M3.5.0,M10.5.0/3\""
        }
        if name != text { set(name) }
        return nil
    }

    private static func set(_ name: String) {
        setenv("TZ", name, 1)
        tzset()
        // Foundation has read the variable before.
        NSTimeZone.resetSystemTimeZone()
        if let zone = TimeZone(identifier: name) { NSTimeZone.default = zone }
    }

    /// The name in the tz database for the value of `TZ`; nil if the value is not a time zone, or no zone is
    /// equivalent.
    ///
    /// - Parameter text: the value that `TZ` has, as the C library reads it there.
    static func name(for text: String) -> String? {
        let bare = text.hasPrefix(":") ? String(text.dropFirst()) : text
        if bare.isEmpty { return "UTC" }
        let file = bare.hasPrefix("/") ? bare : "\(folder)/\(bare)"
        var status = stat()
        let isFile = stat(file, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(file, R_OK) == 0
        guard isFile || isRule(bare) else { return nil }
        tzset()
        let samples = samples()
        let isZone = { (name: String) in TimeZone(identifier: name).map { agrees($0, samples) } ?? false }
        if isFile, let name = databaseName(file), isZone(name) { return name }
        // Any zone that agrees in these years will do: the log has only some months.
        if let name = TimeZone.knownTimeZoneIdentifiers.first(where: isZone) { return name }
        return isZone("UTC") ? "UTC" : nil
    }

    private static var folder: String { getenv("TZDIR").map { String(cString: $0) } ?? "/usr/share/zoneinfo" }

    /// The path of a file within the database's folder.
    private static func databaseName(_ file: String) -> String? {
        for path in [file, resolved(file)] {
            for prefix in [folder, "/usr/share/zoneinfo"] where path.hasPrefix("\(prefix)/") {
                var name = path.dropFirst(prefix.count + 1)
                for copy in ["posix/", "right/"] where name.hasPrefix(copy) { name = name.dropFirst(copy.count) }
                return String(name)
            }
        }
        return nil
    }

    private static func resolved(_ file: String) -> String {
        guard let path = realpath(file, nil) else { return file }
        defer { free(path) }
        return String(cString: path)
    }

    /// Whether the text begins as POSIX rules do: a name of three letters or more, or in angle brackets, and an offset.
    private static func isRule(_ text: String) -> Bool {
        text.prefixMatch(of: /(<[A-Za-z0-9+\-]{3,}>|[A-Za-z]{3,})[+\-]?[0-9]/) != nil
    }

    /// The C library's offset from UTC, in seconds, at moments from two years ago to two years ahead.
    private static func samples() -> [(time: Int, offset: Int)] {
        let now = time(nil)
        return (-1_460...1_460).compactMap { half in
            var moment = now + half * 43_200
            var parts = tm()
            return localtime_r(&moment, &parts) == nil ? nil : (moment, parts.tm_gmtoff)
        }
    }

    private static func agrees(_ zone: TimeZone, _ samples: [(time: Int, offset: Int)]) -> Bool {
        samples.allSatisfy { sample in
            zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(sample.time))) == sample.offset
        }
    }
}
