import Foundation

extension ReportText {
    /// The trend: a bar for each of a few steps, a chart of columns for more.
    func trend() -> [String] {
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
