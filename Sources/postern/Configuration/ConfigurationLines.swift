import Foundation

/// The lines on which a TOML file sets its keys, for messages: the TOML library doesn't tell.
///
/// A line reader, not a parser: it looks at table headers and at `key =` on lines outside of multi-line strings and arrays,
/// which is right for any file that a person writes; what it can't find has no line number in a message.
struct ConfigurationLines: Sendable {
    private var lines: [String: Int] = [:]
    private let texts: [Substring]

    /// Reads the text of a TOML file.
    init(_ text: String) {
        texts = text.split(separator: "\n", omittingEmptySubsequences: false)
        var prefix = ""
        var counts: [String: Int] = [:]
        var depth = 0
        var delimiter: Substring?
        for (offset, line) in texts.enumerated() {
            let number = offset + 1
            let trimmed = line.drop(while: { $0 == " " || $0 == "\t" })
            if let open = delimiter {
                if trimmed.contains(open) { delimiter = nil }
                continue
            }
            if depth > 0 {
                depth += Self.bracketBalance(trimmed)
                continue
            }
            if trimmed.hasPrefix("[[") {
                guard let name = Self.name(trimmed.dropFirst(2)) else { continue }
                let index = counts[name, default: 0]
                counts[name] = index + 1
                prefix = "\(name)[\(index)]"
                lines[prefix] = number
                if lines[name] == nil { lines[name] = number }
            } else if trimmed.hasPrefix("[") {
                guard let name = Self.name(trimmed.dropFirst()) else { continue }
                prefix = name
                // [domain.replies] belongs to the last [[domain]].
                if let dot = name.firstIndex(of: "."), let count = counts[String(name[..<dot])] {
                    prefix = "\(name[..<dot])[\(count - 1)]\(name[dot...])"
                }
                lines[prefix] = number
            } else if let equals = trimmed.firstIndex(of: "="), !trimmed.hasPrefix("#") {
                let key = trimmed[..<equals].filter { $0 != " " && $0 != "\t" && $0 != "\"" && $0 != "'" }
                lines[prefix.isEmpty ? key : "\(prefix).\(key)"] = number
                let value = trimmed[trimmed.index(after: equals)...]
                for quotes in ["\"\"\"", "'''"] as [Substring] where value.split(separator: quotes).count == 2 {
                    delimiter = quotes
                }
                depth = max(0, Self.bracketBalance(value))
            }
        }
    }

    /// The line of a dotted key, or of the nearest table around it.
    func line(of key: String) -> Int? {
        if let line = lines[key] { return line }
        guard let dot = key.lastIndex(where: { $0 == "." || $0 == "[" }) else { return nil }
        return line(of: String(key[..<dot]))
    }

    /// The text of a line, counted from 1, without the blanks around it.
    func text(_ line: Int) -> String? {
        texts.indices.contains(line - 1) ? texts[line - 1].trimmingCharacters(in: .whitespaces) : nil
    }

    /// The `[[domain]]` tables of a domain, such as `domain[0]`.
    func domainTables(named domain: String?) -> [String] {
        guard let domain else { return [] }
        return (0..<texts.count).lazy.map { "domain[\($0)]" }.prefix { lines[$0] != nil }.filter { table in
            guard let line = lines["\(table).name"], let text = text(line) else { return false }
            return text.lowercased().contains("\"\(domain)\"")
        }
    }

    /// The line on which the key itself is set; nil when it stands at its default.
    func exactLine(of key: String) -> Int? { lines[key] }

    private static func name(_ header: Substring) -> String? {
        guard let end = header.firstIndex(of: "]") else { return nil }
        return header[..<end].filter { $0 != " " && $0 != "\"" && $0 != "'" }
    }

    /// How many `[` are left open, outside strings and comments.
    private static func bracketBalance(_ text: Substring) -> Int {
        var balance = 0
        var quote: Character?
        for character in text {
            if let open = quote {
                if character == open { quote = nil }
                continue
            }
            switch character {
            case "\"", "'": quote = character
            case "#": return balance
            case "[": balance += 1
            case "]": balance -= 1
            default: break
            }
        }
        return balance
    }
}
