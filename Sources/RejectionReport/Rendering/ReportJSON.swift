import Foundation
import RejectionLog

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
        document["cut"] = .object([
            "domain": filters.domain.map(JSONValue.text), "reason": filters.reason.map(JSONValue.text),
            "client": filters.client.map(JSONValue.text), "redacted": .flag(filters.redacted),
            "verp_folded": .flag(filters.foldsVERP),
        ])
        document["previous"] = previous.map { .object($0.json) }
        document["trend"] = .object([
            "unit": .text(trend.unit.rawValue),
            "steps": .list(
                trend.steps.map {
                    .object([
                        "start": .time($0.start), "refused": .number($0.verdicts.refused),
                        "tempfailed": .number($0.verdicts.tempfailed), "observed": .number($0.verdicts.observed),
                        "accepted": .number($0.verdicts.accepted),
                    ])
                }),
        ])
        document["coverage"] = .object([
            "details_since": coverage.detailsSince.map(JSONValue.time), "whole_days": .flag(coverage.wholeDays),
            "folded": .number(coverage.folded), "lookups_exhausted": .flag(coverage.lookupsExhausted),
        ])
        document["findings"] = .list(
            findings.map {
                .object([
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
}

extension RejectionReport.Figures {
    fileprivate var json: [String: JSONValue] {
        [
            "period": .object(["since": .time(period.since), "until": .time(period.until)]),
            "totals": .object([
                "refused": .number(totals.refused), "accepted": .number(totals.accepted),
                "tempfailed": .number(totals.tempfailed), "observed": .number(totals.observed),
                "mta_refused": .number(totals.mtaRefused), "thinned": .number(totals.thinned),
            ]),
            "by_reason": .fields(byReason.mapValues(JSONValue.number)),
        ]
    }
}

extension ReportSection {
    /// The section in its form; nil for an object without a row.
    fileprivate var json: JSONValue? {
        let objects = rows.map { row in
            JSONValue.fields(zip(columns, row.cells).reduce(into: [:]) { $1.0.add($1.1, to: &$0) })
        }
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
            return .object(["key": .text(key), "rows": .list(objects), "others": .number(others)])
        }
    }
}

extension ReportSection.Column {
    /// Adds the field of a value, or its two fields.
    fileprivate func add(_ cell: ReportSection.Cell, to fields: inout [String: JSONValue]) {
        if case .span(let first, let last) = cell {
            fields["first"] = .time(first)
            fields["last"] = .time(last)
        }
        guard !name.isEmpty else { return }
        switch cell {
        case .none, .span, .change: break
        case .count(let count), .duration(let count, _): fields[name] = .number(count)
        case .estimate(let count, let isEstimate):
            fields[name] = .number(count)
            fields["\(name)_estimated"] = .flag(isEstimate)
        case .share(let percent): fields[name] = .share(percent)
        case .time(let date): fields[name] = .time(date)
        case .text(let text): fields[name] = .text(text)
        case .flag(let flag): fields[name] = .flag(flag)
        }
    }
}

/// A value of a JSON document.
enum JSONValue: Encodable {
    case text(String)
    case number(Int)
    case share(Double)
    case flag(Bool)
    case list([JSONValue])
    case fields([String: JSONValue])

    /// An object without the fields that have no value.
    static func object(_ fields: [String: JSONValue?]) -> JSONValue { .fields(fields.compactMapValues(\.self)) }

    /// A moment in ISO 8601 (UTC).
    static func time(_ date: Date) -> JSONValue { .text(TimeText.seconds(date)) }

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
        case .list(let list): try container.encode(list)
        case .fields(let fields): try container.encode(fields)
        }
    }
}
