public import Foundation

extension RejectionReport {
    /// The layout of a report as text.
    public struct TextStyle: Sendable {
        /// The greatest number of columns in a line; not less than 40.
        public var width: Int
        /// True where the terminal understands colours (SGR).
        public var isColored: Bool
        /// False where only ASCII can be shown: other characters are spelled out, and charts are made of `#`.
        public var isUnicode: Bool

        /// 80 columns of Unicode, without colours.
        public init(width: Int = 80, isColored: Bool = false, isUnicode: Bool = true) {
            self.width = max(width, 40)
            self.isColored = isColored
            self.isUnicode = isUnicode
        }
    }

    /// The report for a terminal or a plain-text mail, ending with a line feed: no line wider than the style's width,
    /// times in the given zone, every value escaped. Findings come first; empty sections are left out.
    public func text(_ style: TextStyle = TextStyle(), timeZone: TimeZone = .current) -> String {
        let text = ReportText(report: self, layout: TextLayout(style: style), zone: timeZone)
        return text.sections.filter { !$0.isEmpty }.map { $0.joined(separator: "\n") + "\n" }.joined(separator: "\n")
    }
}

/// The parts of the text form, each as lines.
struct ReportText {
    let report: RejectionReport
    let layout: TextLayout
    let zone: TimeZone

    var sections: [[String]] {
        var sections = [heading(), findings()]
        if report.figures.refusals > 0 || report.previous != nil { sections.append(totals()) }
        sections += [lines(report.reasons), trend()]
        sections += report.sections.filter { $0.style != .ranking }.map(lines)
        sections.append(report.limits(zone).flatMap { layout.wrapped($0, rest: "  ", tone: .notice) })
        return sections + report.sections.filter { $0.style == .ranking }.map(lines)
    }

    private func heading() -> [String] {
        let title = RejectionReport.title
        let period = TimeText.period(report.figures.period, zone)
        let line = "\(title)  \(period)"
        var lines =
            SafeText.width(line) <= layout.width
            ? [layout.tone(title, .title) + "  " + period] : [layout.tone(title, .title)] + layout.wrapped(period)
        let filters = ReportWords.filters(report.filters)
        if !filters.isEmpty { lines += layout.wrapped(layout.plain(filters.joined(separator: ", ")), tone: .quiet) }
        return lines + layout.wrapped(report.summary)
    }

    private func findings() -> [String] {
        guard !report.findings.isEmpty else {
            return report.figures.refusals > 0 ? [layout.tone("No problems found.", .good)] : []
        }
        var lines = [layout.title("What to do: \(ReportWords.findings(report.findings))")]
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
        func row(_ label: String, _ cells: [String]) -> String {
            layout.trimmed(
                SafeText.padded(label, 20) + zip(cells, [11, 8, 12, 11]).map { layout.right($0, $1) }.joined())
        }
        var heading = ["", "share"]
        if compares { heading = ["now", "share", "before", "change"] }
        let title = "Recipients"
        var lines = [layout.tone(title, .title) + row("", heading).dropFirst(title.count)]
        for (label, count, before) in report.totalLines {
            var cells = [ReportWords.grouped(count), ReportWords.share(count, of: report.figures.asked)]
            if compares, let before { cells += [ReportWords.grouped(before), ReportWords.change(count, from: before)] }
            lines.append(row("  \(label)", cells))
        }
        return lines
    }

    // MARK: Sections

    /// A section as lines; none where it has no rows.
    private func lines(_ section: ReportSection) -> [String] {
        section.style == .bars ? bars(section) : list(section)
    }

    /// A number with a value, and the other columns in a sentence below.
    private func list(_ section: ReportSection) -> [String] {
        guard !section.rows.isEmpty, let number = section.index(of: .number), let key = section.index(of: .key) else {
            return []
        }
        var lines = [layout.title(section.title)]
        if !section.note.isEmpty { lines += layout.wrapped(section.note, first: "  ", rest: "  ", tone: .quiet) }
        let indent = String(repeating: " ", count: layout.width < 60 ? 4 : 13)
        for row in section.rows {
            func sentences(_ place: ReportSection.Column.Place) -> [String] {
                zip(section.columns, row.cells).filter { $0.0.place == place }
                    .compactMap { column, cell in column.sentence(cell, zone).map { unbroken(layout.plain($0), cell) } }
            }
            // A time that fits on a line isn't broken: until the end, its spaces are of the kind that doesn't break.
            func unbroken(_ text: String, _ cell: ReportSection.Cell) -> String {
                let fits = SafeText.width(text) <= layout.width - indent.count
                return switch cell {
                case .time, .span, .duration:
                    fits ? text.replacing(" ", with: "\u{A0}") : text
                default: text
                }
            }
            let start = layout.number(row.cells[number].count ?? 0) + "  "
            let value = layout.plain(section.columns[key].text(row.cells[key], zone))
            if section.columns[key].kind == .text {
                lines += layout.wrapped(value, first: start, rest: String(repeating: " ", count: 13))
            } else {
                let text = ([value] + sentences(.beside)).joined(separator: "  ")
                lines.append(start + layout.fitted(text, layout.width - 13))
            }
            let details = sentences(.detail).joined(separator: "; ")
            if !details.isEmpty {
                lines += layout.wrapped(
                    details, first: indent, rest: indent, tone: row.isProblem ? .problem : .quiet)
            }
        }
        return lines.map { $0.replacing("\u{A0}", with: " ") }
    }

    /// Numbers, a value and a bar on each line.
    private func bars(_ section: ReportSection) -> [String] {
        guard let key = section.index(of: .key) else { return [] }
        let numbers = section.columns.indices.filter {
            section.columns[$0].kind.isNumber && (section.columns[$0].kind == .share || layout.width >= 66)
                || section.columns[$0].place == .number
        }
        let used = numbers.reduce(0) { $0 + width(of: section.columns[$1]) }
        let beside = section.index(of: .beside)
        let values = section.rows.map { layout.plain(section.columns[key].text($0.cells[key], zone)) }
        let widest = values.map(SafeText.width).max() ?? 0
        let valueWidth = min(beside == nil ? layout.width - used - 2 : min(16, layout.width - used - 2), widest)
        let room = layout.width - used - 2 - valueWidth - 2
        let besideWidth = beside != nil && room >= 31 ? 23 : 0
        let barWidth = min(40, room - (besideWidth > 0 ? besideWidth + 2 : 0))
        let most = section.bars.max() ?? 0
        var lines = [heading(of: section, numbers)]
        for (row, value) in zip(section.rows, values) {
            var line = numbers.map { place in
                let column = section.columns[place]
                let text = row.cells[place] == .none ? "" : column.text(row.cells[place], zone)
                return layout.right(text, width(of: column))
            }.joined()
            line += "  " + layout.padded(value, valueWidth)
            if besideWidth > 0, let beside {
                let text = section.columns[beside].sentence(row.cells[beside], zone) ?? ""
                line += "  " + layout.padded(layout.plain(text), besideWidth)
            }
            if barWidth >= 8, let number = section.index(of: .number) {
                line += "  " + layout.bar(row.cells[number].count ?? 0, of: most, barWidth)
            }
            lines.append(layout.trimmed(line))
        }
        guard case .table(_, let others) = section.form else { return section.rows.isEmpty ? [] : lines }
        if section.rows.isEmpty { lines.append("  nothing") }
        if others > 0 {
            let share = ReportWords.share(others, of: report.figures.refusals)
            lines.append(layout.number(others) + layout.right(share, 8) + "  others")
        }
        return lines
    }

    /// The title, with headings over the numbers where these are more than two.
    private func heading(of section: ReportSection, _ numbers: [Int]) -> String {
        let title = layout.title(section.title)
        guard numbers.count > 2 else { return title }
        var (headings, end, used) = ("", 0, SafeText.width(section.title))
        for column in numbers.map({ section.columns[$0] }) {
            end += width(of: column)
            guard column.place != .number else { continue }
            headings += layout.right(column.title.lowercased(), end - used)
            used = end
        }
        return title + headings
    }

    private func width(of column: ReportSection.Column) -> Int {
        switch column.kind {
        case .share: 8
        case .change: 9
        default: column.place == .number ? 11 : 10
        }
    }

    // MARK: Trend

    /// The trend: a bar for each of a few steps, a chart of columns for more.
    private func trend() -> [String] {
        let steps = report.trend.steps
        let most = steps.map(\.refusals).max() ?? 0
        guard steps.count > 1, most > 0 else { return [] }
        let title = layout.title("Rejected by \(report.trend.unit.rawValue)")
        return [title] + (steps.count <= 14 ? trendBars(steps, most) : columns(steps, most) + figures(steps))
    }

    private func trendBars(_ steps: [ReportTrend.Step], _ most: Int) -> [String] {
        let labels = steps.map { report.trend.label($0, zone) }
        let column = labels.map(\.count).max() ?? 0
        let bar = max(0, min(40, layout.width - 11 - 2 - column - 2))
        return zip(steps, labels).map { step, label in
            layout.trimmed(
                layout.number(step.refusals) + "  " + SafeText.padded(label, column) + "  "
                    + layout.bar(step.refusals, of: most, bar))
        }
    }

    /// Columns of four lines; steps share a column where the terminal has fewer columns than steps.
    private func columns(_ steps: [ReportTrend.Step], _ most: Int) -> [String] {
        let room = layout.width - 13
        let group = (steps.count + room - 1) / room
        let values = stride(from: 0, to: steps.count, by: group).map { start in
            steps[start..<min(start + group, steps.count)].reduce(0) { $0 &+ $1.refusals }
        }
        let wide = max(1, min(3, room / max(values.count, 1)))
        let height = 4
        let most = max(values.max() ?? 1, 1)
        var lines = (0..<height).map { line in
            let label = line == 0 ? layout.number(most) : layout.right(line == height - 1 ? "0" : "", 11)
            let cells = values.map { value in
                let eighths = ReportWords.integer(Double(value) / Double(most) * Double(height * 8))
                let least = value > 0 ? max(eighths, 1) : 0
                return String(
                    repeating: layout.column(least - (height - 1 - line) * 8), count: wide)
            }
            return layout.trimmed(label + "  " + layout.tone(layout.trimmed(cells.joined()), .bar))
        }
        let first = steps.first.map { report.trend.label($0, zone) } ?? ""
        let last = steps.last.map { report.trend.label($0, zone) } ?? ""
        let gap = max(2, values.count * wide - first.count - last.count)
        let fits = first.count + gap + last.count <= room
        let ends = fits ? first + String(repeating: " ", count: gap) + last : first
        lines.append(String(repeating: " ", count: 13) + ends)
        if group > 1 {
            lines.append(String(repeating: " ", count: 13) + "a column is \(group) \(report.trend.unit.rawValue)s")
        }
        return lines
    }

    /// The figures of up to 48 steps, several on a line; steps without a rejection are left out.
    private func figures(_ steps: [ReportTrend.Step]) -> [String] {
        guard steps.count <= 48 else { return [] }
        let isDay = report.trend.unit == .day || report.trend.unit == .week
        let cells = steps.filter { $0.refusals != 0 }.map { step in
            let label = TimeText.local(step.start, zone)
            // With more than one day, the hour needs its day.
            let short = isDay ? label.dropFirst(5).prefix(5) : label.suffix(steps.count > 24 ? 11 : 5)
            return short + layout.right(ReportWords.grouped(step.refusals), 8)
        }
        let across = max(1, (layout.width + 1) / ((cells.first?.count ?? 0) + 3))
        let down = (cells.count + across - 1) / across
        return (0..<down).map { line in
            "  " + stride(from: line, to: cells.count, by: down).map { cells[$0] }.joined(separator: "   ")
        }
    }
}
