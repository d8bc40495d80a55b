import Foundation

/// The sections' titles and what they mean.
enum ReportSection: String, CaseIterable {
    case findings, totals, reasons, trend, nearMisses, listedNow, unlistedSenders, harvests, correspondents, observed,
        mta, sync

    var title: String {
        switch self {
        case .findings: "What to do"
        case .totals: "Recipients"
        case .reasons: "By reason"
        case .trend: "Refused"
        case .nearMisses: "Near misses"
        case .listedNow: "Refused, and listed now"
        case .unlistedSenders: "Unlisted senders"
        case .harvests: "Harvest attacks"
        case .correspondents: "Regular correspondents"
        case .observed: "Observe mode"
        case .mta: "Refused by the MTA"
        case .sync: "List of recipients"
        }
    }

    /// One sentence for a reader who sees it the first time.
    var note: String {
        switch self {
        case .nearMisses: "One or two slips away from a listed recipient: a typo, or a renamed mailbox."
        case .listedNow: "The list came late: senders were told that these don't exist."
        case .unlistedSenders: "They send mail through this gateway, and answers to them are refused."
        case .harvests: "Client networks that guessed recipients."
        case .correspondents: "They keep writing to somebody who isn't there: one who left?"
        case .observed: "Let pass, and would have been refused or put off if Postern enforced."
        case .mta: "By its own restrictions, before Postern was asked."
        case .findings, .totals, .reasons, .trend, .sync: ""
        }
    }
}

extension RejectionReport {
    /// What the lists lack, a sentence each.
    func limits(_ zone: TimeZone) -> [String] {
        var limits: [String] = []
        if totals.thinned > 0 {
            limits.append(
                "\(ReportWords.count(totals.thinned, "row")) of the log found no room in a flood: the sums and the domains are "
                    + "exact, the other lists are too low.")
        }
        if let since = coverage.detailsSince, since > period.since {
            limits.append(
                "The log's rows are there since \(Timestamp.local(since, zone)); for before, the lists go by whole days (UTC)."
            )
        }
        if coverage.wholeDays {
            limits.append(
                "The period begins or ends within a day whose rows are gone: the lists hold the days that are in it for the "
                    + "most part.")
        }
        if coverage.folded > 0 {
            limits.append(
                "\(ReportWords.count(coverage.folded, "refusal")) went to recipients that weren't among the most frequent of "
                    + "their day: they are in no list.")
        }
        if coverage.lookupsExhausted { limits.append("There may be more near misses than were looked for.") }
        return limits
    }
}

extension RejectionReport.NearMiss {
    /// `1 letter left out; 12 senders; 2026-11-17 09:12 to 2026-11-22 16:40`.
    func prose(_ zone: TimeZone) -> String {
        "\(SafeText.escaped(difference)); \(sendersEstimated ? "about " : "")\(ReportWords.count(senders, "sender")); \(ReportWords.span(first, last, zone))"
    }
}

extension RejectionReport.ListedNow {
    /// When it was refused, and since when it is listed.
    func prose(_ zone: TimeZone) -> String {
        let late = ReportWords.duration(late)
        let listed =
            listed.map { "listed \(Timestamp.local($0, zone)), \(late) after the first refusal" }
            ?? "at least \(late) late"
        return "\(listed); refused \(ReportWords.span(first, last, zone))"
    }
}

extension RejectionReport.Harvest {
    /// How many of what, when, and what stopped it.
    func prose(_ zone: TimeZone) -> String {
        "\(recipientsEstimated ? "about " : "")\(ReportWords.count(recipients, "recipient")) tried by \(ReportWords.count(clients, "client")); "
            + (stopped > 0 ? "\(ReportWords.grouped(stopped)) stopped by the limit" : "nothing stopped it")
            + (accepted == true
                ? "; others of it were accepted" : accepted == false ? "; nothing of it was accepted" : "")
            + "; \(ReportWords.span(first, last, zone))"
    }
}

extension RejectionReport.UnlistedSender {
    /// When it sent last.
    var prose: String { "last sent on \(last)" }
}

extension RejectionReport.Correspondent {
    /// On how many days, and when.
    func prose(_ zone: TimeZone) -> String {
        "on \(ReportWords.count(days, "day")); \(ReportWords.span(first, last, zone))"
    }
}

extension RejectionReport.Trend.Step {
    /// What was not in the recipient's favour.
    var refusals: Int { refused &+ tempfailed &+ observed }
}

extension RejectionReport.Trend {
    /// The step's beginning as a label: a time, a day, or both.
    func label(_ step: Step, _ zone: TimeZone) -> String {
        let text = Timestamp.local(step.start, zone)
        switch unit {
        case .minute: return String(text.suffix(5))
        case .hour: return text
        case .day, .week:
            return "\(ReportWords.weekday(step.start, zone)) \(text.prefix(text.hasSuffix("00:00") ? 10 : 16))"
        }
    }
}
