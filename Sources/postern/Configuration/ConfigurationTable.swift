/// A table of the configuration file, read by its keys.
struct ConfigurationTable<Keys: ConfigurationKeys> {
    let keys: Keys
    /// The dotted name of the table; empty for the file itself.
    let path: String
    let context: ConfigurationContext
    private let members: [String: TOMLNode]

    /// Reports keys that the table doesn't have.
    init(_ members: [(key: String, node: TOMLNode)], keys: Keys, path: String, context: ConfigurationContext) {
        self.init(
            keys: keys, path: path, context: context,
            members: Dictionary(uniqueKeysWithValues: members.map { ($0, $1) }))
        let known = keys.all.map(\.name)
        for (name, _) in members where !known.contains(name) {
            context.fault(self.path(of: name), UnknownKey(name, in: known).message)
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

/// A key that a table doesn't have, and the one that was probably meant.
struct UnknownKey {
    let message: String

    init(_ name: String, in known: [String]) {
        let near = known.sorted().first { Self.distance($0, name) <= max(1, name.count / 4) }
        let hint = near.map { "did you mean \"\($0)\"? " } ?? ""
        message = "unknown key; \(hint)accepted here: \(known.sorted().joined(separator: ", "))"
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
