import Foundation
import Glibc

/// The settings of main.cf and the services of master.cf, as postconf(1) prints them.
struct PostfixSettings: Sendable {
    /// A service of master.cf.
    struct Service: Sendable, Equatable {
        var name: String
        var type: String
        /// The fifth column: `y`, `n` or `-`.
        var chroot: String
        var command: String
        /// The settings of its `-o` options.
        var options: [String: String] = [:]
    }

    /// The folder of main.cf.
    let folder: String
    /// The values with `$name` expanded.
    let values: [String: String]
    /// The values that main.cf sets, as they stand there.
    let given: [String: String]
    let services: [Service]

    /// The settings from what `postconf -n`, `postconf -x`, `postconf -M` and `postconf -P` print.
    init(folder: String, given: String, expanded: String, services: String, options: String) {
        self.folder = folder
        self.given = Self.parse(given)
        values = Self.parse(expanded)
        var parsed: [Service] = []
        for line in services.split(separator: "\n") {
            let fields = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard fields.count >= 8 else { continue }
            parsed.append(Service(name: fields[0], type: fields[1], chroot: fields[4], command: fields[7]))
        }
        for (key, value) in Self.parse(options) {
            let parts = key.split(separator: "/", maxSplits: 2).map(String.init)
            // The service's name may have slashes in it; the type and the setting have none.
            guard parts.count == 3, let setting = key.split(separator: "/").last else { continue }
            for index in parsed.indices where key.hasPrefix("\(parsed[index].name)/\(parsed[index].type)/") {
                parsed[index].options[String(setting)] = value
            }
        }
        self.services = parsed
    }

    /// Reads a configuration by running postconf.
    static func read(_ folder: String) throws(MigrationError) -> Self {
        let main = "\(folder)/main.cf"
        let descriptor = open(main, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw MigrationError(file: main, doing: "can't be read") }
        close(descriptor)
        let program = try MTAProgram.path(of: "postconf")
        func dump(_ arguments: [String]) throws(MigrationError) -> String {
            let result = try MTAProgram.run(program, ["-c", folder] + arguments)
            let fatal = result.error.split(separator: "\n").last { $0.contains("fatal: ") }
            guard result.status == 0, fatal == nil else {
                let reason = fatal ?? result.error.split(separator: "\n").last ?? "exit status \(result.status)"
                throw MigrationError(.data, "\(main): postconf can't read the configuration: \(reason)")
            }
            return result.output
        }
        return Self(
            folder: folder, given: try dump(["-n"]), expanded: try dump(["-x"]), services: try dump(["-M"]),
            options: try dump(["-P"]))
    }

    private static func parse(_ text: String) -> [String: String] {
        var values: [String: String] = [:]
        for line in text.split(separator: "\n") {
            guard let sign = line.range(of: " =") else { continue }
            values[String(line[..<sign.lowerBound])] = line[sign.upperBound...].trimmingCharacters(in: .whitespaces)
        }
        return values
    }

    /// The expanded value of a setting; empty if it isn't set.
    subscript(_ name: String) -> String { values[name] ?? "" }

    /// The version as numbers, such as `[3, 7]`.
    var version: (major: Int, minor: Int) {
        let parts = self["mail_version"].split(separator: ".").compactMap { Int($0.prefix { $0.isNumber }) }
        return (parts.first ?? 3, parts.count > 1 ? parts[1] : 0)
    }

    /// The services that receive mail by SMTP.
    var smtpServices: [Service] { services.filter { $0.command == "smtpd" } }

    /// Whether a service runs chrooted.
    func isChrooted(_ service: Service) -> Bool {
        // Without a value in master.cf, Postfix 3 and later chroots with compatibility_level 0 only.
        guard service.chroot == "-" else { return service.chroot == "y" }
        return version.major < 3 || ["", "0"].contains(self["compatibility_level"])
    }
}

/// A lookup table as main.cf names it, such as `hash:/etc/postfix/virtual`.
struct PostfixMap: Sendable, Equatable, CustomStringConvertible {
    var type: String
    var name: String

    var description: String { "\(type):\(name)" }

    /// The types whose source text lies beside the database, with the suffixes of their databases.
    static let indexed = [
        "hash": ".db", "btree": ".db", "lmdb": ".lmdb", "cdb": ".cdb", "dbm": ".pag", "sdbm": ".pag",
    ]

    /// The maps of a value such as that of relay_recipient_maps; `proxy:` is removed.
    static func list(_ text: String, defaultType: String) -> [PostfixMap] {
        tokens(text).map { Self($0, defaultType: defaultType) }
    }

    init(_ token: String, defaultType: String) {
        var token = token
        while token.hasPrefix("proxy:") { token.removeFirst("proxy:".count) }
        if let colon = token.firstIndex(of: ":"), !token.hasPrefix("/") {
            type = String(token[..<colon])
            name = String(token[token.index(after: colon)...])
        } else {
            type = defaultType
            name = token
        }
    }

    /// The parts of a name in braces, such as the tables of `unionmap:{a, b}`.
    var parts: [String] {
        guard name.hasPrefix("{"), name.hasSuffix("}") else { return [] }
        return Self.tokens(String(name.dropFirst().dropLast()))
    }

    /// The entries of an `inline:{ key=value, { key = value } }` table.
    var inlineEntries: [(key: String, value: String)] {
        parts.compactMap { part in
            let text = part.hasPrefix("{") && part.hasSuffix("}") ? String(part.dropFirst().dropLast()) : part
            guard let sign = text.firstIndex(of: "=") else { return nil }
            return (
                text[..<sign].trimmingCharacters(in: .whitespaces),
                text[text.index(after: sign)...].trimmingCharacters(in: .whitespaces)
            )
        }
    }

    /// The words of a value, between commas and white space outside of braces.
    static func tokens(_ text: String) -> [String] {
        var tokens: [String] = []
        var token = ""
        var depth = 0
        for character in text {
            if character == "{" { depth += 1 }
            if character == "}" { depth = max(0, depth - 1) }
            if depth == 0, character == "," || character.isWhitespace {
                if !token.isEmpty { tokens.append(token) }
                token = ""
            } else {
                token.append(character)
            }
        }
        if !token.isEmpty { tokens.append(token) }
        return tokens
    }
}
