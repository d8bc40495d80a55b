import Foundation
import RejectionLog

/// Which recipients were rejected in a period, by whom and why: figures and sections, from which every format is
/// rendered.
///
/// Each recipient is in exactly one of the totals `refused`, `tempfailed`, `observed` and `accepted`; `mtaRefused` says
/// how many of the first two the MTA refused itself, before it asked Postern: their reason is `mta`. `byReason` counts
/// recipients that were rejected, deferred or observed. Totals, `byReason`, the trend and the domains come from the
/// exact counters. The other sections come from log entries and from daily tallies: their counts may be too low, and
/// hold whole days (UTC) where no entries are left. `totals.thinned` says how many entries are missing after a flood,
/// `coverage` what else is missing.
public struct RejectionReport: Sendable, Equatable {
    /// From `since` up to, not including, `until`; both are whole minutes.
    struct Period: Sendable, Equatable {
        var since: Date
        var until: Date
    }

    /// The exact figures of a period.
    struct Figures: Sendable, Equatable {
        var period: Period
        var totals: RecipientTotals
        /// The rejected, deferred and observed recipients by reason.
        var byReason: [String: Int]

        /// Every recipient that was rejected, deferred or observed.
        var refusals: Int { byReason.values.reduce(0, &+) }

        /// Every recipient that was asked for.
        var asked: Int { totals.refused &+ totals.tempfailed &+ totals.observed &+ totals.accepted }
    }

    /// The filters of the report; nil where it has everything.
    struct Filters: Sendable, Equatable {
        /// The recipient domain.
        var domain: String?
        var reason: String?
        /// The client, or the network of clients.
        var client: String?
        /// True where local parts are hidden.
        var redacted = false
        /// True where senders that differ by a VERP, SRS or BATV tag only are one.
        var foldsVERP = false
    }

    /// The gaps of the sections that don't come from the exact counters.
    struct Coverage: Sendable, Equatable {
        /// The time from which all log entries are there; nil where none was pruned. For earlier times the lists count
        /// by whole days (UTC), and a report on one client has nothing.
        var detailsSince: Date?
        /// True where the period begins or ends within a day whose entries were pruned: the lists count that whole day
        /// if most of it is in the period, otherwise none of it.
        var wholeDays = false
        /// Rejections of recipients that were not among the most frequent of their day: they are in no list.
        var folded = 0
        /// True where the recipient index was not asked for every possible near miss.
        var lookupsExhausted = false
    }

    var figures: Figures
    /// The figures of the period of the same length just before; nil where the log doesn't reach back that far.
    var previous: Figures?
    var filters = Filters()
    /// The period step by step, without gaps.
    var trend = ReportTrend()
    /// The sections, in the order in which people read them.
    var sections: [ReportSection] = []
    /// Findings about the report as a whole.
    var advice: [ReportFinding] = []
    var coverage = Coverage()

    /// A report with figures alone.
    init(figures: Figures) { self.figures = figures }

    /// The section of that name in JSON; nil where the report has none.
    subscript(path: String) -> ReportSection? {
        get { sections.first { $0.path == path } }
        set {
            guard let place = sections.firstIndex(where: { $0.path == path }) else { return }
            if let newValue { sections[place] = newValue } else { sections.remove(at: place) }
        }
    }

    /// Everything that the postmaster should look at, most pressing first.
    var findings: [ReportFinding] {
        let all = advice + sections.flatMap(\.advice)
        return ReportFinding.Code.allCases.flatMap { code in all.filter { $0.code == code } }
    }

    /// True where nothing was rejected, deferred or observed, and nothing is a problem.
    public var isQuiet: Bool { figures.refusals == 0 && !findings.contains { $0.level == .problem } }

    /// The table of `--by`; nil where no key was given.
    var table: ReportSection? { self["table"] }
}

extension RejectionReport {
    /// The totals that are worth a line, in the order of the reader's interest; rejected and accepted always are.
    var totalLines: [(label: String, count: Int, before: Int?)] {
        let (now, before) = (figures.totals, previous?.totals)
        return [
            ("rejected (5xx)", now.refused, before?.refused), ("deferred (4xx)", now.tempfailed, before?.tempfailed),
            ("by the MTA itself", now.mtaRefused, before?.mtaRefused),
            ("observed only", now.observed, before?.observed), ("accepted", now.accepted, before?.accepted),
        ].filter { $0.1 > 0 || ($0.2 ?? 0) > 0 || $0.0.hasPrefix("rejected") || $0.0 == "accepted" }
    }

    /// The reasons of this period and of the one before, most frequent first.
    var reasons: ReportSection {
        var columns = [
            ReportSection.Column.number(), .init("share", "Share", as: .share),
            .init("", "Reason", as: .name, at: .key, csv: "key"), .init("", "Meaning", as: .text, at: .beside),
        ]
        if previous != nil {
            columns += [.init("", "Before", as: .count, csv: "previous"), .init("", "Change", as: .change)]
        }
        let names = Set(figures.byReason.keys).union(previous?.byReason.keys ?? [:].keys)
        let rows = names.map { (name: $0, count: figures.byReason[$0] ?? 0, isNow: figures.byReason[$0] != nil) }
            .sorted { left, right in
                // Reasons of the period before alone come last.
                if left.isNow != right.isNow { return left.isNow }
                return (right.count, left.name) < (left.count, right.name)
            }
        let all = figures.refusals
        return ReportSection(
            "by_reason", title: "By reason", style: .bars, form: .counts, columns: columns,
            rows: rows.map { name, count, _ in
                let share = all > 0 ? ReportSection.Cell.share(Double(count) / Double(all) * 100) : .none
                var cells: [ReportSection.Cell] = [
                    .count(count), share, .text(name), .text(ReportWords.meaning(of: name)),
                ]
                if let previous {
                    let before = previous.byReason[name] ?? 0
                    cells += [.count(before), .change(count, from: before)]
                }
                return .init(cells)
            })
    }

    /// One sentence about the whole period.
    var summary: String {
        let words = ReportWords.self
        let (refusals, asked, accepted) = (figures.refusals, figures.asked, figures.totals.accepted)
        if refusals == 0 {
            if accepted == 0 { return "No recipient was asked for in this period." }
            let verb = accepted == 1 ? "was" : "were"
            return "Nothing was rejected in this period; \(words.count(accepted, "recipient")) \(verb) accepted."
        }
        var text = "\(words.grouped(refusals)) of \(words.count(asked, "recipient")) rejected or deferred "
        text += "(\(words.share(refusals, of: asked)))"
        if figures.totals.observed > 0 {
            text += ", \(words.grouped(figures.totals.observed)) of them in observe mode only"
        }
        if let previous {
            let length = TimeText.duration(previous.period)
            text += ": " + words.comparison(refusals, with: previous.refusals, length)
        }
        return text + "."
    }

    /// The gaps of the lists, a sentence for each.
    func limits(_ zone: TimeZone) -> [String] {
        var limits: [String] = []
        if figures.totals.thinned > 0 {
            limits.append(
                "\(ReportWords.count(figures.totals.thinned, "log entry", plural: "log entries")) \(figures.totals.thinned == 1 ? "was" : "were") "
                    + "not kept during a flood: totals and domains are exact, counts in the other lists are too low.")
        }
        if let since = coverage.detailsSince, since > figures.period.since {
            limits.append(
                "Log entries before \(TimeText.local(since, zone)) were pruned; for that time the lists count by whole days (UTC)."
            )
        }
        if coverage.wholeDays {
            limits.append(
                "The period begins or ends within a day whose log entries were pruned: the lists count that whole day if "
                    + "most of it is in the period, otherwise none of it.")
        }
        if coverage.folded > 0 {
            limits.append(
                "\(ReportWords.count(coverage.folded, "rejection")) \(coverage.folded == 1 ? "is" : "are") in no list: "
                    + "\(coverage.folded == 1 ? "its recipient was" : "their recipients were") not among the most frequent "
                    + "of the day.")
        }
        if coverage.lookupsExhausted { limits.append("There may be more near misses: the search was cut short.") }
        return limits
    }
}
