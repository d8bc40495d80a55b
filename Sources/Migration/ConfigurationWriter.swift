import Foundation

/// Writes a ``MigratedConfiguration`` as a commented `postern.toml`.
public struct ConfigurationWriter: Sendable {
    private let configuration: MigratedConfiguration
    /// The folder of the secrets' files.
    private let secretsFolder: String
    /// Whether the secrets' files are written; if not, a comment says what to put into them.
    private let writesSecrets: Bool
    private var text = ""

    /// - Parameters:
    ///   - secretsFolder: where `password_file` keys point to.
    ///   - writesSecrets: whether the files of the secrets are written, too.
    public init(_ configuration: MigratedConfiguration, secretsFolder: String, writesSecrets: Bool) {
        self.configuration = configuration
        self.secretsFolder = secretsFolder
        self.writesSecrets = writesSecrets
    }

    /// The text of the file.
    public var toml: String {
        var writer = self
        writer.write()
        return writer.text
    }

    private mutating func write() {
        comment("Postern's configuration, migrated from \(configuration.origin).")
        comment(
            "It is in observe mode: Postern accepts every recipient that the MTA accepts, and logs whom it would have rejected. "
                + "\"postern config check\" checks the file, \"man postern.toml\" explains all keys.")
        writeQuestions()
        heading("milter")
        comment("Where the MTA asks Postern.")
        key("socket", configuration.socket)
        writeRelay()
        writeRecipients()
        heading("policy")
        comment(
            "\"enforce\" rejects. Change it once \"postern report\" shows no recipient that should have been accepted.")
        key("mode", "observe")
        writeDomains()
        for source in configuration.sources { write(source) }
    }

    private mutating func writeQuestions() {
        guard !configuration.questions.isEmpty else { return }
        text += "\n"
        comment("OPEN QUESTIONS, which the migration can't answer:")
        for (number, question) in configuration.questions.enumerated() {
            comment("\(number + 1). \(question)", indent: "   ")
        }
    }

    private mutating func writeRelay() {
        heading("relay")
        let listed = configuration.domains.filter { !$0.isInTable }
        if !listed.isEmpty || configuration.domainTables.isEmpty {
            list("domains", listed.map { ($0.name, $0.origin) })
        }
        if !configuration.domainTables.isEmpty {
            comment("Postern reads these tables again when they change and it is reloaded.")
            list("domains_from", configuration.domainTables.map { ($0, "") })
        }
        key("subdomains", configuration.subdomains)
        comment("Clients that may relay to any domain.")
        list("trusted_networks", configuration.trustedNetworks.map { ($0, "") })
        key("trust_authenticated", configuration.trustsAuthenticated)
    }

    private mutating func writeRecipients() {
        heading("recipients")
        comment("Local parts that every relay domain accepts.")
        list("always", configuration.always.map { ($0, "") })
        key("delimiter", configuration.delimiter)
        if !configuration.blocked.isEmpty { list("blocked", configuration.blocked.map { ($0, "") }) }
        guard !configuration.patterns.isEmpty else { return }
        text += "patterns = [\n"
        for pattern in configuration.patterns {
            let match = pattern.match.contains("'") ? Self.quoted(pattern.match) : "'\(pattern.match)'"
            text += "    { match = \(match), action = \"\(pattern.accepts ? "accept" : "block")\" }, # "
            text += "\(Self.oneLine(pattern.origin))\n"
        }
        text += "]\n"
    }

    private mutating func writeDomains() {
        for domain in configuration.domains where domain.aliasOf != nil || domain.catchAllReason != nil {
            heading("[domain]")
            if let target = domain.aliasOf {
                if let origin = domain.aliasOrigin { comment("From \(origin).") }
                key("name", domain.name)
                key("alias_of", target)
            } else if let reason = domain.catchAllReason {
                comment(reason)
                key("name", domain.name)
                key("catch_all", true)
            }
        }
    }

    private mutating func write(_ source: MigratedConfiguration.Source) {
        text += "\n"
        for line in source.comments { comment(line) }
        let start = source.isCommentedOut ? "# " : ""
        var lines = ["[[source]]", "name = \(Self.quoted(source.name))", "type = \(Self.quoted(source.type))"]
        for (name, value) in source.keys {
            switch value {
            case .string(let text): lines.append("\(name) = \(Self.quoted(text))")
            case .boolean(let value): lines.append("\(name) = \(value)")
            case .strings(let texts):
                lines.append("\(name) = [\(texts.map(Self.quoted).joined(separator: ", "))]")
            case .secret(let file):
                if !writesSecrets, let secret = configuration.secrets.first(where: { $0.name == file }) {
                    lines.append("# Put the password into this file, with mode 0600; it is now in \(secret.origin).")
                }
                lines.append("\(name) = \(Self.quoted("\(secretsFolder)/\(file)"))")
            }
        }
        text += lines.map { "\(start)\($0)\n" }.joined()
    }

    private mutating func heading(_ name: String) { text += "\n[\(name)]\n" }

    private mutating func key(_ name: String, _ value: String) { text += "\(name) = \(Self.quoted(value))\n" }

    private mutating func key(_ name: String, _ value: Bool) { text += "\(name) = \(value)\n" }

    /// A list on one line, or with a line for each value if there are many, or if they have comments.
    private mutating func list(_ name: String, _ values: [(value: String, comment: String)]) {
        let line = "\(name) = [\(values.map { Self.quoted($0.value) }.joined(separator: ", "))]"
        if line.count <= 100, values.allSatisfy(\.comment.isEmpty) {
            text += line + "\n"
            return
        }
        text += "\(name) = [\n"
        var last = ""
        for (value, comment) in values {
            if comment != last, !comment.isEmpty { text += "    # \(Self.oneLine(comment))\n" }
            last = comment
            text += "    \(Self.quoted(value)),\n"
        }
        text += "]\n"
    }

    /// Writes a comment in lines of at most 110 characters.
    private mutating func comment(_ sentence: String, indent: String = "") {
        for line in wrap(Self.oneLine(sentence), width: 108, indent: indent) { text += "# \(line)\n" }
    }

    /// A value as a basic string of TOML.
    static func quoted(_ value: String) -> String {
        var text = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\t": text += "\\t"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                let digits = String(scalar.value, radix: 16, uppercase: true)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }

    /// A text without line ends and control characters, which end or spoil a comment.
    private static func oneLine(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
    }
}

/// The words of a text in lines of at most `width` characters; lines after the first begin with `indent`.
func wrap(_ text: String, width: Int, indent: String) -> [String] {
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ") {
        if !line.isEmpty, line.count + 1 + word.count > width {
            lines.append(line)
            line = indent + word
        } else {
            line += line.isEmpty ? word : " \(word)"
        }
    }
    if !line.isEmpty { lines.append(line) }
    return lines
}
