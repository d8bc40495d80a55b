import Foundation
import MailAddress
import RecipientSources

/// The settings of getadsmtp.pl or a script that descends from it: a Perl script that copies the addresses of an Active
/// Directory into a Postfix table. The script is read, never run.
public struct GetadsmtpScript {
    /// The script's path; that of the Perl script if a shell script that starts it was named.
    public let path: String
    /// The table that the script writes; nil if it doesn't say.
    public private(set) var table: String?
    /// The directory that it reads.
    private(set) var directory: DirectoryTable
    /// Recipients that it adds, and recipients that it adds as rejected.
    private(set) var added: [String] = []
    private(set) var rejected: [String] = []
    /// What can't be taken over, a sentence each.
    private(set) var questions: [String] = []

    /// Reads a script, or the Perl script that a shell script starts.
    public init(path: String) throws(MigrationError) {
        let text = try TextFile.read(path)
        if !text.contains("Net::LDAP"), let match = text.firstMatch(of: /[^\s"'=;|&]+\.pl\b/) {
            let name = String(match.output)
            let script = name.hasPrefix("/") ? name : "\((path as NSString).deletingLastPathComponent)/\(name)"
            try self.init(text: TextFile.read(script, namedBy: path), path: script)
            takeTable(ofPostmapIn: text)
        } else {
            try self.init(text: text, path: path)
        }
    }

    init(text: String, path: String) throws(MigrationError) {
        self.path = path
        directory = DirectoryTable(origin: path)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(Self.withoutComment)
        let code = lines.joined(separator: "\n")
        guard code.contains("Net::LDAP") else {
            throw MigrationError(.data, "\(path) is not getadsmtp or a script like it: it doesn't use Net::LDAP")
        }
        let variables = Self.variables(of: code)
        func value(_ text: Substring) -> String { Self.value(text, variables) }
        let numbered = variables.keys.filter { $0.contains(/^dc[0-9]*$/) }.sorted()
        directory.servers = numbered.compactMap { variables[$0] }.filter { !$0.isEmpty }
        for match in code.matches(of: /Net::LDAPS?\s*->\s*new\s*\(?\s*("[^"]*"|'[^']*'|\$\w+)/) {
            let server = value(match.output.1)
            if !server.isEmpty, !directory.servers.contains(server) { directory.servers.append(server) }
        }
        for (index, server) in directory.servers.enumerated() where server.contains("@") {
            // Published copies of the script have such names, which Perl takes for something else.
            directory.servers[index] = server.replacing("@", with: ".")
            questions.append(
                "\(path): \"\(server)\" is not the name of a server; the source has \(directory.servers[index]). Correct its uris."
            )
        }
        if code.contains("Net::LDAPS") {
            directory.servers = directory.servers.map {
                $0.contains("://") ? $0 : "ldaps://\($0)"
            }
        }
        func named(_ names: [String]) -> String? { names.lazy.compactMap { variables[$0] }.first { !$0.isEmpty } }
        func argument(_ name: String) -> String? {
            for match in code.matches(of: /\b(\w+)\s*=>\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\$\w+|\[[^\]]*\])/)
            where match.output.1 == name {
                return value(match.output.2)
            }
            return nil
        }
        directory.base = named(["hqbase", "base", "basedn", "searchbase"]) ?? argument("base") ?? ""
        guard !directory.servers.isEmpty, !directory.base.isEmpty else {
            throw MigrationError(
                .data,
                "\(path) is not getadsmtp or a script like it: it names no \(directory.servers.isEmpty ? "server ($dc1)" : "base ($hqbase)")"
            )
        }
        directory.bindDN = named(["user", "binddn", "bind_dn", "username"]) ?? argument("dn") ?? ""
        directory.password = named(["passwd", "password", "bindpw"]) ?? argument("password")
        directory.filter = (argument("filter") ?? "(proxyAddresses=*)").trimmingCharacters(in: .whitespacesAndNewlines)
        let attributes = argument("attrs") ?? "proxyAddresses"
        directory.attributes = attributes.split { !($0.isLetter || $0.isNumber || "-;_".contains($0)) }.map(String.init)
            .filter { !["cn", "qw", "dn"].contains($0.lowercased()) }
        if directory.attributes.isEmpty { directory.attributes = ["proxyAddresses"] }
        directory.isActiveDirectory = true
        directory.startTLS = code.contains("start_tls")
        let isChecked = code.contains(/verify\s*=>\s*['"]?re/)
        directory.verifiesCertificate = isChecked || !(code.contains("start_tls") || code.contains("Net::LDAPS"))
        table = variables["VALID"] ?? named(["valid", "output", "outfile"])
        takeTable(ofPostmapIn: code)
        readAdditions(lines)
    }

    /// Takes the table of a `postmap` command, where the script doesn't name it itself.
    private mutating func takeTable(ofPostmapIn text: String) {
        guard table == nil, let match = text.firstMatch(of: /postmap\s+(?:-\S+\s+)*(?:[a-z]+:)?(\/[^\s"';]+)/) else {
            return
        }
        table = String(match.output.1)
    }

    /// A line of Perl without its comment; a `#` in quotes or after `$` begins none.
    private static func withoutComment(_ line: Substring) -> String {
        var quote: Character?
        var previous: Character = " "
        var text = ""
        for character in line {
            if let open = quote {
                if character == open, previous != "\\" { quote = nil }
            } else if character == "\"" || character == "'" {
                quote = character
            } else if character == "#", previous.isWhitespace || previous == ";" {
                break
            }
            text.append(character)
            previous = character
        }
        return text
    }

    /// The scalar variables to which the script assigns a text, with their first value.
    private static func variables(of code: String) -> [String: String] {
        var variables: [String: String] = [:]
        for match in code.matches(of: /\$(\w+)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*(?:;|\|\|)/) {
            let name = String(match.output.1)
            if variables[name] == nil { variables[name] = value(match.output.2, variables) }
        }
        return variables
    }

    /// The text of a literal, of a variable or of a list of literals.
    private static func value(_ text: Substring, _ variables: [String: String]) -> String {
        switch text.first {
        case "'": return String(text.dropFirst().dropLast().replacing("\\'", with: "'").replacing("\\\\", with: "\\"))
        case "$": return variables[String(text.dropFirst())] ?? ""
        case "\"":
            var value = ""
            var rest = text.dropFirst().dropLast()
            while let character = rest.popFirst() {
                if character == "\\", let next = rest.popFirst() {
                    value.append(next == "n" ? "\n" : next == "t" ? "\t" : next)
                } else if character == "$" {
                    let name = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
                    rest = rest.dropFirst(name.count)
                    value += variables[String(name)] ?? "$\(name)"
                } else {
                    value.append(character)
                }
            }
            return value
        default: return String(text)
        }
    }

    /// Reads the recipients that the script adds by `print`, and notes the lines that leave addresses out.
    private mutating func readAdditions(_ lines: [String]) {
        for (offset, line) in lines.enumerated() {
            if let match = line.firstMatch(of: /\bprint\s+\{?\$?\w+\}?\s+"([^"]*)"/) {
                let text = Self.value("\"\(match.output.1)\"", [:])
                let (key, action) = TextFile.sides(text.trimmingCharacters(in: .whitespacesAndNewlines))
                if let address = try? RecipientAddress(path: key), address.hasDomain {
                    switch AccessAction(action) {
                    case .reject: rejected.append(address.key)
                    case .accept, .other: added.append(address.key)
                    }
                } else if !key.isEmpty, !key.hasPrefix("$") {
                    questions.append(
                        "\(path), line \(offset + 1): the entry \"\(key)\" is not a recipient, so that it is not taken over."
                    )
                }
            } else if line.contains(/\b(next|unless|if)\b.*\$\w+\s*(!~|=~)\s*(m?\/|m\{)/),
                !line.contains("proxyAddress"),
                !line.lowercased().contains("smtp"), line.contains("next") || line.contains("push")
            {
                questions.append(
                    "\(path), line \(offset + 1): the script leaves out addresses by an expression there. Postern lists no addresses outside of the "
                        + "relay domains; leave out others with exclude_filter or exclude_bases, or reject them by recipients.patterns."
                )
            }
        }
    }

    // MARK: The migration

    /// The configuration: Postfix's, in which the directory takes the place of the script's table.
    ///
    /// - Parameters:
    ///   - postfix: the folder of main.cf; nil if there is no Postfix.
    ///   - socket: where Postfix asks Postern; nil to choose the usual place.
    public func migrate(
        postfix: String?, socket: String?, abilities: MigrationAbilities
    ) throws(MigrationError) -> MigratedConfiguration {
        let name = "active-directory"
        guard let postfix else {
            var result = MigratedConfiguration(origin: path)
            if let socket { result.socket = socket }
            result.ask(
                "There is no Postfix configuration: which domains are relayed, and which networks may relay? accepted_domains = true takes the relay "
                    + "domains from Exchange; add others to relay.domains, and networks to relay.trusted_networks.")
            addSource(to: &result, name: name)
            result.acceptsDirectoryDomains(of: name)
            finish(&result)
            return result
        }
        var reader = try PostfixReader(folder: postfix, socket: socket, abilities: abilities)
        if let table { reader.replacements[table] = (directory, name) }
        var result = try reader.read(origin: "\(path) and Postfix in \(postfix)")
        if !result.sources.contains(where: { $0.type == "active-directory" && $0.comments.contains("From \(path).") }) {
            addSource(to: &result, name: name)
            result.note(
                "main.cf doesn't name \(table ?? "the script's table") as a list of recipients; the source \"\(name)\" was added all the same."
            )
        }
        finish(&result)
        return result
    }

    private func addSource(to result: inout MigratedConfiguration, name: String) {
        directory.add(to: &result, name: name)
    }

    private func finish(_ result: inout MigratedConfiguration) {
        for recipient in added {
            result.add(.init(match: PatternTable.expression(for: recipient), accepts: true, origin: path))
        }
        for recipient in rejected { result.block(recipient) }
        for question in questions { result.ask(question) }
        result.note(
            "The script runs at intervals and rewrites its whole table; Postern follows the directory. Remove the script from cron once Postern "
                + "decides alone.")
    }
}

extension MigratedConfiguration {
    /// Takes the relay domains from the accepted domains of Exchange, in the directory of a source.
    mutating func acceptsDirectoryDomains(of name: String) {
        change(name) { $0.keys.append(("accepted_domains", .boolean(true))) }
    }
}
