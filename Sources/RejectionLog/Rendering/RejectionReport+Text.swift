public import Foundation

extension RejectionReport {
    /// How a report is laid out as text.
    public struct TextStyle: Sendable {
        /// How many columns a line has at most; not less than 40.
        public var width: Int
        /// True where the terminal understands colours (SGR).
        public var isColored: Bool
        /// False where nothing but ASCII can be shown: all else is spelled out, and charts are made of `#`.
        public var isUnicode: Bool

        /// 80 columns of Unicode, without colours.
        public init(width: Int = 80, isColored: Bool = false, isUnicode: Bool = true) {
            self.width = max(width, 40)
            self.isColored = isColored
            self.isUnicode = isUnicode
        }
    }

    /// The report for a terminal or a plain-text mail: no line wider than the style's width, times in the zone given, every
    /// value escaped. What asks for attention comes first, empty sections don't appear. Ends with a line feed.
    public func text(_ style: TextStyle = TextStyle(), timeZone: TimeZone = .current) -> String {
        let text = ReportText(report: self, layout: TextLayout(style: style), zone: timeZone)
        return text.sections.filter { !$0.isEmpty }.map { $0.joined(separator: "\n") + "\n" }.joined(separator: "\n")
    }
}

/// The sections of the text form, each as lines.
struct ReportText {
    let report: RejectionReport
    let layout: TextLayout
    let zone: TimeZone

    var sections: [[String]] {
        var sections = [heading(), findings()]
        if report.refusals > 0 || report.previous != nil { sections.append(totals()) }
        sections += [
            reasons(), trend(), unlistedSenders(), nearMisses(), listedNow(), harvests(), correspondents(), observed(),
            mtaReplies(),
            sync(),
            table(),
        ]
        return sections + lists()
    }

    private func heading() -> [String] {
        let title = "Refused recipients"
        let period = ReportWords.period(report.period, zone)
        let line = "\(title)  \(period)"
        var lines =
            SafeText.width(line) <= layout.width
            ? [layout.tone(title, .title) + "  " + period] : [layout.tone(title, .title)] + layout.wrapped(period)
        let cut = ReportWords.cut(report.cut)
        if !cut.isEmpty { lines += layout.wrapped(layout.plain(cut.joined(separator: ", ")), tone: .quiet) }
        return lines + layout.wrapped(report.summary)
    }

    private func findings() -> [String] {
        guard !report.findings.isEmpty else {
            return report.refusals > 0 ? [layout.tone("Nothing asks for your attention.", .good)] : []
        }
        var lines = [layout.title("\(ReportSection.findings.title): \(ReportWords.findings(report.findings))")]
        for finding in report.findings {
            let isProblem = finding.level == .problem
            lines += layout.wrapped(
                layout.safe(finding.text), first: isProblem ? "! " : "- ", rest: "  ",
                tone: isProblem ? .problem : .notice)
            guard !finding.action.isEmpty else { continue }
            lines += layout.wrapped(
                layout.safe(finding.action), first: layout.style.isUnicode ? "  → " : "  > ", rest: "    ")
        }
        return lines
    }

    private func totals() -> [String] {
        let compares = report.previous != nil && layout.width >= 66
        func row(_ label: String, _ cells: [String], _ widths: [Int]) -> String {
            layout.trimmed(
                SafeText.padded(label, 20) + zip(cells, widths).map { layout.right($0, $1) }.joined())
        }
        let widths = [11, 8, 12, 11]
        var heading = ["", "share"]
        if compares { heading = ["now", "share", "before", "change"] }
        var lines = [
            layout.tone(ReportSection.totals.title, .title)
                + row("", heading, widths).dropFirst(ReportSection.totals.title.count)
        ]
        for (label, count, before) in report.totalLines {
            var cells = [ReportWords.grouped(count), ReportWords.share(count, of: report.asked)]
            if compares, let before { cells += [ReportWords.grouped(before), ReportWords.change(count, from: before)] }
            lines.append(row("  \(label)", cells, widths))
        }
        return lines
    }

    private func reasons() -> [String] {
        let rows = report.reasonLines
        guard !rows.isEmpty else { return [] }
        let most = rows.map(\.count).max() ?? 0
        let column = min(16, max(7, rows.map { SafeText.width(layout.safe($0.reason)) }.max() ?? 0))
        let compares = report.previous != nil && layout.width >= 66
        // The number, the share, the period before, the name; what is left is for the meaning and the bar.
        let room = layout.width - 11 - 8 - (compares ? 19 : 0) - 2 - column - 2
        let meaning = room >= 30 ? 22 : 0
        let bar = max(0, min(40, room - (meaning > 0 ? meaning + 2 : 0)))
        let title = ReportSection.reasons.title
        let headings =
            layout.right("share", 19 - title.count) + layout.right("before", 10) + layout.right("change", 9)
        return [layout.tone(title, .title) + (compares ? headings : "")]
            + rows.map { name, count, before in
                var line = layout.number(count) + layout.right(ReportWords.share(count, of: report.refusals), 8)
                if compares, let before {
                    line += layout.right(ReportWords.grouped(before), 10)
                    line += layout.right(ReportWords.change(count, from: before), 9)
                }
                line += "  " + layout.padded(layout.safe(name), column)
                if meaning > 0 { line += "  " + layout.padded(ReportWords.meaning(of: name), meaning) }
                return layout.trimmed(line + "  " + layout.bar(count, of: most, bar))
            }
    }

    private func nearMisses() -> [String] {
        entries(
            .nearMisses,
            report.nearMisses.map { miss in
                (
                    miss.count, miss.recipient, "",
                    "did you mean \(SafeText.escaped(miss.resembles))? \(miss.prose(zone))"
                )
            })
    }

    private func listedNow() -> [String] {
        entries(.listedNow, report.listedNow.map { ($0.count, $0.recipient, "", $0.prose(zone)) })
    }

    private func unlistedSenders() -> [String] {
        entries(.unlistedSenders, report.unlistedSenders.map { ($0.count, $0.address, "", $0.prose) })
    }

    private func harvests() -> [String] {
        entries(.harvests, report.harvests.map { ($0.attempts, $0.network, $0.name, $0.prose(zone)) })
    }

    private func correspondents() -> [String] {
        entries(
            .correspondents,
            report.correspondents.map {
                ($0.count, $0.sender.isEmpty ? "<>" : $0.sender, "to \($0.recipient)", $0.prose(zone))
            })
    }

    private func observed() -> [String] {
        let rows = report.observed.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        return entries(.observed, rows.map { ($0.value, $0.key, ReportWords.meaning(of: $0.key), "") })
    }

    private func mtaReplies() -> [String] {
        guard !report.mtaReplies.isEmpty else { return [] }
        return heading(.mta)
            + report.mtaReplies.flatMap {
                layout.wrapped(
                    layout.safe($0.reply), first: layout.number($0.count) + "  ",
                    rest: String(repeating: " ", count: 13))
            }
    }

    private func table() -> [String] {
        guard let table = report.table else { return [] }
        let most = table.rows.map(\.count).max() ?? 0
        let values = table.rows.map { layout.plain(ReportWords.value($0.value, table.key, zone)) }
        let column = min(layout.width - 21, values.map(SafeText.width).max() ?? 0)
        let bar = min(30, layout.width - 21 - column - 2)
        var lines = [layout.title("By \(table.key.rawValue)")]
        for (row, value) in zip(table.rows, values) {
            let line =
                layout.number(row.count) + layout.right(ReportWords.percent(row.share), 8) + "  "
                + layout.padded(value, column)
            lines.append(layout.trimmed(line + (bar >= 8 ? "  " + layout.bar(row.count, of: most, bar) : "")))
        }
        if table.rows.isEmpty { lines.append("  nothing") }
        if table.others > 0 {
            let share = ReportWords.share(table.others, of: report.refusals)
            lines.append(layout.number(table.others) + layout.right(share, 8) + "  others")
        }
        return lines
    }

    private func lists() -> [[String]] {
        let top = report.top
        let lists = [
            list("Top recipients", top.recipients.map { ($0.count, $0.recipient.isEmpty ? "-" : $0.recipient, "") }),
            list("Top domains", top.domains.map { ($0.count, $0.domain, "") }),
            list("Top clients", top.clients.map { ($0.count, $0.client.isEmpty ? "unknown" : $0.client, $0.name) }),
            list("Top networks", top.networks.map { ($0.count, $0.network, "") }),
            list("Top senders", top.senders.map { ($0.count, $0.sender.isEmpty ? "<>" : $0.sender, "") }),
            list("Top HELO names", top.helos.map { ($0.count, $0.helo.isEmpty ? "-" : $0.helo, "") }),
        ]
        return [report.limits(zone).flatMap { layout.wrapped($0, rest: "  ", tone: .notice) }] + lists
    }

    private func list(_ title: String, _ rows: [(Int, String, String)]) -> [String] {
        entries(title, "", rows.map { ($0.0, $0.1, $0.2, "") })
    }

    private func heading(_ section: ReportSection) -> [String] { heading(section.title, section.note) }

    private func heading(_ title: String, _ note: String) -> [String] {
        [layout.title(title)] + (note.isEmpty ? [] : layout.wrapped(note, first: "  ", rest: "  ", tone: .quiet))
    }

    private func entries(
        _ section: ReportSection, _ rows: [(count: Int, value: String, note: String, prose: String)]
    ) -> [String] {
        entries(section.title, section.note, rows)
    }

    /// A count with a value, something beside it, and prose below.
    private func entries(
        _ title: String, _ note: String, _ rows: [(count: Int, value: String, note: String, prose: String)]
    ) -> [String] {
        guard !rows.isEmpty else { return [] }
        var lines = heading(title, note)
        let indent = String(repeating: " ", count: layout.width < 60 ? 4 : 13)
        for row in rows {
            var text = layout.safe(row.value)
            if !row.note.isEmpty { text += "  " + layout.safe(row.note) }
            lines.append(layout.number(row.count) + "  " + layout.fitted(text, layout.width - 13))
            if !row.prose.isEmpty {
                lines += layout.wrapped(layout.plain(row.prose), first: indent, rest: indent, tone: .quiet)
            }
        }
        return lines
    }
}
