import Foundation
import Glibc

/// The time zone of the process as date(1) understands it, from the variable `TZ`.
///
/// Foundation knows names of the tz database only; the C library also takes `:Europe/Berlin`, a file's path and the
/// rules of POSIX, such as `CET-1CEST,M3.5.0,M10.5.0/3`, and means UTC by everything else.
public enum ProcessTimeZone {
    /// Sets `TZ` to the name of the tz database that means the same, so that every part of the process shows the same
    /// times. To be called once, before other threads run.
    ///
    /// - Returns: a sentence on what `TZ` has that is no time zone, or that no zone of the database agrees with; nil
    ///   where all is well.
    public static func adopt() -> String? {
        guard let text = getenv("TZ").map({ String(cString: $0) }) else { return nil }
        guard let name = name(for: text) else {
            set("UTC")
            return
                "TZ=\"\(text)\" is not a time zone, so times are in UTC; accepted: a name such as \"Europe/Berlin\", a file of "
                + "/usr/share/zoneinfo or POSIX rules such as \"CET-1CEST,M3.5.0,M10.5.0/3\""
        }
        if name != text { set(name) }
        return nil
    }

    private static func set(_ name: String) {
        setenv("TZ", name, 1)
        tzset()
        // Foundation has looked at the variable before.
        NSTimeZone.resetSystemTimeZone()
        if let zone = TimeZone(identifier: name) { NSTimeZone.default = zone }
    }

    /// The name of the tz database for a value of `TZ`; nil for one that the C library takes for UTC though it means
    /// something else.
    ///
    /// `TZ` must have the value: the C library is asked by the process's variable.
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
        // Zones that agree now and differ in the past are all the same to a log of some months.
        if let name = TimeZone.knownTimeZoneIdentifiers.first(where: isZone) { return name }
        return isZone("UTC") ? "UTC" : nil
    }

    private static var folder: String { getenv("TZDIR").map { String(cString: $0) } ?? "/usr/share/zoneinfo" }

    /// The part of a file's path below the database's folder.
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

    /// Whether the text begins as the rules of POSIX do: a name of three letters or more, or one in angle brackets, and
    /// an offset.
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
