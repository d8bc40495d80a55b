/// A key of the configuration file: its name, what it holds, its default and its explanation. Reading, faults, the
/// sample and the manual page come from it.
struct ConfigurationKey<Value>: ConfigurationKeyDescription {
    let name: String
    let type: ConfigurationType<Value>
    let isRequired: Bool
    let defaultValue: TOMLValue?
    let defaultNote: String?
    let example: TOMLValue?
    let isSetInSample: Bool
    let needsRestart: Bool
    let explanation: String

    init(
        _ name: String, _ type: ConfigurationType<Value>, isRequired: Bool = false,
        default defaultValue: TOMLValue? = nil,
        defaultNote: String? = nil, example: TOMLValue? = nil, isSetInSample: Bool = false, needsRestart: Bool = false,
        explanation: String
    ) {
        self.name = name
        self.type = type
        self.isRequired = isRequired
        self.defaultValue = defaultValue
        self.defaultNote = defaultNote
        self.example = example
        self.isSetInSample = isSetInSample
        self.needsRestart = needsRestart
        // Source text is wrapped at any place.
        self.explanation = explanation.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    var accepted: String { type.accepted }
    var tables: ConfigurationTables? { type.tables }

    func isSound(_ value: TOMLValue, _ context: ConfigurationContext) -> Bool {
        let before = context.faults.count
        return type.read(ConfigurationValue(value, key: name, context: context)) != nil
            && context.faults.count == before
    }
}

/// The facts about a key that don't depend on the type of its value.
protocol ConfigurationKeyDescription: Sendable {
    var name: String { get }
    /// The accepted values, as messages and the manual word them.
    var accepted: String { get }
    /// Whether a table without the key is faulty.
    var isRequired: Bool { get }
    /// The value of a file without the key.
    var defaultValue: TOMLValue? { get }
    /// The default in words, where a value doesn't say it.
    var defaultNote: String? { get }
    /// The value in the sample; nil for the default.
    var example: TOMLValue? { get }
    /// Whether the sample sets the key, or shows it as a comment.
    var isSetInSample: Bool { get }
    /// Whether a change takes effect only after a restart, not after a reload.
    var needsRestart: Bool { get }
    /// The purpose of the key, in one or two sentences.
    var explanation: String { get }
    /// The tables that the key holds; nil for a key that holds a value.
    var tables: ConfigurationTables? { get }
    /// Whether the key accepts the value.
    func isSound(_ value: TOMLValue, _ context: ConfigurationContext) -> Bool
}

extension ConfigurationKeyDescription {
    /// The default in the words of the sample and the manual; nil for a required key.
    var defaultText: String? {
        if isRequired { return nil }
        if let defaultNote { return defaultNote }
        guard let text = defaultValue?.description, !["[]", "{}", "\"\""].contains(text) else { return "none" }
        return text
    }
}

/// The tables that a key holds.
struct ConfigurationTables: Sendable {
    /// Whether there may be several, `[[name]]`.
    let isList: Bool
    /// The kinds of tables, each with its keys; only `[[source]]` has more than one.
    let kinds: [any ConfigurationKeys]
}

/// The keys of one table. Its properties are the keys, in the order of the sample and the manual: keys, lists of keys,
/// and further ``ConfigurationKeys`` that several tables share.
protocol ConfigurationKeys: Sendable {
    /// The heading of this kind of table in the sample and the manual; nil where there is one kind.
    var heading: String? { get }
    /// The section that explains these keys, such as `[policy]`; nil where they are explained in their place.
    var explainedIn: String? { get }
}

/// An entry of a table in the sample and the manual.
enum ConfigurationEntry {
    case key(any ConfigurationKeyDescription)
    /// Keys that another section explains.
    case shared(names: [String], section: String)
}

extension ConfigurationKeys {
    var heading: String? { nil }
    var explainedIn: String? { nil }

    /// Every key, in order.
    var all: [any ConfigurationKeyDescription] { parts({ $0 }, ofPart: { $0.all }) }

    /// The entries of the table in the sample and the manual, in order.
    var entries: [ConfigurationEntry] {
        if let explainedIn { return [.shared(names: all.map(\.name), section: explainedIn)] }
        return parts({ .key($0) }, ofPart: { $0.entries })
    }

    private func parts<Part>(
        _ ofKey: (any ConfigurationKeyDescription) -> Part, ofPart: (any ConfigurationKeys) -> [Part]
    ) -> [Part] {
        Mirror(reflecting: self).children.flatMap { child -> [Part] in
            switch child.value {
            case let key as any ConfigurationKeyDescription: [ofKey(key)]
            case let keys as [any ConfigurationKeyDescription]: keys.map(ofKey)
            case let part as any ConfigurationKeys: ofPart(part)
            default: []
            }
        }
    }
}

// MARK: - Reading by keys

/// A table of the configuration file, read by its keys.
struct ConfigurationTable<Keys: ConfigurationKeys> {
    let keys: Keys
    /// The dotted name of the table; empty for the file itself.
    let path: String
    let context: ConfigurationContext
    private let members: [String: TOMLNode]

    /// A table with these members. Records a fault for each member that isn't one of `keys`.
    init(_ members: [(key: String, node: TOMLNode)], keys: Keys, path: String, context: ConfigurationContext) {
        self.init(
            keys: keys, path: path, context: context,
            members: Dictionary(uniqueKeysWithValues: members.map { ($0, $1) }))
        let known = keys.all.map(\.name)
        for (name, _) in members where !known.contains(name) {
            context.fault(self.path(of: name), UnknownKey.message(name, known: known))
        }
    }

    private init(keys: Keys, path: String, context: ConfigurationContext, members: [String: TOMLNode]) {
        self.keys = keys
        self.path = path
        self.context = context
        self.members = members
    }

    /// The same table, for keys that it shares with others.
    func part<Part: ConfigurationKeys>(_ part: KeyPath<Keys, Part>) -> ConfigurationTable<Part> {
        ConfigurationTable<Part>(keys: keys[keyPath: part], path: path, context: context, members: members)
    }

    /// The value in the file, or the default where the file gives none or a faulty one. Only for keys with a default.
    func value<Value>(_ key: KeyPath<Keys, ConfigurationKey<Value>>) -> Value {
        if let given = given(key) { return given }
        let key = keys[keyPath: key]
        guard let standard = key.defaultValue,
            let value = key.type.read(ConfigurationValue(standard, key: path(of: key.name), context: context))
        else { preconditionFailure("\(path(of: key.name)) has no default, or a faulty one") }
        return value
    }

    /// The value in the file; nil where it gives none or a faulty one. Reports the fault.
    func given<Value>(_ key: KeyPath<Keys, ConfigurationKey<Value>>) -> Value? { given(keys[keyPath: key]) }

    func given<Value>(_ key: ConfigurationKey<Value>) -> Value? {
        guard let node = members[key.name] else {
            if key.isRequired { fault(key.name, "is missing; accepted: \(key.accepted)") }
            return nil
        }
        return key.type.read(ConfigurationValue(node.value, key: path(of: key.name), context: context))
    }

    /// Whether the file sets the key, to whatever value.
    func has<Value>(_ key: KeyPath<Keys, ConfigurationKey<Value>>) -> Bool { has(keys[keyPath: key].name) }

    func has(_ name: String) -> Bool { members[name] != nil }

    /// Records a fault of a key of this table.
    func fault<Value>(_ key: KeyPath<Keys, ConfigurationKey<Value>>, _ message: String) {
        fault(keys[keyPath: key].name, message)
    }

    /// Records a fault of a key, or of an element such as `uris[1]`.
    func fault(_ name: String, _ message: String) { context.fault(path(of: name), message) }

    /// The dotted name of a key of this table.
    func path(of name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }
}

/// The message about a key that a table doesn't have.
private enum UnknownKey {
    static func message(_ name: String, known: [String]) -> String {
        let near = known.sorted().first { distance($0, name) <= max(1, name.count / 4) }
        let hint = near.map { "did you mean \"\($0)\"? " } ?? ""
        return "unknown key; \(hint)accepted here: \(known.sorted().joined(separator: ", "))"
    }

    /// The Levenshtein distance: how many characters to insert, delete or replace.
    private static func distance(_ first: String, _ second: String) -> Int {
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
