import Foundation

/// Figures, spans and reasons in words, the same in every format that people read.
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

    /// `2.6%` of a number of percent; something that would round to nothing is `<0.1%`.
    static func percent(_ percent: Double) -> String {
        let tenths = integer(percent * 10)
        return tenths == 0 && percent > 0 ? "<0.1%" : "\(tenths / 10).\(abs(tenths % 10))%"
    }

    /// `+34%`, `-12%`, `same`, `new`; ten times as many and more is `40x`.
    static func change(_ now: Int, from before: Int) -> String {
        if now == before { return "same" }
        guard before > 0 else { return "new" }
        let ratio = Double(now) / Double(before)
        if ratio >= 10 { return ratio > 9_999 ? ">9,999x" : "\(grouped(integer(ratio)))x" }
        let percent = integer((ratio - 1) * 100)
        if percent == 0 { return now > before ? "+<1%" : "-<1%" }
        return (percent > 0 ? "+" : "") + "\(percent)%"
    }

    /// A sentence's end that compares: `34% more than in the 7 days before (9,210)`.
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

    /// `7 days`, `24 hours`, `3 minutes`: the largest unit that fits twice over.
    static func duration(_ seconds: Int) -> String {
        for (name, length) in [("day", 86_400), ("hour", 3_600), ("minute", 60)] where seconds >= 2 * length {
            return "\(grouped(seconds / length)) \(name)s"
        }
        return count(max(seconds, 0), "second")
    }

    /// The length of a period.
    static func duration(_ period: RejectionReport.Period) -> String {
        duration(integer(period.until.timeIntervalSince(period.since)))
    }

    /// `2026-11-16 00:00 to 2026-11-23 00:00 UTC`, with two zones where they differ.
    static func period(_ period: RejectionReport.Period, _ zone: TimeZone) -> String {
        let (since, until) = (period.since, period.until)
        let (first, last) = (Timestamp.offset(since, zone), Timestamp.offset(until, zone))
        let from = Timestamp.local(since, zone) + (first == last ? "" : " \(first)")
        return "\(from) to \(Timestamp.local(until, zone)) \(last)"
    }

    /// `2026-11-17 09:12 to 2026-11-22 16:40`, shorter where it is one day or one minute.
    static func span(_ first: Date, _ last: Date, _ zone: TimeZone) -> String {
        let (from, to) = (Timestamp.local(first, zone), Timestamp.local(last, zone))
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

    /// What the report was cut down to, as `only domain example.com`; nothing where it wasn't.
    static func cut(_ cut: RejectionReport.Cut) -> [String] {
        var words: [String] = []
        if let domain = cut.domain { words.append("only domain \(SafeText.escaped(domain))") }
        if let reason = cut.reason { words.append("only reason \(SafeText.escaped(reason))") }
        if let client = cut.client { words.append("only client \(SafeText.escaped(client))") }
        if cut.redacted { words.append("local parts hidden") }
        if cut.foldsVERP { words.append("VERP senders folded") }
        return words
    }

    /// What a reason means, in a few words; empty for one that isn't known.
    static func meaning(of reason: String) -> String {
        switch reason {
        case "unknown": "no such recipient"
        case "relay": "not a domain of ours"
        case "syntax": "not a valid address"
        case "blocked": "blocked by hand"
        case "harvest": "client was guessing"
        case "no-index": "no list of recipients"
        case "stale-index": "list of recipients old"
        case "internal": "for insiders only"
        case "disabled": "mailbox disabled"
        case "pattern": "blocked by a pattern"
        case "leaving": "left the list lately"
        case "unlisted-sender": "sends, and isn't listed"
        case "srs": "bounce, forged address"
        case RejectionLog.mtaReason: "the MTA's own refusal"
        default: ""
        }
    }

    /// How many of which kind: `2 problems, 3 notices`.
    static func findings(_ findings: [RejectionReport.Finding]) -> String {
        let problems = findings.count { $0.level == .problem }
        let notices = findings.count - problems
        return [problems > 0 ? count(problems, "problem") : nil, notices > 0 ? count(notices, "notice") : nil]
            .compactMap { $0 }.joined(separator: ", ")
    }

    /// A table's value for people: a time in ISO 8601 in the zone, anything else escaped.
    static func value(_ value: String, _ key: RejectionReport.Table.Key, _ zone: TimeZone) -> String {
        switch key {
        case .hour, .day:
            guard let date = try? Date(value, strategy: .iso8601) else { return SafeText.escaped(value) }
            let text = Timestamp.local(date, zone)
            return key == .day && text.hasSuffix(" 00:00") ? String(text.prefix(10)) : text
        case .sender: return value.isEmpty ? "<>" : SafeText.escaped(value)
        case .client: return value.isEmpty ? "unknown" : SafeText.escaped(value)
        case .recipient, .domain, .network, .reason, .host: return value.isEmpty ? "-" : SafeText.escaped(value)
        }
    }

    /// The nearest integer, clamped to what one can be.
    static func integer(_ value: Double) -> Int {
        Int(exactly: value.rounded()) ?? (value > 0 ? Int.max : value < 0 ? -Int.max : 0)
    }

    private static func times(_ ratio: Double) -> String {
        ratio >= 10 ? grouped(integer(ratio)) : "\(integer(ratio * 10) / 10).\(integer(ratio * 10) % 10)"
    }
}

extension RejectionReport {
    /// What was not in the recipient's favour: refused, put off or observed.
    var refusals: Int { byReason.values.reduce(0, &+) }

    /// Every recipient that was asked for.
    var asked: Int { totals.refused &+ totals.tempfailed &+ totals.observed &+ totals.accepted }

    /// The totals that are worth a line, in the order of the reader's interest; `refused` and `accepted` always are.
    var totalLines: [(label: String, count: Int, before: Int?)] {
        let (now, before) = (totals, previous?.totals)
        return [
            ("refused", now.refused, before?.refused), ("put off (4xx)", now.tempfailed, before?.tempfailed),
            ("by the MTA itself", now.mtaRefused, before?.mtaRefused),
            ("observed only", now.observed, before?.observed), ("accepted", now.accepted, before?.accepted),
        ].filter { $0.1 > 0 || ($0.2 ?? 0) > 0 || $0.0 == "refused" || $0.0 == "accepted" }
    }

    /// The reasons of this period and of the one before, most frequent first.
    var reasonLines: [(reason: String, count: Int, before: Int?)] {
        let gone = (previous?.byReason ?? [:]).filter { byReason[$0.key] == nil }.keys.sorted()
        return reasons.map { reason, count in (reason, count, previous.map { $0.byReason[reason] ?? 0 }) }
            + gone.map { ($0, 0, previous?.byReason[$0]) }
    }

    /// The one sentence that says how the period was.
    var summary: String {
        let words = ReportWords.self
        if refusals == 0 {
            if totals.accepted == 0 { return "Nothing was refused, and nothing was asked for, in this period." }
            let verb = totals.accepted == 1 ? "was" : "were"
            return "Nothing was refused in this period; \(words.count(totals.accepted, "recipient")) \(verb) accepted."
        }
        var text = "\(words.grouped(refusals)) of \(words.count(asked, "recipient")) refused or put off "
        text += "(\(words.share(refusals, of: asked)))"
        if totals.observed > 0 { text += ", \(words.grouped(totals.observed)) of them in observe mode only" }
        if let previous {
            let before = previous.byReason.values.reduce(0, &+)
            text += ": " + words.comparison(refusals, with: before, words.duration(previous.period))
        }
        return text + "."
    }
}
