import Foundation

/// The manual page postern.toml(5), as `postern config manual` prints it and `contrib/man/postern.toml.5` holds it.
enum ConfigurationManual {
    /// The page as mdoc(7) source.
    static let text = header + FileKeys().all.map(section).joined() + footer

    private static let header = #"""
        .\" Printed by "postern config manual". To change it, edit FileKeys.swift, SourceKeys.swift or
        .\" ConfigurationManual.swift in Sources/postern/Configuration.
        .Dd December 1, 2026
        .Dt POSTERN.TOML 5
        .Os
        .Sh NAME
        .Nm postern.toml
        .Nd configuration of the recipient filter Postern
        .Sh SYNOPSIS
        .Pa /etc/postern/postern.toml
        .Sh DESCRIPTION
        All commands of
        .Xr postern 8
        read one configuration file.
        It is a TOML 1.0 file in UTF-8.
        .Dq Li "postern config sample"
        prints a file to start from, with every key.
        .Dq Li "postern config check"
        reports all faults of a file at once, each with its line, the key, the value
        that was given and what is accepted.
        .Pp
        An unknown key, a value of another type and an impossible value are faults.
        A filter doesn't start with a faulty file.
        A running filter keeps the configuration that it has.
        .Pp
        The running filter reads a changed file at
        .Dq Li "postern reload"
        and at the signal
        .Dv SIGUSR1 .
        With
        .Ic milter.reload
        =
        .Qq auto
        it reads the file as soon as it has changed.
        Some keys need a restart of
        .Dq Li "postern serve"
        instead; their entries say so.
        .Pp
        Durations are strings of a number and a unit:
        .Qq 30s ,
        .Qq 5m ,
        .Qq 12h ,
        .Qq 7d
        or
        .Qq 2w .
        Sizes are strings of a number and a unit, such as
        .Qq 64M
        or
        .Qq 64MiB
        (1024 times 1024 bytes each), or a number of bytes.
        Relative paths begin at the folder of the configuration file.
        .Sh SECTIONS

        """#

    private static let footer = #"""
        .Sh FILES
        .Bl -tag -width Ds
        .It Pa /etc/postern/postern.toml
        The configuration file, unless
        .Fl Fl config
        names another.
        .El
        .Sh EXAMPLES
        The recipients of one domain, from a Postfix table:
        .Bd -literal -offset indent
        [relay]
        domains = ["example.com"]

        [policy]
        mode = "observe"

        [[source]]
        name = "recipients"
        type = "file"
        format = "postfix"
        path = "/etc/postfix/relay_recipients"
        .Ed
        .Sh SEE ALSO
        .Xr postern 8

        """#

    private static func section(_ key: any ConfigurationKeyDescription) -> String {
        guard let tables = key.tables else { return "" }
        let name = tables.isList ? "The [[\(key.name)]] tables" : "The [\(key.name)] section"
        return ".Ss \(name)\n" + prose(key.explanation)
            + tables.kinds.map { keys in
                (keys.heading.map { ".Pp\n" + prose("\($0):") } ?? "") + list(keys)
            }.joined()
    }

    private static func list(_ keys: any ConfigurationKeys) -> String {
        ".Bl -tag -width Ds\n" + keys.entries.map(item).joined() + ".El\n"
    }

    private static func item(_ entry: ConfigurationEntry) -> String {
        switch entry {
        case .shared(let names, let section):
            return names.map { ".It Ic \($0)\n" }.joined() + prose("As in \(section), for this table alone.")
        case .key(let key):
            var facts: [String] = []
            if key.tables == nil { facts.append("Accepted: \(key.accepted).") }
            if key.isRequired { facts.append("Required.") }
            if key.tables == nil, let text = key.defaultText { facts.append("Default: \(text).") }
            if let example = key.example, !key.accepted.contains("\(example)") { facts.append("Example: \(example).") }
            if key.needsRestart { facts.append("A change needs a restart.") }
            return ".It Ic \(key.name)\n" + prose(key.explanation)
                + (facts.isEmpty ? "" : ".Pp\n" + facts.map { line($0) }.joined())
                + (key.tables?.kinds.filter { $0.explainedIn == nil }.map(list).joined() ?? "")
        }
    }

    /// Text with each sentence on a line of its own, as mdoc wants it.
    private static func prose(_ text: String) -> String {
        text.replacing(/([.:]) (?=[A-Z])/) { "\($0.1)\n" }.split(separator: "\n").map { line($0) }.joined()
    }

    /// Text in lines of at most 80 bytes.
    private static func line(_ text: some StringProtocol) -> String {
        var lines: [String] = []
        for word in escaped(text).split(separator: " ") {
            if let last = lines.last, last.utf8.count + word.utf8.count < 80 {
                lines[lines.count - 1] = "\(last) \(word)"
            } else {
                lines.append(String(word))
            }
        }
        // A full stop or an apostrophe at the beginning would make the line a request.
        return lines.map { ($0.hasPrefix(".") || $0.hasPrefix("'") ? "\\&" : "") + $0 + "\n" }.joined()
    }

    /// The text with roff's special characters escaped.
    private static func escaped(_ text: some StringProtocol) -> String {
        text.reduce(into: "") { escaped, character in
            switch character {
            case "\\": escaped += "\\e"
            case "-": escaped += "\\-"
            case "^": escaped += "\\(ha"
            case "~": escaped += "\\(ti"
            case "'": escaped += "\\(aq"
            default: escaped.append(character)
            }
        }
    }
}

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
