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
        let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]
        guard let unit = word.last.flatMap({ units[$0] }), let number = number(word.dropLast(), digits: 1...6) else {
            return nil
        }
        return Double(number) * unit
    }

    private static func date(_ word: String, _ zoned: Calendar) -> Date? {
        var calendar = zoned
        var day = word[...]
        var clock: Substring?
        if let gap = word.firstIndex(where: { $0 == "t" || $0 == " " }) {
            day = word[..<gap]
            clock = word[word.index(after: gap)...]
        }
        if let given = clock {
            guard let (time, zone) = zone(given) else { return nil }
            clock = time
            if let zone { calendar.timeZone = zone }
        }
        let parts = day.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 3, let year = number(parts[0], digits: 4...4), let month = number(parts[1], digits: 2...2),
            let date = number(parts[2], digits: 2...2), year >= 1970
        else { return nil }
        var components = DateComponents(year: year, month: month, day: date)
        var fraction: TimeInterval = 0
        if let clock {
            let parts = clock.split(separator: ":", omittingEmptySubsequences: false)
            guard (2...3).contains(parts.count), let hour = number(parts[0], digits: 2...2), hour < 24,
                let minute = number(parts[1], digits: 2...2), minute < 60
            else { return nil }
            (components.hour, components.minute) = (hour, minute)
            if parts.count == 3 {
                let second = parts[2].split(
                    maxSplits: 1, omittingEmptySubsequences: false, whereSeparator: { $0 == "." || $0 == "," })
                guard let whole = number(second[0], digits: 2...2), whole < 60 else { return nil }
                components.second = whole
                if second.count == 2 {
                    guard let digits = number(second[1], digits: 1...9) else { return nil }
                    fraction = Double(digits) / pow(10, Double(second[1].utf8.count))
                }
            }
        }
        // The calendar turns 30 February into 2 March: only a date that comes back unchanged exists.
        guard let result = calendar.date(from: components) else { return nil }
        let back = calendar.dateComponents([.year, .month, .day], from: result)
        return back.year == year && back.month == month && back.day == date ? result.addingTimeInterval(fraction) : nil
    }

    /// The time of day, and the zone if the text has one; nil if the text has an invalid zone.
    private static func zone(_ text: Substring) -> (Substring, TimeZone?)? {
        if text.last == "z" { return (trimmed(text.dropLast()), .gmt) }
        guard let sign = text.lastIndex(where: { $0 == "+" || $0 == "-" }) else { return (text, nil) }
        let digits = text[text.index(after: sign)...].filter { $0 != ":" }
        guard let number = number(digits[...], digits: 2...4), digits.count != 3 else { return nil }
        let (hours, minutes) = digits.count == 2 ? (number, 0) : (number / 100, number % 100)
        guard hours < 15, minutes < 60 else { return nil }
        let seconds = (hours * 60 + minutes) * 60
        return TimeZone(secondsFromGMT: text[sign] == "-" ? -seconds : seconds).map { (trimmed(text[..<sign]), $0) }
    }

    private static func trimmed(_ text: Substring) -> Substring {
        text.last == " " ? text.dropLast() : text
    }

    private static func number(_ text: Substring, digits: ClosedRange<Int>) -> Int? {
        guard digits.contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        return Int(text)
    }
}
