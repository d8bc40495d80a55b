import Foundation

/// What the HTML template is filled with: texts, unescaped for HTML, and lists of them.
struct ReportPage {
    let report: RejectionReport
    let zone: TimeZone

    typealias Content = [String: Any]

    func content(host: String, now: Date) -> Content {
        let period = ReportWords.period(report.period, zone)
        let lists = self.lists
        return [
            "style": Self.style,
            "host": SafeText.escaped(host),
            "period": period,
            "length": ReportWords.duration(report.period),
            "cut": ReportWords.cut(report.cut).joined(separator: ", "),
            "hasCut": report.cut != RejectionReport.Cut(),
            "summary": report.summary,
            "tiles": tiles,
            "findings": findings,
            "hasFindings": !report.findings.isEmpty,
            "isQuiet": report.findings.isEmpty && report.refusals > 0,
            "findingCount": ReportWords.findings(report.findings),
            "trends": trend.map { [$0] } ?? [],
            "reasons": reasons.map { [$0] } ?? [],
            "tables": tables,
            "lists": lists,
            "hasLists": !lists.isEmpty,
            "limits": report.limits(zone),
            "made": Timestamp.local(now, zone) + " " + Timestamp.offset(now, zone),
        ]
    }

    /// The totals, each with the period before.
    private var tiles: [Content] {
        report.totalLines.map { label, count, before in
            [
                "label": label, "count": ReportWords.grouped(count),
                "share": ReportWords.share(count, of: report.asked),
                "before": before.map { "\(ReportWords.change(count, from: $0)), before: \(ReportWords.grouped($0))" }
                    ?? "",
                "isCompared": before != nil, "isMain": label == "refused",
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

    private var reasons: Content? {
        let rows = report.reasonLines
        guard !rows.isEmpty else { return nil }
        let most = rows.map(\.count).max() ?? 0
        return [
            "title": ReportSection.reasons.title,
            "isCompared": report.previous != nil,
            "rows": rows.map { reason, count, before -> Content in
                [
                    "reason": SafeText.escaped(reason), "meaning": ReportWords.meaning(of: reason),
                    "count": ReportWords.grouped(count), "share": ReportWords.share(count, of: report.refusals),
                    "isCompared": before != nil, "before": before.map(ReportWords.grouped) ?? "",
                    "change": before.map { ReportWords.change(count, from: $0) } ?? "",
                    "width": Self.width(count, of: most),
                ]
            },
        ]
    }

    private var trend: Content? {
        let steps = report.trend.steps
        guard steps.count > 1, steps.contains(where: { $0.refusals > 0 }) else { return nil }
        let most = steps.max { $0.refusals < $1.refusals }
        let peak =
            most.map { "\(report.trend.label($0, zone)) with \(ReportWords.grouped($0.refusals))" } ?? ""
        return [
            "title": "\(ReportSection.trend.title) by \(report.trend.unit.rawValue)",
            "unit": report.trend.unit.rawValue.prefix(1).uppercased() + report.trend.unit.rawValue.dropFirst(),
            "description": "Most on \(peak).",
            "hasTempfailed": steps.contains { $0.tempfailed > 0 }, "hasObserved": steps.contains { $0.observed > 0 },
            "graphics": [
                TrendGraphic(trend: report.trend, zone: zone, width: 960, height: 250, name: "wide").content,
                TrendGraphic(trend: report.trend, zone: zone, width: 360, height: 220, name: "narrow").content,
            ],
            "rows": steps.map { step -> Content in
                [
                    "label": report.trend.label(step, zone), "refused": ReportWords.grouped(step.refused),
                    "tempfailed": ReportWords.grouped(step.tempfailed),
                    "observed": ReportWords.grouped(step.observed), "accepted": ReportWords.grouped(step.accepted),
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
