import Foundation
import RejectionLog

/// The trend as an SVG of stacked bars with axes, for one width of the page.
struct TrendGraphic {
    let trend: ReportTrend
    let zone: TimeZone
    let width: Double
    let height: Double
    /// Distinguishes the graphics of the page.
    let name: String

    private let left = 54.0
    private let top = 14.0
    private let bottom = 26.0
    private let right = 8.0

    var content: ReportPage.Content {
        let scale = Self.scale(trend.steps.map(\.refusals).max() ?? 0)
        let base = height - bottom
        func y(_ value: Int) -> Double { base - Double(value) / Double(scale.most) * (base - top) }
        return [
            "name": name, "width": Self.number(width), "height": Self.number(height),
            "left": Self.number(left), "right": Self.number(width - right), "base": Self.number(base),
            "ticks": scale.ticks.map { tick -> ReportPage.Content in
                [
                    "y": Self.number(y(tick)), "textY": Self.number(y(tick) + 4), "textX": Self.number(left - 8),
                    "text": ReportWords.grouped(tick),
                ]
            },
            "bars": bars(y), "labels": labels, "labelY": Self.number(height - 7),
        ]
    }

    private var slot: Double { (width - left - right) / Double(max(trend.steps.count, 1)) }

    private func bars(_ y: (Int) -> Double) -> [ReportPage.Content] {
        let thick = max(1, min(slot * 0.72, 56))
        return trend.steps.enumerated().map { place, step in
            let x = left + slot * Double(place) + (slot - thick) / 2
            var parts: [ReportPage.Content] = []
            var under = 0
            for (kind, count) in [
                ("r", step.verdicts.refused), ("t", step.verdicts.tempfailed), ("o", step.verdicts.observed),
            ] where count > 0 {
                let over = under &+ count
                parts.append([
                    "kind": kind, "x": Self.number(x), "y": Self.number(y(over)), "width": Self.number(thick),
                    "height": Self.number(max(y(under) - y(over), 0.5)),
                ])
                under = over
            }
            var title = "\(trend.label(step, zone)): \(ReportWords.grouped(step.verdicts.refused)) rejected"
            if step.verdicts.tempfailed > 0 { title += ", \(ReportWords.grouped(step.verdicts.tempfailed)) deferred" }
            if step.verdicts.observed > 0 { title += ", \(ReportWords.grouped(step.verdicts.observed)) observed" }
            return ["title": title + ", \(ReportWords.grouped(step.verdicts.accepted)) accepted", "parts": parts]
        }
    }

    /// Labels for as many steps as there is room for.
    private var labels: [ReportPage.Content] {
        let need = trend.unit == .day || trend.unit == .week ? 62.0 : 46.0
        var every = max(1, Int((need / slot).rounded(.up)))
        // Hours and minutes are easiest to read in round numbers.
        if trend.unit == .hour || trend.unit == .minute {
            let round = trend.unit == .hour ? [1, 2, 3, 4, 6, 12, 24] : [1, 2, 5, 10, 15, 30, 60]
            every = round.first { $0 >= every } ?? every
        }
        return stride(from: 0, to: trend.steps.count, by: every).map { place in
            [
                "x": Self.number(left + slot * (Double(place) + 0.5)), "text": label(trend.steps[place]),
            ]
        }
    }

    private func label(_ step: ReportTrend.Step) -> String {
        let text = TimeText.local(step.start, zone)
        switch trend.unit {
        case .minute: return String(text.suffix(5))
        case .hour: return text.hasSuffix("00:00") ? String(text.dropFirst(5).prefix(5)) : String(text.suffix(5))
        case .day: return "\(TimeText.weekday(step.start, zone)) \(text.dropFirst(8).prefix(2))"
        case .week: return String(text.dropFirst(5).prefix(5))
        }
    }

    /// A scale that ends at a round number, with three to six ticks from 0.
    static func scale(_ most: Int) -> (most: Int, ticks: [Int]) {
        // A value beyond all bounds leaves the graphic, and does no other harm.
        let most = min(max(most, 0), Int.max / 100)
        var step = 1
        let steps = sequence(first: (1, 1)) { power, digit in
            let next =
                digit == 1
                ? (power, 2) : digit == 2 ? (power, 5) : (power.multipliedReportingOverflow(by: 10).partialValue, 1)
            return next.0 > 0 && next.0 < Int.max / 50 ? next : nil
        }
        for (power, digit) in steps {
            step = power * digit
            if most / step < 5 { break }
        }
        let count = max(1, most / step + (most % step == 0 ? 0 : 1))
        return (step.multipliedReportingOverflow(by: count).partialValue, (0...count).map { $0 &* step })
    }

    /// A coordinate with at most two digits after the point.
    static func number(_ value: Double) -> String {
        let hundredths = ReportWords.integer(value * 100)
        let rest = abs(hundredths % 100)
        let whole = "\(hundredths / 100)"
        return rest == 0 ? whole : "\(whole).\(rest < 10 ? "0" : "")\(rest)"
    }
}
