import Foundation
import System
import TOMLKit

/// Collects the faults while a configuration is read, so that all are told at once.
final class ConfigurationFaults {
    private(set) var list: [ConfigurationFault] = []
    private let lines: ConfigurationLines

    init(_ lines: ConfigurationLines) { self.lines = lines }

    func add(_ key: String, _ message: String) {
        list.append(ConfigurationFault(key: key, line: lines.line(of: key), message: message))
    }
}

/// A table of the configuration file that remembers which keys were asked for: the rest are unknown.
struct ConfigurationTable {
    /// The dotted name of the table; empty at the top.
    let path: String
    let faults: ConfigurationFaults
    private let values: [String: any TOMLValueConvertible]
    private let asked = Asked()

    private final class Asked {
        var keys: [String] = []
    }

    init(_ table: TOMLTable, path: String = "", faults: ConfigurationFaults) {
        self.path = path
        self.faults = faults
        var values: [String: any TOMLValueConvertible] = [:]
        for (key, value) in table { values[key] = value }
        self.values = values
    }

    /// An empty table, for a section that the file doesn't have.
    private init(missing path: String, faults: ConfigurationFaults) {
        self.path = path
        self.faults = faults
        values = [:]
    }

    func name(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    func fault(_ key: String, _ message: String) { faults.add(name(key), message) }

    func has(_ key: String) -> Bool { values[key] != nil }

    /// Whether the key is set to true; no question that the fault of another type is told for.
    func isTrue(_ key: String) -> Bool { values[key]?.bool == true }

    private func value(_ key: String) -> (any TOMLValueConvertible)? {
        asked.keys.append(key)
        return values[key]
    }

    private func wrongType(_ key: String, _ value: any TOMLValueConvertible, _ accepted: String) {
        let given = Self.shown(value)
        fault(key, "\(given) is \(Self.article(value.type)); accepted: \(accepted)")
    }

    // MARK: Sections

    func section(_ key: String) -> ConfigurationTable {
        guard let value = value(key) else { return ConfigurationTable(missing: name(key), faults: faults) }
        guard let table = value.table else {
            wrongType(key, value, "a table, [\(name(key))]")
            return ConfigurationTable(missing: name(key), faults: faults)
        }
        return ConfigurationTable(table, path: name(key), faults: faults)
    }

    func sections(_ key: String) -> [ConfigurationTable] {
        guard let value = value(key) else { return [] }
        guard let array = value.array else {
            wrongType(key, value, "tables, [[\(name(key))]]")
            return []
        }
        return array.enumerated().compactMap { index, element in
            guard let table = element.table else {
                fault("\(key)[\(index)]", "\(Self.shown(element)) is \(Self.article(element.type)); accepted: a table")
                return nil
            }
            return ConfigurationTable(table, path: "\(name(key))[\(index)]", faults: faults)
        }
    }

    // MARK: Values

    func string(_ key: String) -> String? {
        guard let value = value(key) else { return nil }
        guard let string = value.string else {
            wrongType(key, value, "a string")
            return nil
        }
        return string
    }

    func bool(_ key: String) -> Bool? {
        guard let value = value(key) else { return nil }
        guard let bool = value.bool else {
            wrongType(key, value, "true or false")
            return nil
        }
        return bool
    }

    /// True or false, or the one word that stands for neither, as `.some(nil)`; nil where the key isn't set.
    func boolOrWord(_ key: String, word: String) -> Bool?? {
        guard let value = value(key) else { return nil }
        if let bool = value.bool { return bool }
        if value.string == word { return .some(nil) }
        fault(key, "\(Self.shown(value)) is not known; accepted: true, false or \"\(word)\"")
        return nil
    }

    func integer(_ key: String, _ range: ClosedRange<Int>) -> Int? {
        guard let value = value(key) else { return nil }
        let accepted =
            range.upperBound == .max
            ? "a whole number from \(range.lowerBound) up"
            : "a whole number from \(range.lowerBound) to \(range.upperBound)"
        guard let integer = value.int else {
            wrongType(key, value, accepted)
            return nil
        }
        guard range.contains(integer) else {
            fault(key, "\(integer) is out of range; accepted: \(accepted)")
            return nil
        }
        return integer
    }

    func strings(_ key: String) -> [String]? {
        guard let value = value(key) else { return nil }
        guard let array = value.array else {
            wrongType(key, value, "a list of strings, such as [\"a\", \"b\"]")
            return nil
        }
        return array.enumerated().compactMap { index, element in
            if let string = element.string { return string }
            fault("\(key)[\(index)]", "\(Self.shown(element)) is \(Self.article(element.type)); accepted: a string")
            return nil
        }
    }

    /// Whether the key is set to this text.
    func isText(_ key: String, _ text: String) -> Bool { value(key)?.string == text }

    /// A list of strings, or one string for a list of one.
    func stringOrStrings(_ key: String) -> [String]? {
        guard let value = value(key) else { return nil }
        if let string = value.string { return [string] }
        guard value.array != nil else {
            wrongType(key, value, "a string, or a list of strings")
            return nil
        }
        return strings(key)
    }

    /// A string out of a fixed set, as the value that it stands for.
    func choice<Value>(_ key: String, _ choices: KeyValuePairs<String, Value>) -> Value? {
        guard let string = string(key) else { return nil }
        if let choice = choices.first(where: { $0.key == string }) { return choice.value }
        let accepted = choices.map { "\"\($0.key)\"" }.joined(separator: ", ")
        fault(key, "\"\(string)\" is not known; accepted: \(accepted)")
        return nil
    }

    /// A number of bytes: `512K` or `512KiB`, `64M`, `4GiB`, `1T`, or bytes alone, as a string or a number.
    ///
    /// - Parameter allowsNone: whether "0" and an empty string stand for no limit, and are 0.
    func size(_ key: String, minimum: Int = 1, allowsNone: Bool = false) -> Int? {
        guard let value = value(key) else { return nil }
        let none = allowsNone ? ", or \"0\" for no limit" : ""
        let accepted = "a number with a unit, such as \"64M\", \"512MiB\" or \"4GiB\", or bytes\(none)"
        guard let text = value.string ?? value.int.map(String.init) else {
            wrongType(key, value, accepted)
            return nil
        }
        if allowsNone, text.isEmpty || text == "0" { return 0 }
        let shifts = ["": 0, "K": 10, "M": 20, "G": 30, "T": 40]
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count)
        guard let shift = shifts[unit.hasSuffix("iB") && unit.count == 3 ? String(unit.prefix(1)) : String(unit)],
            !digits.isEmpty
        else {
            fault(key, "\(Self.shown(value)) is not a size; accepted: \(accepted)")
            return nil
        }
        let (size, overflow) = (Int(digits) ?? .max).multipliedReportingOverflow(by: 1 << shift)
        guard !overflow, size <= 1 << 50 else {
            fault(key, "\(Self.shown(value)) is too large; accepted: at most 1024TiB")
            return nil
        }
        guard size >= minimum else {
            let least = minimum >= 1 << 20 ? "\(minimum >> 20)MiB" : Words.count(minimum, "byte")
            fault(key, "\(Self.shown(value)) is too small; accepted: at least \(least)\(none)")
            return nil
        }
        return size
    }

    /// A length of time in seconds: `30s`, `5m`, `12h`, `7d`, `2w`.
    func duration(_ key: String, minimum: Int = 0, maximum: Int = .max) -> Int? {
        guard let string = string(key) else { return nil }
        let accepted = "a number with a unit, such as \"30s\", \"5m\", \"12h\" or \"7d\""
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]
        guard let last = string.last, let unit = units[last], let count = Int(string.dropLast()), count >= 0,
            string.first != "+"
        else {
            fault(key, "\"\(string)\" is not a duration; accepted: \(accepted)")
            return nil
        }
        let (seconds, overflow) = count.multipliedReportingOverflow(by: unit)
        guard !overflow, seconds <= 100 * 366 * 86_400 else {
            fault(key, "\"\(string)\" is over a hundred years; accepted: \(accepted)")
            return nil
        }
        guard seconds >= minimum else {
            fault(key, "\"\(string)\" is too short; accepted: at least \(minimum)s")
            return nil
        }
        guard seconds <= maximum else {
            fault(key, "\"\(string)\" is too long; accepted: at most \(maximum)s")
            return nil
        }
        return seconds
    }

    /// A percentage as a fraction of 1.
    func percentage(_ key: String) -> Double? {
        guard let string = string(key) else { return nil }
        guard string.last == "%", let percent = Double(string.dropLast()), (0...100).contains(percent) else {
            fault(key, "\"\(string)\" is not a percentage; accepted: \"0%\" to \"100%\"")
            return nil
        }
        return percent / 100
    }

    /// Reports the keys that nothing asked for.
    func finish() {
        let known = asked.keys.sorted()
        for key in values.keys.sorted() where !asked.keys.contains(key) {
            let near = known.filter { Self.distance($0, key) <= max(1, key.count / 4) }.first
            let hint = near.map { "did you mean \"\($0)\"? " } ?? ""
            fault(key, "unknown key; \(hint)accepted here: \(known.joined(separator: ", "))")
        }
    }

    // MARK: Words for values

    private static func shown(_ value: any TOMLValueConvertible) -> String {
        if let string = value.string { return "\"\(string)\"" }
        let text = value.debugDescription.split(whereSeparator: \.isNewline).joined(separator: " ")
        return text.count > 60 ? "\(text.prefix(60))…" : text
    }

    private static func article(_ type: TOMLType) -> String {
        switch type {
        case .string: "a string"
        case .int: "a number"
        case .double: "a number with a fraction"
        case .bool: "true or false"
        case .array: "a list"
        case .table: "a table"
        case .date, .time, .dateTime: "a date or time"
        }
    }

    /// The Levenshtein distance, for "did you mean".
    static func distance(_ first: String, _ second: String) -> Int {
        let target = Array(second)
        var row = Array(0...target.count)
        for (i, character) in first.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for j in target.indices {
                let substitution = diagonal + (character == target[j] ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(substitution, row[j] + 1, diagonal + 1)
            }
        }
        return row[target.count]
    }
}
