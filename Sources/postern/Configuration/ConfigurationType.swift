import Foundation
import System

/// The type of a key's value in the configuration: the accepted values, and how they are read.
struct ConfigurationType<Value>: Sendable {
    /// The accepted values, as messages and the manual word them.
    let accepted: String
    /// The tables that the key holds; nil for a value.
    var tables: ConfigurationTables?
    /// Makes a value of what the file gives; nil after it has reported a fault.
    let read: @Sendable (ConfigurationValue) -> Value?
}

/// A value of the configuration file, with the key that it is given for.
struct ConfigurationValue {
    let value: TOMLValue
    /// The dotted key, such as `relay.domains[1]`.
    let key: String
    let context: ConfigurationContext

    init(_ value: TOMLValue, key: String, context: ConfigurationContext) {
        self.value = value
        self.key = key
        self.context = context
    }

    /// Reports a fault of this key.
    func fault(_ message: String) { context.fault(key, message) }

    /// Reports what is wrong with the value, and what is accepted. Returns nil, the value that can't be read.
    func refuse<Value>(_ problem: String, accepted: String) -> Value? {
        fault("\(shown) \(problem); accepted: \(accepted)")
        return nil
    }

    /// Reports that the value is of another type. Returns nil.
    func refuseType<Value>(accepted: String) -> Value? { refuse("is \(value.kindName)", accepted: accepted) }

    /// The value as messages show it: on one line, not too long.
    private var shown: String {
        if case .string(let text) = value { return "\"\(text.escapedForMessage)\"" }
        let text = "\(value)"
        return text.count > 60 ? "\(text.prefix(60))…" : text
    }
}

/// What is wrong with a string, as in `"…" is not a domain name`.
struct ConfigurationProblem: Error {
    let text: String
    /// The accepted values in words of this fault; nil for the words of the type.
    var accepted: String?

    init(_ text: String, accepted: String? = nil) {
        self.text = text
        self.accepted = accepted
    }
}

// MARK: - Strings

extension ConfigurationType {
    /// A string that `make` turns into a value.
    ///
    /// - Parameter make: throws a ``ConfigurationProblem``, or an error that names the text and what is accepted by
    /// itself.
    static func string(accepted: String, _ make: @escaping @Sendable (String, ConfigurationContext) throws -> Value)
        -> Self
    {
        Self(accepted: accepted) { given in
            guard case .string(let text) = given.value else { return given.refuseType(accepted: accepted) }
            guard !text.utf8.contains(0) else {
                return given.refuse("holds a NUL character", accepted: "text without one")
            }
            do {
                return try make(text, given.context)
            } catch let problem as ConfigurationProblem {
                return given.refuse(problem.text, accepted: problem.accepted ?? accepted)
            } catch {
                given.fault("\(error)")
                return nil
            }
        }
    }

    /// A string that `make` turns into a value, or rejects by returning nil.
    ///
    /// - Parameter problem: what is wrong with a rejected string, such as "is not a mode".
    static func string(accepted: String, problem: String, _ make: @escaping @Sendable (String) -> Value?) -> Self {
        string(accepted: accepted) { text, _ in
            guard let value = make(text) else { throw ConfigurationProblem(problem) }
            return value
        }
    }

    /// One of a few words, each of which stands for a value.
    static func choice(_ choices: KeyValuePairs<String, Value>) -> Self where Value: Sendable {
        choice(choices.map { ($0.key, $0.value) })
    }

    fileprivate static func choice(_ choices: [(word: String, value: Value)]) -> Self where Value: Sendable {
        let accepted = choices.map { "\"\($0.word)\"" }.joined(separator: ", ")
        return string(accepted: accepted, problem: "is not known") { text in
            choices.first { $0.word == text }?.value
        }
    }
}

extension ConfigurationType where Value: CaseIterable & RawRepresentable<String> & Sendable {
    /// One of a type's words.
    static func word(_: Value.Type) -> Self {
        choice(Value.allCases.map { ($0.rawValue, $0) })
    }
}

extension ConfigurationType<String> {
    /// Any string.
    static func text(_ accepted: String = "a string") -> Self { string(accepted: accepted) { text, _ in text } }

    /// The path of a file with a secret, or `credential:` and the name of a credential that systemd gives the service.
    static let secretPath = string(
        accepted: "the path of a file, or \"credential:NAME\" with the NAME of LoadCredential= in the service's unit"
    ) { text, context in
        guard let name = text.split(separator: ":", maxSplits: 1).last, text.hasPrefix("credential:") else {
            guard !text.isEmpty, !text.hasSuffix("/") else { throw ConfigurationProblem("is not a file's path") }
            return context.absolute(text)
        }
        guard name != ".", name != "..", !name.contains("/"), text != "credential:" else {
            throw ConfigurationProblem("names no credential")
        }
        // A command that an administrator runs looks where systemd keeps those of the running service.
        let folders =
            ServiceManager.credentialsFolder.map { [$0] }
            ?? ["postern", "postern-sync"].map { "/run/credentials/\($0).service" }
        let paths = folders.map { "\($0)/\(name)" }
        return paths.first { access($0, F_OK) == 0 } ?? paths[0]
    }

    /// The path of a file, which becomes an absolute one.
    static let path = string(accepted: "the path of a file, such as \"/var/lib/postern/file\"") { text, context in
        guard !text.isEmpty, !text.hasSuffix("/") else { throw ConfigurationProblem("is not a file's path") }
        return context.absolute(text)
    }
}

extension ConfigurationType<Double> {
    /// A percentage, as a fraction of 1.
    static let percentage = string(accepted: "\"0%\" to \"100%\"", problem: "is not a percentage") { text in
        guard text.last == "%", let percent = Double(text.dropLast()), (0...100).contains(percent) else { return nil }
        return percent / 100
    }
}

// MARK: - Numbers

extension ConfigurationType<Bool> {
    /// True or false.
    static let boolean = Self(accepted: "true or false") { given in
        guard case .boolean(let value) = given.value else { return given.refuseType(accepted: "true or false") }
        return value
    }
}

extension ConfigurationType<Int> {
    /// A whole number.
    static func integer(_ range: ClosedRange<Int>) -> Self {
        let accepted =
            range.upperBound == .max
            ? "a whole number from \(range.lowerBound) up"
            : "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return Self(accepted: accepted) { given in
            guard case .integer(let number) = given.value else { return given.refuseType(accepted: accepted) }
            guard let integer = Int(exactly: number), range.contains(integer) else {
                return given.refuse("is out of range", accepted: accepted)
            }
            return integer
        }
    }

    /// A length of time in seconds.
    static func duration(from minimum: Int = 0, to maximum: Int = 100 * 366 * 86_400) -> Self {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]
        let limits = [
            minimum > 0 ? "at least \(minimum)s" : nil, maximum < 100 * 366 * 86_400 ? "at most \(maximum)s" : nil,
        ].compactMap { $0 }
        let grammar = "a number with a unit, such as \"30s\", \"5m\", \"12h\" or \"7d\""
        return string(accepted: ([grammar] + limits).joined(separator: ", ")) { text, _ in
            guard let last = text.last, let unit = units[last], let count = Int(text.dropLast()), count >= 0,
                text.first != "+"
            else { throw ConfigurationProblem("is not a duration") }
            let (seconds, overflow) = count.multipliedReportingOverflow(by: unit)
            guard !overflow, seconds <= 100 * 366 * 86_400 else {
                throw ConfigurationProblem("is more than a hundred years")
            }
            guard seconds >= minimum else {
                throw ConfigurationProblem("is too short", accepted: "at least \(minimum)s")
            }
            guard seconds <= maximum else { throw ConfigurationProblem("is too long", accepted: "at most \(maximum)s") }
            return seconds
        }
    }

    /// A number of bytes: `512K` or `512KiB`, `64M`, `4GiB`, `1T`, or bytes alone, as a string or a number.
    ///
    /// - Parameter allowsNone: whether "0" and an empty string stand for no limit, and are 0.
    static func size(from minimum: Int = 1, allowsNone: Bool = false) -> Self {
        let none = allowsNone ? ", or \"0\" for no limit" : ""
        let accepted = "a number with a unit, such as \"64M\", \"512MiB\" or \"4GiB\", or bytes\(none)"
        return Self(accepted: accepted) { given in
            let text: String
            switch given.value {
            case .string(let string): text = string
            case .integer(let integer): text = "\(integer)"
            case .table, .array, .number, .boolean, .date:
                return given.refuseType(accepted: accepted)
            }
            if allowsNone, text.isEmpty || text == "0" { return 0 }
            let shifts = ["": 0, "K": 10, "M": 20, "G": 30, "T": 40]
            let digits = text.prefix { $0.isASCII && $0.isNumber }
            let unit = text.dropFirst(digits.count)
            guard let shift = shifts[unit.hasSuffix("iB") && unit.count == 3 ? String(unit.prefix(1)) : String(unit)],
                !digits.isEmpty
            else { return given.refuse("is not a size", accepted: accepted) }
            let (size, overflow) = (Int(digits) ?? .max).multipliedReportingOverflow(by: 1 << shift)
            guard !overflow, size <= 1 << 50 else { return given.refuse("is too large", accepted: "at most 1024TiB") }
            guard size >= minimum else {
                let least = minimum >= 1 << 20 ? "\(minimum >> 20)MiB" : Words.count(minimum, "byte")
                return given.refuse("is too small", accepted: "at least \(least)\(none)")
            }
            return size
        }
    }
}

// MARK: - Lists and tables

/// An element of a list, with its dotted key, such as `relay.domains_from[1]`.
struct ListElement<Value> {
    let key: String
    let value: Value
}

extension ListElement: Sendable where Value: Sendable {}

extension ConfigurationType {
    /// A list; elements with a fault are left out.
    ///
    /// - Parameter allowsEmpty: whether the list may be empty.
    static func list<Element>(
        of element: ConfigurationType<Element>, example: TOMLValue, allowsEmpty: Bool = true
    ) -> Self where Value == [Element] {
        let elements = ConfigurationType<[ListElement<Element>]>.elements(
            of: element, example: example, allowsEmpty: allowsEmpty)
        return Self(accepted: elements.accepted) { given in elements.read(given)?.map(\.value) }
    }

    /// A list whose elements know their keys, for faults that show later.
    static func elements<Element>(
        of element: ConfigurationType<Element>, example: TOMLValue, allowsEmpty: Bool = true
    ) -> Self where Value == [ListElement<Element>] {
        let accepted = "a list of strings, such as \(example)"
        return Self(accepted: accepted) { given in
            guard case .array(let nodes) = given.value else { return given.refuseType(accepted: accepted) }
            guard allowsEmpty || !nodes.isEmpty else { return given.refuse("is an empty list", accepted: accepted) }
            return nodes.enumerated().compactMap { index, node in
                let given = ConfigurationValue(node.value, key: "\(given.key)[\(index)]", context: given.context)
                return element.read(given).map { ListElement(key: given.key, value: $0) }
            }
        }
    }

    /// Several conditions, of which one that holds is enough, or one alone.
    ///
    /// - Parameter allowsNone: whether "" stands for no condition.
    static func anyOf<Element>(_ element: ConfigurationType<Element>, allowsNone: Bool = false) -> Self
    where Value == [Element] {
        let accepted =
            "\(element.accepted); or a list of conditions, any of which is "
            + "enough\(allowsNone ? "; or \"\" for none" : "")"
        let list = list(of: element, example: [])
        return Self(accepted: accepted) { given in
            switch given.value {
            case .string("") where allowsNone: return []
            case .string: return element.read(given).map { [$0] } ?? []
            case .array: return list.read(given)
            case .table, .integer, .number, .boolean, .date:
                return given.refuseType(accepted: accepted)
            }
        }
    }

    /// A table.
    static func table<Keys>(_ keys: Keys) -> Self where Value == ConfigurationTable<Keys> {
        Self(accepted: "a table", tables: ConfigurationTables(isList: false, kinds: [keys])) { given in
            guard case .table(let members) = given.value else {
                return given.refuseType(accepted: "a table, [\(given.key)]")
            }
            return ConfigurationTable(members, keys: keys, path: given.key, context: given.context)
        }
    }

    /// Any number of tables.
    static func tables<Keys>(_ keys: Keys) -> Self where Value == [ConfigurationTable<Keys>] {
        tables(kinds: [keys]) { members, path, context in
            ConfigurationTable(members, keys: keys, path: path, context: context)
        }
    }

    /// Any number of tables of several kinds, each of which `make` reads.
    static func tables<Table>(
        kinds: [any ConfigurationKeys],
        make: @escaping @Sendable ([(key: String, node: TOMLNode)], String, ConfigurationContext) -> Table
    ) -> Self where Value == [Table] {
        Self(accepted: "tables", tables: ConfigurationTables(isList: true, kinds: kinds)) { given in
            guard case .array(let nodes) = given.value else {
                return given.refuseType(accepted: "tables, [[\(given.key)]]")
            }
            return nodes.enumerated().compactMap { index, node in
                let key = "\(given.key)[\(index)]"
                guard case .table(let members) = node.value else {
                    return ConfigurationValue(node.value, key: key, context: given.context).refuseType(
                        accepted: "a table")
                }
                return make(members, key, given.context)
            }
        }
    }
}
