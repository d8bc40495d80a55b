import Foundation
import RejectionLog

extension RejectionReport {
    /// The report as CSV (RFC 4180: a heading, CRLF, quoted where necessary), in UTF-8, times in ISO 8601 (UTC).
    ///
    /// Without a table (`--by`) it is one long table: `section` names the section of a line, `key` its subject, and the
    /// other columns have the names of the JSON form; columns that a section doesn't have are empty. With a table it is
    /// that table alone: the key, `count` and `share` (percent), with a last line `(others)` for everything that is in
    /// none of the rows.
    ///
    /// Values are escaped as in the text form; a value that a spreadsheet would run as a formula has an apostrophe in
    /// front (OWASP, CSV injection).
    public func csv() -> String {
        if let table { return Self.csv(table) }
        let records = records
        // A section with columns of its own adds them behind the known ones.
        let known = Set(Self.csvColumns)
        let others = Set(records.flatMap(\.keys)).subtracting(known).sorted()
        let columns = Self.csvColumns + others
        return CSV.text([columns] + records.map { record in columns.map { record[$0] ?? "" } })
    }

    private static func csv(_ table: ReportSection) -> String {
        guard case .table(let key, let others) = table.form else { return "" }
        var lines = [[key, "count", "share"]]
        let all = table.bars.reduce(others, &+)
        for row in table.rows {
            let record = table.csvRecord(row)
            lines.append([key, "count", "share"].map { record[$0] ?? "" })
        }
        if others > 0 {
            lines.append(["(others)", "\(others)", CSV.number(Double(others) / Double(max(all, 1)) * 100)])
        }
        return CSV.text(lines)
    }

    /// The columns of the long table, in their order.
    private static let csvColumns = [
        "section", "key", "related", "count", "previous", "share", "refused", "tempfailed", "observed", "accepted",
        "recipients", "senders", "clients", "days", "stopped", "generation", "first", "last", "listed", "as_of", "late",
        "age", "text", "action", "estimated", "accepting", "acceptable", "ahead", "stale",
    ]

    private typealias Record = [String: String]

    private var records: [Record] {
        var records = [Self.record("period", figures.period)]
        if let previous { records.append(Self.record("previous_period", previous.period)) }
        records += filterRecords
        records += findings.map {
            [
                "section": "findings", "key": $0.code.rawValue, "related": $0.level.rawValue,
                "text": CSV.safe($0.text), "action": CSV.safe($0.action),
            ]
        }
        records += totalRecords
        records += reasons.csvRecords
        records += trend.steps.map {
            [
                "section": "trend", "key": trend.unit.rawValue, "first": TimeText.seconds($0.start),
                "refused": "\($0.verdicts.refused)", "tempfailed": "\($0.verdicts.tempfailed)",
                "observed": "\($0.verdicts.observed)", "accepted": "\($0.verdicts.accepted)",
            ]
        }
        return records + sections.flatMap(\.csvRecords) + coverageRecords
    }

    private static func record(_ section: String, _ period: Period) -> Record {
        ["section": section, "first": TimeText.seconds(period.since), "last": TimeText.seconds(period.until)]
    }

    private var filterRecords: [Record] {
        let parts: [(String, String?)] = [
            ("domain", filters.domain), ("reason", filters.reason), ("client", filters.client),
            ("redacted", filters.redacted ? "true" : nil), ("verp_folded", filters.foldsVERP ? "true" : nil),
        ]
        return parts.compactMap { key, value in
            value.map { ["section": "cut", "key": key, "text": CSV.safe($0)] }
        }
    }

    private var totalRecords: [Record] {
        let parts: [(String, KeyPath<RecipientTotals, Int>)] = [
            ("refused", \.refused), ("tempfailed", \.tempfailed), ("observed", \.observed), ("accepted", \.accepted),
            ("mta_refused", \.mtaRefused), ("thinned", \.thinned),
        ]
        return parts.map { key, total in
            let count = figures.totals[keyPath: total]
            var record: Record = ["section": "totals", "key": key, "count": "\(count)"]
            record["previous"] = previous.map { "\($0.totals[keyPath: total])" }
            if key != "thinned", figures.asked > 0 {
                record["share"] = CSV.number(Double(count) / Double(figures.asked) * 100)
            }
            return record
        }
    }

    private var coverageRecords: [Record] {
        var records: [Record] = [["section": "coverage", "key": "folded", "count": "\(coverage.folded)"]]
        if let since = coverage.detailsSince {
            records.append(["section": "coverage", "key": "details_since", "first": TimeText.seconds(since)])
        }
        for (key, isSet) in [("whole_days", coverage.wholeDays), ("lookups_exhausted", coverage.lookupsExhausted)]
        where isSet {
            records.append(["section": "coverage", "key": key, "text": "true"])
        }
        return records
    }
}

extension ReportSection {
    fileprivate var csvRecords: [[String: String]] {
        rows.map { csvRecord($0).merging(["section": csvName]) { $1 } }
    }

    /// The values of a row by the names of their columns.
    fileprivate func csvRecord(_ row: Row) -> [String: String] {
        var record: [String: String] = [:]
        for (column, cell) in zip(columns, row.cells) {
            if case .span(let first, let last) = cell {
                record["first"] = TimeText.seconds(first)
                record["last"] = TimeText.seconds(last)
            }
            guard !column.csvName.isEmpty else { continue }
            switch cell {
            case .none, .span, .change: break
            case .count(let count), .duration(let count, _): record[column.csvName] = "\(count)"
            case .estimate(let count, let isEstimate):
                record[column.csvName] = "\(count)"
                if isEstimate { record["estimated"] = column.csvName }
            case .share(let percent): record[column.csvName] = CSV.number(percent)
            case .time(let date): record[column.csvName] = TimeText.seconds(date)
            case .text(let text):
                record[column.csvName] = CSV.safe(text.isEmpty && column.empty == "<>" ? "<>" : text)
            case .flag(let flag): record[column.csvName] = "\(flag)"
            }
        }
        return record
    }
}

/// Records of RFC 4180.
enum CSV {
    /// The records, each with its line end.
    static func text(_ records: [[String]]) -> String {
        records.map { $0.map(field).joined(separator: ",") + "\r\n" }.joined()
    }

    /// A hostile value made harmless: neither a formula to a spreadsheet nor a control sequence to a terminal.
    static func safe(_ value: String) -> String {
        let text = SafeText.escaped(value)
        // The full-width forms are formulas to a spreadsheet of East Asia.
        guard let first = text.unicodeScalars.first, "=+-@\t\r＝＋－＠".unicodeScalars.contains(first) else { return text }
        return "'" + text
    }

    /// A number of percent, to a thousandth.
    static func number(_ value: Double) -> String {
        let thousandths = ReportWords.integer(value * 1000)
        let rest = String(abs(thousandths % 1000))
        return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest
    }

    private static func field(_ value: String) -> String {
        let isPlain = value.unicodeScalars.allSatisfy { !"\",\r\n;\t".unicodeScalars.contains($0) }
        guard !isPlain || value.hasPrefix(" ") || value.hasSuffix(" ") else { return value }
        // By scalars: a mark that joins with the quote before it would hide it from a search by characters.
        var quoted = "\""
        for scalar in value.unicodeScalars {
            quoted.unicodeScalars.append(scalar)
            if scalar == "\"" { quoted.unicodeScalars.append(scalar) }
        }
        quoted.unicodeScalars.append("\"")
        return quoted
    }
}
