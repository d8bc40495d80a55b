public import Foundation

extension RejectionReport {
    /// The report for a terminal: at most `width` columns (not less than 40), times in the zone given; every value escaped.
    /// What asks for attention comes first, empty sections don't appear. Ends with a line feed.
    public func text(width: Int = 80, timeZone: TimeZone = .current) -> String {
        ReportText(report: self, width: max(width, 40), zone: timeZone).render()
    }
}

/// Lays out a report in lines.
private struct ReportText {
    let report: RejectionReport
    let width: Int
    let zone: TimeZone

    private var refusals: Int { report.byReason.values.reduce(0, +) }

    func render() -> String {
        var sections = [heading()]
        if refusals == 0 {
            sections.append(nothing())
        } else {
            sections.append(attention())
            sections.append(totals())
            sections.append(reasons())
            sections.append(
                list("Top recipients", report.top.recipients.map { ($0.count, $0.recipient, "") }))
            sections.append(list("Top domains", report.top.domains.map { ($0.count, $0.domain, "") }))
            sections.append(
                list(
                    "Top clients",
                    report.top.clients.map { ($0.count, $0.client.isEmpty ? "unknown" : $0.client, $0.name) }))
            sections.append(
                list("Top senders", report.top.senders.map { ($0.count, $0.sender.isEmpty ? "<>" : $0.sender, "") }))
            sections.append(
                list("Top HELO names", report.top.helos.map { ($0.count, $0.helo.isEmpty ? "-" : $0.helo, "") }))
        }
        return sections.filter { !$0.isEmpty }.map { $0.joined(separator: "\n") + "\n" }.joined(separator: "\n")
    }

    private func heading() -> [String] {
        let (since, until) = (report.period.since, report.period.until)
        let (first, last) = (Timestamp.offset(since, zone), Timestamp.offset(until, zone))
        let from = Timestamp.local(since, zone) + (first == last ? "" : " \(first)")
        return lines("Rejections", "\(from) to \(Timestamp.local(until, zone)) \(last)")
    }

    private func nothing() -> [String] {
        let accepted = report.totals.accepted
        if accepted == 0 { return wrapped("Nothing was refused, and nothing was asked for, in this period.") }
        return wrapped(
            "Nothing was refused in this period; \(grouped(accepted)) \(accepted == 1 ? "recipient was" : "recipients were") "
                + "accepted.")
    }

    private func attention() -> [String] {
        var lines: [String] = []
        let totals = report.totals
        if totals.tempfailed > 0 {
            lines += wrapped(
                "! \(grouped(totals.tempfailed)) put off with a 4xx reply: their senders try again; look for a reason like "
                    + "no-index, stale-index or mta below.")
        }
        if totals.thinned > 0 {
            lines += wrapped(
                "! \(grouped(totals.thinned)) detail rows were thinned out in a flood: all sums and the domains' are exact, "
                    + "the lists of recipients, clients, senders and HELO names are too low.")
        }
        if totals.observed > 0 {
            lines += wrapped("! \(grouped(totals.observed)) would have been refused, but observe mode let them pass.")
        }
        return lines
    }

    private func totals() -> [String] {
        let totals = report.totals
        let all = totals.refused + totals.tempfailed + totals.observed + totals.accepted
        let rows = [
            ("refused", totals.refused), ("put off (4xx)", totals.tempfailed),
            ("  of these: the MTA", totals.mtaRefused), ("observed only", totals.observed),
            ("accepted", totals.accepted),
        ]
        return ["Recipients"]
            + rows.filter { $0.1 > 0 || $0.0 == "refused" || $0.0 == "accepted" }.map {
                number($0.1) + "  " + SafeText.padded(share($0.1, of: all), 6) + "  " + $0.0
            }
    }

    private func reasons() -> [String] {
        guard refusals > 0 else { return [] }
        let names = report.reasons
        let column = min(20, names.map { SafeText.width(SafeText.escaped($0.reason)) }.max() ?? 0)
        let room = min(40, width - 11 - 2 - 6 - 2 - column - 2)
        let most = names.first?.count ?? 0
        return ["By reason"]
            + names.map { name, count in
                let length = most > 0 ? Int((Double(count) / Double(most) * Double(max(room, 0))).rounded()) : 0
                let line =
                    number(count) + "  " + SafeText.padded(share(count, of: refusals), 6) + "  "
                    + SafeText.padded(SafeText.escaped(name), column) + "  " + String(repeating: "#", count: length)
                return trimmed(line)
            }
    }

    private func list(_ title: String, _ rows: [(count: Int, value: String, note: String)]) -> [String] {
        guard !rows.isEmpty else { return [] }
        return [title]
            + rows.map { row in
                var text = SafeText.escaped(row.value)
                if !row.note.isEmpty { text += "  " + SafeText.escaped(row.note) }
                return number(row.count) + "  " + SafeText.fitted(text, width - 13)
            }
    }

    /// Right-aligned in eleven columns.
    private func number(_ value: Int) -> String {
        let text = grouped(value)
        return String(repeating: " ", count: max(0, 11 - text.count)) + text
    }

    private func grouped(_ value: Int) -> String {
        var digits = Array(String(value.magnitude))
        var place = digits.count - 3
        while place > 0 {
            digits.insert(",", at: place)
            place -= 3
        }
        return (value < 0 ? "-" : "") + String(digits)
    }

    private func share(_ part: Int, of all: Int) -> String {
        guard all > 0 else { return "" }
        let tenths = Int((Double(part) / Double(all) * 1000).rounded())
        let text = tenths == 0 && part > 0 ? "<0.1%" : "\(tenths / 10).\(tenths % 10)%"
        return String(repeating: " ", count: max(0, 6 - text.count)) + text
    }

    private func lines(_ title: String, _ text: String) -> [String] {
        let line = "\(title)  \(text)"
        return line.count <= width ? [line] : [title] + wrapped(text)
    }

    private func wrapped(_ text: String) -> [String] {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = text.hasPrefix("!") ? "  \(word)" : String(word)
            } else {
                line += line.isEmpty ? String(word) : " \(word)"
            }
        }
        return lines + [line]
    }

    private func trimmed(_ line: String) -> String {
        var line = Substring(line)
        while line.last == " " { line.removeLast() }
        return String(line)
    }
}
