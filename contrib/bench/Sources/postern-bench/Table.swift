import Foundation
import Glibc

/// Progress messages, on standard error.
enum Progress {
    static func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
}

/// The table of results, at most 80 columns wide.
enum Table {
    static func text(_ rows: [Row]) -> String {
        var lines: [String] = []
        var section = ""
        for row in rows {
            if row.section != section {
                section = row.section
                lines += [lines.isEmpty ? "" : "\n", section].filter { !$0.isEmpty }.map { $0 == "\n" ? "" : $0 }
                lines.append(line("", "Postern", "reference", "ratio", "goal", ""))
            }
            lines.append(
                line(
                    "  " + row.name, value(figure(row), row.unit),
                    row.reference.map { value($0.median, row.unit) } ?? "", row.ratio.map { number($0) } ?? "",
                    goal(row), row.isMet.map { $0 ? "met" : "MISSED" } ?? ""))
        }
        return lines.joined(separator: "\n")
    }

    private static func line(
        _ name: String, _ postern: String, _ reference: String, _ ratio: String, _ goal: String, _ met: String
    ) -> String {
        let name = name.padding(toLength: 34, withPad: " ", startingAt: 0)
        let columns = [(postern, 10), (reference, 10), (ratio, 6), (goal, 10)]
        let text = columns.map { String(repeating: " ", count: max(1, $1 - $0.count)) + $0 }.joined()
        return (name + text + (met.isEmpty ? "" : " \(met)")).replacing(#/ +$/#, with: "")
    }

    private static func goal(_ row: Row) -> String {
        switch row.goal {
        case .atMost(let limit), .largestAtMost(let limit): "<= \(value(limit, row.unit))"
        case .atLeast(let limit): ">= \(value(limit, row.unit))"
        case .ratioAtMost(let limit): "<= \(number(limit))x"
        case .ratioAtLeast(let limit): ">= \(number(limit))x"
        case nil: ""
        }
    }

    /// The figure that the goal is about.
    private static func figure(_ row: Row) -> Double {
        if case .largestAtMost = row.goal { return row.postern.most }
        return row.postern.median
    }

    private static func value(_ value: Double, _ unit: Row.Unit) -> String {
        if unit == .seconds, value < 1e-3 { return "\(number(value * 1_000_000)) us" }
        if unit == .seconds, value < 1 { return "\(number(value * 1_000)) ms" }
        return unit == .count ? number(value) : "\(number(value)) \(unit.rawValue)"
    }

    /// The number with three significant digits.
    static func number(_ value: Double) -> String {
        let size = abs(value)
        let digits = size >= 100 || value == value.rounded() ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3
        return String(format: "%.\(digits)f", value)
    }
}

/// A number with separated thousands.
func grouped(_ number: Int) -> String {
    if number.isMultiple(of: 1_000_000), number > 0 { return "\(number / 1_000_000) M" }
    let digits = String(number)
    return digits.enumerated().map { index, digit in
        (index > 0 && (digits.count - index).isMultiple(of: 3) ? "," : "") + String(digit)
    }.joined()
}
