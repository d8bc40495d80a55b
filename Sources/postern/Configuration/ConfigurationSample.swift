import Foundation

/// The configuration that `postern config sample` prints: every key with its explanation. Keys that must be set are
/// set, the others are comments.
enum ConfigurationSample {
    /// A whole TOML file.
    static let text = header + FileKeys().all.map(section).joined(separator: "\n")

    private static let header = """
        # Postern: the configuration file. postern.toml(5) explains every key.
        # A line such as #key = value shows the default, or an example where the comment above names another default.
        # Durations are written 30s, 5m, 12h or 7d; sizes 64M or 64MiB, 4G or 4GiB, or as a number of bytes.
        # Paths may be relative to the folder of this file. After a change: postern config check, then postern reload.


        """

    private static func section(_ key: any ConfigurationKeyDescription) -> String {
        guard let tables = key.tables else { return "" }
        return comment(key.explanation)
            + tables.kinds.map { keys in
                let entries = keys.entries
                let isSet = !tables.isList || entries.contains(where: \.isSetInSample)
                return (keys.heading.map { "\n" + comment("\($0):") } ?? "")
                    + (isSet ? "" : "#") + (tables.isList ? "[[\(key.name)]]\n" : "[\(key.name)]\n")
                    + entries.map(entry).joined()
            }.joined()
    }

    private static func entry(_ entry: ConfigurationEntry) -> String {
        switch entry {
        case .shared(let names, let section):
            return comment(
                "The keys of \(section) may be given for this table alone: \(names.joined(separator: ", ")).")
        case .key(let key):
            let shown = (key.example ?? key.defaultValue).map(\.description) ?? "\"\""
            let note = key.defaultText.flatMap { $0 == shown ? nil : " Default: \($0)." } ?? ""
            return comment(key.explanation + note)
                + "\(key.isSetInSample ? "" : "#")\(key.name) = \(shown)\n"
        }
    }

    private static func comment(_ text: String) -> String {
        var lines = [""]
        for word in text.split(separator: " ") {
            if lines[lines.count - 1].count + word.count > 110 { lines.append("") }
            lines[lines.count - 1] += " \(word)"
        }
        return lines.map { "#\($0)\n" }.joined()
    }
}

extension ConfigurationEntry {
    fileprivate var isSetInSample: Bool {
        if case .key(let key) = self { return key.isSetInSample }
        return false
    }
}
