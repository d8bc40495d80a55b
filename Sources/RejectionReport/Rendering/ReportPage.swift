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
