public import Foundation
import Mustache
import RejectionLog

extension RejectionReport {
    /// The heading of a report.
    static let title = "Rejected recipients"

    /// The report as one HTML file that needs nothing else: no script, no outside resource; light or dark as the
    /// reader's system is, readable on a phone and on paper.
    ///
    /// - Parameters:
    ///   - host: the gateway's name, for the heading.
    ///   - timeZone: the zone of the times shown.
    ///   - now: the time at which the report was made.
    public func html(host: String, timeZone: TimeZone = .current, now: Date = Date()) throws -> String {
        MustacheContentTypes.register(HTMLText(), named: HTMLText.name)
        let template = try MustacheTemplate(string: ReportPage.template)
        return template.render(ReportPage(report: self, zone: timeZone).content(host: host, now: now))
    }
}

/// The values of the HTML template: texts, not yet escaped for HTML, and lists of them.
struct ReportPage {
    let report: RejectionReport
    let zone: TimeZone

    typealias Content = [String: Any]

    func content(host: String, now: Date) -> Content {
        let period = TimeText.period(report.figures.period, zone)
        let lists = report.sections.filter { $0.style == .ranking }.compactMap(ranking)
        return [
            "style": Self.style,
            "host": SafeText.escaped(host),
            "period": period,
            "length": TimeText.duration(report.figures.period),
            "title": RejectionReport.title,
            "filters": ReportWords.filters(report.filters).joined(separator: ", "),
            "hasFilters": report.filters != RejectionReport.Filters(),
            "summary": report.summary,
            "tiles": tiles,
            "findings": findings,
            "hasFindings": !report.findings.isEmpty,
            "isQuiet": report.findings.isEmpty && report.figures.refusals > 0,
            "findingCount": ReportWords.findings(report.findings),
            "trends": trend.map { [$0] } ?? [],
            "tables": ([report.reasons] + report.sections.filter { $0.style != .ranking }).compactMap(table),
            "lists": lists,
            "hasLists": !lists.isEmpty,
            "limits": report.limits(zone),
            "made": TimeText.local(now, zone) + " " + TimeText.offset(now, zone),
        ]
    }

    /// The totals, each with the period before.
    private var tiles: [Content] {
        report.totalLines.map { label, count, before in
            [
                "label": label, "count": ReportWords.grouped(count),
                "share": ReportWords.share(count, of: report.figures.asked),
                "before": before.map { "\(ReportWords.change(count, from: $0)), before: \(ReportWords.grouped($0))" }
                    ?? "",
                "isCompared": before != nil, "isMain": label.hasPrefix("rejected"),
            ]
        }
    }

    private var findings: [Content] {
        report.findings.map {
            [
                "kind": $0.level.rawValue, "label": $0.level == .problem ? "Problem" : "Notice",
                "text": SafeText.escaped($0.text), "action": SafeText.escaped($0.action),
                "hasAction": !$0.action.isEmpty,
            ]
        }
    }

    private var trend: Content? {
        let steps = report.trend.steps
        guard steps.count > 1, steps.contains(where: { $0.refusals > 0 }) else { return nil }
        let most = steps.max { $0.refusals < $1.refusals }
        let peak =
            most.map { "\(report.trend.label($0, zone)) with \(ReportWords.grouped($0.refusals))" } ?? ""
        return [
            "title": "Rejected by \(report.trend.unit.rawValue)",
            "unit": report.trend.unit.rawValue.prefix(1).uppercased() + report.trend.unit.rawValue.dropFirst(),
            "description": "Most on \(peak).",
            "hasTempfailed": steps.contains { $0.verdicts.tempfailed > 0 },
            "hasObserved": steps.contains { $0.verdicts.observed > 0 },
            "graphics": [
                TrendGraphic(trend: report.trend, zone: zone, width: 960, height: 250, name: "wide").content,
                TrendGraphic(trend: report.trend, zone: zone, width: 360, height: 220, name: "narrow").content,
            ],
            "rows": steps.map { step -> Content in
                [
                    "label": report.trend.label(step, zone), "refused": ReportWords.grouped(step.verdicts.refused),
                    "tempfailed": ReportWords.grouped(step.verdicts.tempfailed),
                    "observed": ReportWords.grouped(step.verdicts.observed),
                    "accepted": ReportWords.grouped(step.verdicts.accepted),
                ]
            },
        ]
    }

    // MARK: Sections

    /// A section as a table; nil where it has no rows.
    private func table(_ section: ReportSection) -> Content? {
        guard !section.rows.isEmpty else { return nil }
        let shown = section.columns.indices.filter { ![.beside, .data].contains(section.columns[$0].place) }
        let bars = section.style == .bars ? section.bars : []
        let most = bars.max() ?? 0
        var rows = section.rows.enumerated().map { place, row -> Content in
            [
                "cells": shown.map { cell(row, $0, of: section) }, "hasBars": !bars.isEmpty,
                "width": bars.isEmpty ? "0" : Self.width(bars[place], of: most),
            ]
        }
        if case .table(_, let others) = section.form, others > 0 {
            let row = ReportSection.Row([
                .count(others), .share(Double(others) / Double(max(report.figures.refusals, 1)) * 100), .text("others"),
            ])
            rows.append(["cells": shown.map { cell(row, $0, of: section) }, "hasBars": true, "width": "0"])
        }
        return [
            "id": section.csvName, "title": section.title, "note": section.note, "hasNote": !section.note.isEmpty,
            "hasBars": !bars.isEmpty, "rows": rows,
            "columns": shown.map { ["title": section.columns[$0].title, "kind": Self.style(of: section.columns[$0])] },
        ]
    }

    private func cell(_ row: ReportSection.Row, _ place: Int, of section: ReportSection) -> Content {
        let column = section.columns[place]
        let note = column.place == .key ? besides(row, of: section) : ""
        return [
            "title": column.title, "kind": Self.style(of: column), "note": note, "hasNote": !note.isEmpty,
            "parts": parts(row.cells[place], column),
        ]
    }

    /// The text of a value; a span of time is broken before its end, if anywhere.
    private func parts(_ cell: ReportSection.Cell, _ column: ReportSection.Column) -> [String] {
        let text = column.text(cell, zone)
        guard case .span = cell, let gap = text.range(of: " to ") else { return [text] }
        return [String(text[..<gap.lowerBound]), "to " + text[gap.upperBound...]]
    }

    private func besides(_ row: ReportSection.Row, of section: ReportSection) -> String {
        zip(section.columns, row.cells).filter { $0.0.place == .beside }.compactMap { $0.0.sentence($0.1, zone) }
            .joined(separator: "  ")
    }

    /// The style sheet's class for a column.
    private static func style(of column: ReportSection.Column) -> String {
        column.kind.isNumber ? "n" : [.time, .day].contains(column.kind) ? "d" : "s"
    }

    /// A list of the most frequent values; nil where it has no rows.
    private func ranking(_ section: ReportSection) -> Content? {
        guard !section.rows.isEmpty, let key = section.index(of: .key) else { return nil }
        let counts = section.bars
        let most = counts.max() ?? 0
        return [
            "title": section.title, "column": section.columns[key].title,
            "rows": zip(section.rows, counts).map { row, count -> Content in
                let note = besides(row, of: section)
                return [
                    "count": ReportWords.grouped(count), "value": section.columns[key].text(row.cells[key], zone),
                    "note": note, "hasNote": !note.isEmpty, "width": Self.width(count, of: most),
                ]
            },
        ]
    }

    /// The width of a bar out of 100.
    static func width(_ count: Int, of most: Int) -> String {
        guard count > 0, most > 0 else { return "0" }
        return TrendGraphic.number(max(0.5, Double(count) / Double(most) * 100))
    }
}

/// Escapes text for HTML, also within the quotes of an attribute.
///
/// swift-mustache escapes characters: a quote with a combining mark is another character, and stays as it is. This type
/// escapes scalars.
struct HTMLText: MustacheContentType {
    /// The name in the templates' `CONTENT_TYPE`.
    static let name = "POSTERN-HTML"

    func escapeText(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
    }
}

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
