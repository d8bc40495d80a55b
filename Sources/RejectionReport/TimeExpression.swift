public import Foundation

/// Reads the times that people give to `--since` and `--until`.
public enum TimeExpression {
    /// A text that is not a time.
    public struct ParseError: Error, Sendable, Equatable, CustomStringConvertible {
        /// The given text.
        public let text: String

        /// The message, with the accepted forms.
        public var description: String {
            "\"\(SafeText.fitted(SafeText.escaped(text), 60))\" is not a time; accepted are now, today, yesterday, an age such as "
                + "30m, 12h, 7d or 2w, a date such as 2026-11-24, and a date with a time such as \"2026-11-24 10:00\" or "
                + "2026-11-24T10:00:00.000, with or without a zone (Z, +01:00)"
        }
    }

    /// The moment of a text. `today`, `yesterday` and a date alone mean the midnight at their beginning; an age (`s`,
    /// `m`, `h`, `d` of 24 hours, `w`) counts back from `now`; a time without a zone is in `timeZone`.
    public static func parse(
        _ text: String, now: Date = Date(), timeZone: TimeZone = .current
    ) throws(ParseError) -> Date {
        let word = text.trimmingCharacters(in: .whitespaces).lowercased()
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = timeZone
        let midnight = calendar.startOfDay(for: now)
        switch word {
        case "now": return now
        case "today": return midnight
        case "yesterday":
            if let day = calendar.date(byAdding: .day, value: -1, to: midnight) { return calendar.startOfDay(for: day) }
        default:
            if let seconds = age(word) { return now.addingTimeInterval(-seconds) }
            if let date = date(word, calendar) { return date }
        }
        throw ParseError(text: text)
    }

    private static func age(_ word: String) -> TimeInterval? {
        let units: [Substring: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]
        guard let (_, number, unit) = word.wholeMatch(of: /([0-9]{1,6})([smhdw])/)?.output else { return nil }
        return Double(number).flatMap { number in units[unit].map { number * $0 } }
    }

    private static func date(_ word: String, _ zoned: Calendar) -> Date? {
        let day = /([0-9]{4})-([0-9]{2})-([0-9]{2})(.*)/
        let clock =
            /[t ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?(?: ?(z|[+-][0-9]{2}(?::?[0-9]{2})?))?/
        guard let (_, year, month, date, rest) = word.wholeMatch(of: day)?.output else { return nil }
        var calendar = zoned
        var components = DateComponents(year: Int(year), month: Int(month), day: Int(date))
        var fraction: TimeInterval = 0
        if !rest.isEmpty {
            guard let (_, hour, minute, second, digits, zone) = rest.wholeMatch(of: clock)?.output,
                let hour = Int(hour), hour < 24, let minute = Int(minute), minute < 60,
                let second = Int(second ?? "0"), second < 60
            else { return nil }
            (components.hour, components.minute, components.second) = (hour, minute, second)
            fraction = Double("0.\(digits ?? "0")") ?? 0
            if let zone {
                guard let zone = Self.zone(zone) else { return nil }
                calendar.timeZone = zone
            }
        }
        // The calendar turns 30 February into 2 March: only a date that comes back unchanged exists.
        guard let result = calendar.date(from: components), let year = components.year, year >= 1970 else { return nil }
        let back = calendar.dateComponents([.year, .month, .day], from: result)
        guard back.year == year, back.month == components.month, back.day == components.day else { return nil }
        return result.addingTimeInterval(fraction)
    }

    /// The zone of `z`, or of a sign with hours and perhaps minutes.
    private static func zone(_ text: Substring) -> TimeZone? {
        if text == "z" { return .gmt }
        let digits = text.dropFirst().filter { $0 != ":" }
        guard let hours = Int(digits.prefix(2)), hours < 15, let minutes = Int("0" + digits.dropFirst(2)), minutes < 60
        else { return nil }
        let seconds = (hours * 60 + minutes) * 60
        return TimeZone(secondsFromGMT: text.hasPrefix("-") ? -seconds : seconds)
    }
}
