import Foundation
import RejectionLog

/// The forms of a report for programs, which have the same fields.
extension RejectionReport {
    /// The version of the JSON form: fields may be added within one, none renamed or removed.
    static let schema = 1

    /// The report as JSON: keys sorted, indented, times in ISO 8601 (UTC), ending with a line feed. Values are exact;
    /// characters that aren't plainly visible are written like `\u202e`.
    public func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return SafeText.jsonEscaped(String(decoding: try encoder.encode(document), as: UTF8.self)) + "\n"
    }

    private var document: JSONValue {
        var document: [String: JSONValue] = figures.json
        document["schema"] = .number(Self.schema)
        document["cut"] = .object(filters.fields)
        document["previous"] = previous.map { .fields($0.json) }
        document["trend"] = .fields([
            "unit": .text(trend.unit.rawValue),
            "steps": .list(trend.steps.map { .fields($0.verdicts.fields.merging(["start": .time($0.start)]) { $1 }) }),
        ])
        document["coverage"] = .object(coverage.fields)
        document["findings"] = .list(
            findings.map {
                .fields([
                    "level": .text($0.level.rawValue), "code": .text($0.code.rawValue), "text": .text($0.text),
                    "action": .text($0.action),
                ])
            })
        for section in sections {
            guard let json = section.json else { continue }
            let path = section.path.split(separator: ".").map(String.init)
            if path.count == 1 {
                document[path[0]] = json
            } else {
                document[path[0], default: .fields([:])].set(json, at: path[1])
            }
        }
        return .fields(document)
    }

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
        let others = Set(records.flatMap(\.keys)).subtracting(Self.csvColumns).sorted()
        let columns = Self.csvColumns + others
        return CSV.text([columns] + records.map { record in columns.map { record[$0]?.csv ?? "" } })
    }

    private static func csv(_ table: ReportSection) -> String {
        guard case .table(let key, let others) = table.form else { return "" }
        let columns = [key, "count", "share"]
        var records = table.rows.map(table.csvRecord)
        if others > 0 {
            let share = Double(others) / Double(max(table.bars.reduce(others, &+), 1)) * 100
            records.append([key: .text("(others)"), "count": .number(others), "share": .share(share)])
        }
        return CSV.text([columns] + records.map { record in columns.map { record[$0]?.csv ?? "" } })
    }

    /// The columns of the long table, in their order.
    private static let csvColumns = [
        "section", "key", "related", "count", "previous", "share", "refused", "tempfailed", "observed", "accepted",
        "recipients", "senders", "clients", "days", "stopped", "generation", "first", "last", "listed", "as_of", "late",
        "age", "text", "action", "estimated", "accepting", "acceptable", "ahead", "stale",
    ]

    private var records: [JSONValue.Fields] {
        var records = [Self.record("period", figures.period)]
        if let previous { records.append(Self.record("previous_period", previous.period)) }
        records += Self.records("cut", filters.fields)
        records += findings.map {
            [
                "section": .text("findings"), "key": .text($0.code.rawValue), "related": .text($0.level.rawValue),
                "text": .text($0.text), "action": .text($0.action),
            ]
        }
        records += RecipientTotals.names.map { name, total in
            let count = figures.totals[keyPath: total]
            var record: JSONValue.Fields = ["section": .text("totals"), "key": .text(name), "count": .number(count)]
            record["previous"] = previous.map { .number($0.totals[keyPath: total]) }
            if name != "thinned", figures.asked > 0 {
                record["share"] = .share(Double(count) / Double(figures.asked) * 100)
            }
            return record
        }
        records += reasons.csvRecords
        records += trend.steps.map {
            $0.verdicts.fields.merging([
                "section": .text("trend"), "key": .text(trend.unit.rawValue), "first": .time($0.start),
            ]) { $1 }
        }
        return records + sections.flatMap(\.csvRecords) + Self.records("coverage", coverage.fields)
    }

    private static func record(_ section: String, _ period: Period) -> JSONValue.Fields {
        ["section": .text(section), "first": .time(period.since), "last": .time(period.until)]
    }

    /// A record for each field; none for a flag that isn't set.
    private static func records(_ section: String, _ fields: [(String, JSONValue?)]) -> [JSONValue.Fields] {
        fields.compactMap { name, value in
            guard let value, value != .flag(false) else { return nil }
            let column: String
            switch value {
            case .number: column = "count"
            case .time: column = "first"
            default: column = "text"
            }
            return ["section": .text(section), "key": .text(name), column: value]
        }
    }
}

extension RejectionReport.Figures {
    fileprivate var json: JSONValue.Fields {
        [
            "period": .fields(["since": .time(period.since), "until": .time(period.until)]),
            "totals": .object(RecipientTotals.names.map { ($0, .number(totals[keyPath: $1])) }),
            "by_reason": .fields(byReason.mapValues(JSONValue.number)),
        ]
    }
}

extension RecipientTotals {
    fileprivate static var names: [(String, KeyPath<RecipientTotals, Int>)] {
        [
            ("refused", \.refused), ("tempfailed", \.tempfailed), ("observed", \.observed), ("accepted", \.accepted),
            ("mta_refused", \.mtaRefused), ("thinned", \.thinned),
        ]
    }
}

extension RejectionReader.Verdicts {
    fileprivate var fields: JSONValue.Fields {
        [
            "refused": .number(refused), "tempfailed": .number(tempfailed), "observed": .number(observed),
            "accepted": .number(accepted),
        ]
    }
}

extension RejectionReport.Filters {
    fileprivate var fields: [(String, JSONValue?)] {
        [
            ("domain", domain.map(JSONValue.text)), ("reason", reason.map(JSONValue.text)),
            ("client", client.map(JSONValue.text)), ("redacted", .flag(redacted)), ("verp_folded", .flag(foldsVERP)),
        ]
    }
}

extension RejectionReport.Coverage {
    fileprivate var fields: [(String, JSONValue?)] {
        [
            ("folded", .number(folded)), ("details_since", detailsSince.map(JSONValue.time)),
            ("whole_days", .flag(wholeDays)), ("lookups_exhausted", .flag(lookupsExhausted)),
        ]
    }
}

extension ReportSection {
    /// The section in its JSON form; nil for an object without a row.
    fileprivate var json: JSONValue? {
        let objects = rows.map { JSONValue.fields(fields($0)) }
        switch form {
        case .list: return .list(objects)
        case .object: return objects.first
        case .counts:
            guard let number = index(of: .number), let key = index(of: .key) else { return nil }
            return .fields(
                rows.reduce(into: [:]) { counts, row in
                    guard case .text(let name) = row.cells[key] else { return }
                    counts[name] = .number(row.cells[number].count ?? 0)
                })
        case .table(let key, let others):
            return .fields(["key": .text(key), "rows": .list(objects), "others": .number(others)])
        }
    }

    fileprivate var csvRecords: [JSONValue.Fields] {
        rows.map { csvRecord($0).merging(["section": .text(csvName)]) { $1 } }
    }

    /// The values of a row by the names of their columns in JSON.
    private func fields(_ row: Row) -> JSONValue.Fields {
        var fields = spans(row)
        for (column, cell) in zip(columns, row.cells) where !column.name.isEmpty {
            fields[column.name] = cell.json
            if case .estimate(_, let isEstimate) = cell { fields["\(column.name)_estimated"] = .flag(isEstimate) }
        }
        return fields
    }

    /// The values of a row by the names of their columns in CSV.
    fileprivate func csvRecord(_ row: Row) -> JSONValue.Fields {
        var fields = spans(row)
        for (column, cell) in zip(columns, row.cells) where !column.csvName.isEmpty {
            let isNullPath = cell == .text("") && column.empty == "<>"
            fields[column.csvName] = isNullPath ? .text("<>") : cell.json
            if case .estimate(_, true) = cell { fields["estimated"] = .text(column.csvName) }
        }
        return fields
    }

    private func spans(_ row: Row) -> JSONValue.Fields {
        row.cells.reduce(into: [:]) { fields, cell in
            guard case .span(let first, let last) = cell else { return }
            fields["first"] = .time(first)
            fields["last"] = .time(last)
        }
    }
}

extension ReportSection.Cell {
    /// The value; nil where it isn't known, has no one field, or is for people only.
    fileprivate var json: JSONValue? {
        switch self {
        case .none, .span, .change: nil
        case .count(let count), .duration(let count, _), .estimate(let count, _): .number(count)
        case .share(let percent): .share(percent)
        case .time(let date): .time(date)
        case .text(let text): .text(text)
        case .flag(let flag): .flag(flag)
        }
    }
}

/// A value of a JSON document, or of a field of CSV.
enum JSONValue: Encodable, Equatable {
    typealias Fields = [String: JSONValue]

    case text(String)
    case number(Int)
    case share(Double)
    case flag(Bool)
    /// In ISO 8601 (UTC), whole seconds.
    case time(Date)
    case list([JSONValue])
    case fields(Fields)

    /// An object of the fields that have a value.
    static func object(_ fields: [(String, JSONValue?)]) -> JSONValue {
        .fields(fields.reduce(into: [:]) { $0[$1.0] = $1.1 })
    }

    /// Sets a field of an object.
    mutating func set(_ value: JSONValue, at name: String) {
        guard case .fields(var fields) = self else { return }
        fields[name] = value
        self = .fields(fields)
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let text): try container.encode(text)
        case .number(let number): try container.encode(number)
        case .share(let share): try container.encode(share)
        case .flag(let flag): try container.encode(flag)
        case .time(let date): try container.encode(TimeText.seconds(date))
        case .list(let list): try container.encode(list)
        case .fields(let fields): try container.encode(fields)
        }
    }

    /// The value in a field of CSV, which holds no lists and objects.
    fileprivate var csv: String {
        switch self {
        case .text(let text): CSV.safe(text)
        case .number(let number): "\(number)"
        case .share(let percent): CSV.thousandths(percent)
        case .flag(let flag): "\(flag)"
        case .time(let date): TimeText.seconds(date)
        case .list, .fields: ""
        }
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

    /// A number with three digits after the point.
    static func thousandths(_ value: Double) -> String {
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
