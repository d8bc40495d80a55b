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

    /// Describes a key.
    ///
    /// - Parameters:
    ///   - isRequired: whether a table without the key is faulty.
    ///   - default: the value of a file without the key.
    ///   - defaultNote: in words, what holds without the key, where a value doesn't say it.
    ///   - example: the value in the sample; the default where there is none.
    ///   - isSetInSample: whether the sample sets the key, or shows it as a comment.
    ///   - needsRestart: whether a change is in force only after a restart, not after a reload.
    ///   - explanation: what the key is for, in one or two sentences.
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

/// What is known of a key whatever the type of its value.
protocol ConfigurationKeyDescription: Sendable {
    var name: String { get }
    /// What may be given, in the words of messages and of the manual.
    var accepted: String { get }
    var isRequired: Bool { get }
    var defaultValue: TOMLValue? { get }
    var defaultNote: String? { get }
    var example: TOMLValue? { get }
    var isSetInSample: Bool { get }
    var needsRestart: Bool { get }
    var explanation: String { get }
    /// The tables that the key holds; nil for a key that holds a value.
    var tables: ConfigurationTables? { get }
    /// Whether the value is one that the key accepts.
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

/// What the sample and the manual show of a table.
enum ConfigurationEntry {
    case key(any ConfigurationKeyDescription)
    /// Keys that another section explains.
    case shared(names: [String], section: String)
}

extension ConfigurationKeys {
    var heading: String? { nil }
    var explainedIn: String? { nil }

    /// Every key, in order.
    var all: [any ConfigurationKeyDescription] {
        Mirror(reflecting: self).children.flatMap { child -> [any ConfigurationKeyDescription] in
            switch child.value {
            case let key as any ConfigurationKeyDescription: [key]
            case let keys as [any ConfigurationKeyDescription]: keys
            case let part as any ConfigurationKeys: part.all
            default: []
            }
        }
    }

    /// What the sample and the manual show, in order.
    var entries: [ConfigurationEntry] {
        if let explainedIn { return [.shared(names: all.map(\.name), section: explainedIn)] }
        return Mirror(reflecting: self).children.flatMap { child -> [ConfigurationEntry] in
            switch child.value {
            case let key as any ConfigurationKeyDescription: [.key(key)]
            case let keys as [any ConfigurationKeyDescription]: keys.map { .key($0) }
            case let part as any ConfigurationKeys: part.entries
            default: []
            }
        }
    }
}
