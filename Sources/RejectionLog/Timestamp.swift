import Foundation

/// Times as text, all in ISO 8601.
enum Timestamp {
    /// `2026-11-24T10:00:00.123Z`.
    static func milliseconds(_ date: Date) -> String {
        date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    /// `2026-11-24T10:00:00Z`.
    static func seconds(_ date: Date) -> String {
        date.formatted(Date.ISO8601FormatStyle())
    }

    /// `2026-11-24` of a number of days since 1970.
    static func day(_ day: Int64) -> String {
        String(seconds(Date(timeIntervalSince1970: Double(day) * 86_400)).prefix(10))
    }

    /// `2026-11-24 10:00` in the zone.
    static func local(_ date: Date, _ zone: TimeZone) -> String {
        var style = Date.ISO8601FormatStyle(timeZone: zone)
        style = style.year().month().day().dateTimeSeparator(.space).time(includingFractionalSeconds: false)
        return String(date.formatted(style).prefix(16))
    }

    /// `UTC` or `+01:00`: the zone's offset at the time.
    static func offset(_ date: Date, _ zone: TimeZone) -> String {
        let minutes = zone.secondsFromGMT(for: date) / 60
        if minutes == 0 { return "UTC" }
        let (hours, rest) = abs(minutes).quotientAndRemainder(dividingBy: 60)
        return (minutes < 0 ? "-" : "+") + (hours < 10 ? "0" : "") + "\(hours):" + (rest < 10 ? "0" : "") + "\(rest)"
    }

    /// Milliseconds since 1970, clamped to what the log can hold.
    static func milliseconds(since1970 date: Date) -> Int64 {
        let value = (date.timeIntervalSince1970 * 1000).rounded(.down)
        return Int64(min(max(value, 0), Double(CounterKey.maximumMinute) * 60_000))
    }

    /// The date of a stored time, clamped to what the log can hold.
    static func date(milliseconds: Int64) -> Date {
        Date(timeIntervalSince1970: Double(min(max(milliseconds, 0), CounterKey.maximumMinute * 60_000)) / 1000)
    }
}
