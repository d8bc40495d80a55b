import Foundation

/// Times and lengths of time as text; moments in ISO 8601.
enum TimeText {
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

    /// `2026-11-24` of a moment that is a midnight in the zone, else with the time.
    static func day(_ date: Date, _ zone: TimeZone) -> String {
        let text = local(date, zone)
        return text.hasSuffix(" 00:00") ? String(text.prefix(10)) : text
    }

    /// `2026-11-24 10:00` in the zone.
    static func local(_ date: Date, _ zone: TimeZone) -> String {
        var style = Date.ISO8601FormatStyle(timeZone: zone)
        style = style.year().month().day().dateTimeSeparator(.space).time(includingFractionalSeconds: false)
        return String(date.formatted(style).prefix(16))
    }

    /// The zone's offset at the time, as `UTC` or `+01:00`.
    static func offset(_ date: Date, _ zone: TimeZone) -> String {
        let minutes = zone.secondsFromGMT(for: date) / 60
        if minutes == 0 { return "UTC" }
        let (hours, rest) = abs(minutes).quotientAndRemainder(dividingBy: 60)
        return (minutes < 0 ? "-" : "+") + (hours < 10 ? "0" : "") + "\(hours):" + (rest < 10 ? "0" : "") + "\(rest)"
    }

    /// `7 days`, `24 hours`, `3 minutes`: the largest unit that fits twice over.
    static func duration(_ seconds: Int) -> String {
        for (name, length) in [("day", 86_400), ("hour", 3_600), ("minute", 60)] where seconds >= 2 * length {
            return "\(ReportWords.grouped(seconds / length)) \(name)s"
        }
        return ReportWords.count(max(seconds, 0), "second")
    }

    /// The length of a period.
    static func duration(_ period: RejectionReport.Period) -> String {
        duration(ReportWords.integer(period.until.timeIntervalSince(period.since)))
    }

    /// `2026-11-16 00:00 to 2026-11-23 00:00 UTC`, with two zones where they differ.
    static func period(_ period: RejectionReport.Period, _ zone: TimeZone) -> String {
        let (since, until) = (period.since, period.until)
        let (first, last) = (Self.offset(since, zone), Self.offset(until, zone))
        let from = Self.local(since, zone) + (first == last ? "" : " \(first)")
        return "\(from) to \(Self.local(until, zone)) \(last)"
    }

    /// `2026-11-17 09:12 to 2026-11-22 16:40`; shorter within one day or one minute.
    static func span(_ first: Date, _ last: Date, _ zone: TimeZone) -> String {
        let (from, to) = (Self.local(first, zone), Self.local(last, zone))
        if from == to { return from }
        return from.prefix(10) == to.prefix(10) ? "\(from) to \(to.suffix(5))" : "\(from) to \(to)"
    }

    /// `Mon`.
    static func weekday(_ date: Date, _ zone: TimeZone) -> String {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = zone
        let names = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        return names[min(max(calendar.component(.weekday, from: date) - 1, 0), 6)]
    }
}
