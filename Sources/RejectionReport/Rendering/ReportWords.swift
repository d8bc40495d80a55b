import Foundation
import RejectionLog
import System

/// Figures and reasons in words, the same in every format that people read.
enum ReportWords {
    /// `12,345`.
    static func grouped(_ value: Int) -> String {
        var digits = Array(String(value.magnitude))
        var place = digits.count - 3
        while place > 0 {
            digits.insert(",", at: place)
            place -= 3
        }
        return (value < 0 ? "-" : "") + String(digits)
    }

    /// `1 sender`, `12,345 senders`.
    static func count(_ count: Int, _ noun: String, plural: String? = nil) -> String {
        "\(grouped(count)) \(count == 1 ? noun : plural ?? noun + "s")"
    }

    /// `2.6%`, `<0.1%`; empty where there is no whole.
    static func share(_ part: Int, of all: Int) -> String {
        all > 0 ? percent(Double(part) / Double(all) * 100) : ""
    }

    /// `2.6%` of a number of percent; a share that would round to zero is `<0.1%`.
    static func percent(_ percent: Double) -> String {
        let tenths = integer(percent * 10)
        return tenths == 0 && percent > 0 ? "<0.1%" : "\(tenths / 10).\(abs(tenths % 10))%"
    }

    /// `+34%`, `-12%`, `same`, `new`; from ten times as many on `40x`.
    static func change(_ now: Int, from before: Int) -> String {
        if now == before { return "same" }
        guard before > 0 else { return "new" }
        let ratio = Double(now) / Double(before)
        if ratio >= 10 { return ratio > 9_999 ? ">9,999x" : "\(grouped(integer(ratio)))x" }
        let percent = integer((ratio - 1) * 100)
        if percent == 0 { return now > before ? "+<1%" : "-<1%" }
        return (percent > 0 ? "+" : "") + "\(percent)%"
    }

    /// The end of a sentence, such as `34% more than in the 7 days before (9,210)`.
    static func comparison(_ now: Int, with before: Int, _ span: String) -> String {
        if now == before { return "as many as in the \(span) before" }
        guard before > 0 else { return "none in the \(span) before" }
        let ratio = Double(now) / Double(before)
        let percent = integer(abs(ratio - 1) * 100)
        let words =
            ratio >= 2
            ? "\(times(ratio)) times as many as" : "\(max(percent, 1))% \(now > before ? "more" : "fewer") than"
        return "\(words) in the \(span) before (\(grouped(before)))"
    }

    /// The filters of a report, such as `only domain example.com`; nothing where it has none.
    static func filters(_ filters: RejectionReport.Filters) -> [String] {
        var words: [String] = []
        if let domain = filters.domain { words.append("only domain \(SafeText.escaped(domain))") }
        if let reason = filters.reason { words.append("only reason \(SafeText.escaped(reason))") }
        if let client = filters.client { words.append("only client \(SafeText.escaped(client))") }
        if filters.redacted { words.append("local parts hidden") }
        if filters.foldsVERP { words.append("VERP senders folded") }
        return words
    }

    /// The meaning of a reason in at most 23 characters; empty for an unknown reason. A test checks that every reason of
    /// the filter has one.
    static func meaning(of reason: String) -> String {
        switch reason {
        case "unknown": "no such recipient"
        case "relay": "not a relay domain"
        case "syntax": "not a valid address"
        case "blocked": "blocked address"
        case "harvest": "client was guessing"
        case "no-index": "no recipient index"
        case "stale-index": "recipient index too old"
        case "internal": "internal senders only"
        case "disabled": "mailbox disabled"
        case "pattern": "blocked by a pattern"
        case "leaving": "left the list (grace)"
        case "unlisted-sender": "sends mail, not listed"
        case "srs": "bounce to SRS address"
        case "postmaster": "postmaster"
        case "trusted": "client is trusted"
        case "always": "always accepted"
        case "listed": "in the recipient index"
        case "catch-all": "catch-all domain"
        case RejectionLog.mtaReason: "rejected by the MTA"
        default: ""
        }
    }

    /// The number of each level: `2 problems, 3 notices`.
    static func findings(_ findings: [ReportFinding]) -> String {
        let problems = findings.count { $0.level == .problem }
        let notices = findings.count - problems
        return [problems > 0 ? count(problems, "problem") : nil, notices > 0 ? count(notices, "notice") : nil]
            .compactMap { $0 }.joined(separator: ", ")
    }

    /// The nearest integer, clamped to the range of `Int`.
    static func integer(_ value: Double) -> Int {
        Int(exactly: value.rounded()) ?? (value > 0 ? Int.max : value < 0 ? -Int.max : 0)
    }

    private static func times(_ ratio: Double) -> String {
        ratio >= 10 ? grouped(integer(ratio)) : "\(integer(ratio * 10) / 10).\(integer(ratio * 10) % 10)"
    }
}

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

    /// `7 days`, `24 hours`: the length of a period.
    static func duration(_ period: RejectionReport.Period) -> String {
        Words.duration(seconds: ReportWords.integer(period.until.timeIntervalSince(period.since)))
    }

    /// `2026-11-16 00:00 to 2026-11-23 00:00 UTC`, with two zones where they differ.
    static func period(_ period: RejectionReport.Period, _ zone: TimeZone) -> String {
        let (since, until) = (period.since, period.until)
        let (first, last) = (Self.offset(since, zone), Self.offset(until, zone))
        let from = Self.local(since, zone) + (first == last ? "" : " \(first)")
        return "\(from) to \(Self.local(until, zone)) \(last)"
    }

    /// `2026-11-17 09:12 to 2026-11-22 16:40`; shorter within one day or one minute.
    static func span(_ first: Date, _ last: Date, zone: TimeZone) -> String {
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
