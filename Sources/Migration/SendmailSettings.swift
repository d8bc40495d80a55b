import Foundation

/// The parts of a Sendmail configuration that decide about recipients, from sendmail.cf or sendmail.mc.
struct SendmailSettings {
    /// A `K` line: a map.
    struct Map: Equatable {
        var type: String
        /// The options with their letters, such as `k` for the filter of an LDAP map.
        var options: [String: String] = [:]
        /// The file; empty for a map without one.
        var file = ""

        var isOptional: Bool { options["o"] != nil }
    }

    /// A file of a class.
    struct ClassFile: Equatable {
        var path: String
        var isOptional: Bool
    }

    /// The words of classes, such as `R` for relay domains and `w` for local host names.
    private(set) var classes: [String: [String]] = [:]
    private(set) var classFiles: [String: [ClassFile]] = [:]
    private(set) var maps: [String: Map] = [:]
    /// `LDAPDefaultSpec`: options for all LDAP maps.
    private(set) var directoryDefaults = ""
    /// The filters in the order in which Sendmail asks them, with their equates.
    private(set) var filters: [(name: String, equates: String)] = []
    /// Whether a definition sets the order of the filters.
    private(set) var definesFilterOrder = false
    /// Whether a relay domain stands for its sub-domains.
    private(set) var coversSubdomains = true
    /// Whether recipients that LDAP routing doesn't find are rejected.
    private(set) var rejectsUnrouted = false
    /// Whether `access` may reject recipients of relay domains.
    private(set) var blocksRecipients = false
    /// Features that let clients relay without a network or domain being named.
    private(set) var openFeatures: [String] = []

    // MARK: sendmail.cf

    /// Reads the text of a sendmail.cf.
    init(cf text: String) {
        var ruleset = ""
        coversSubdomains = text.contains("< @ $* $=R >")
        var order: [String] = []
        var equates: [String: String] = [:]
        for line in Self.joinedLines(text) {
            switch line.first {
            case "S": ruleset = String(line.dropFirst().prefix { !$0.isWhitespace })
            case "R":
                if ruleset == "LDAPExpand", line.contains("$#error"), line.contains("nouser") { rejectsUnrouted = true }
                if line.contains("Mailbox disabled for this recipient") { blocksRecipients = true }
            case "O":
                guard let sign = line.firstIndex(of: "=") else { break }
                let name = line[..<sign].dropFirst().trimmingCharacters(in: .whitespaces)
                let value = line[line.index(after: sign)...].trimmingCharacters(in: .whitespaces)
                if name == "LDAPDefaultSpec" { directoryDefaults = value }
                if name == "InputMailFilters" {
                    order = value.split { $0 == "," || $0.isWhitespace }.map(String.init)
                }
            case "X":
                let parts = line.dropFirst().split(separator: ",", maxSplits: 1)
                if parts.count == 2 { equates[String(parts[0])] = parts[1].trimmingCharacters(in: .whitespaces) }
            default: readDefinition(line)
            }
        }
        filters = order.map { ($0, equates[$0] ?? "") }
    }

    /// The lines of a sendmail.cf; a line that begins with white space continues the one before.
    private static func joinedLines(_ text: String) -> [String] {
        var lines: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.isEmpty || line.first == "#" { continue }
            if line.first?.isWhitespace == true, !lines.isEmpty {
                lines[lines.count - 1] += line
            } else {
                lines.append(String(line))
            }
        }
        return lines
    }

    /// Reads a `C`, `F` or `K` line.
    private mutating func readDefinition(_ line: String) {
        let rest = line.dropFirst()
        func classAndValue() -> (name: String, value: Substring)? {
            guard let first = rest.first else { return nil }
            guard first == "{" else { return (String(first), rest.dropFirst()) }
            guard let end = rest.firstIndex(of: "}") else { return nil }
            return (String(rest[rest.index(after: rest.startIndex)..<end]), rest[rest.index(after: end)...])
        }
        switch line.first {
        case "C":
            guard let (name, value) = classAndValue() else { return }
            classes[name, default: []] += value.split(whereSeparator: \.isWhitespace).map(String.init)
        case "F":
            guard let (name, value) = classAndValue() else { return }
            var words = value.split(whereSeparator: \.isWhitespace).map(String.init)
            let isOptional = words.first == "-o"
            if isOptional { words.removeFirst() }
            // What follows is a format for scanf, in which a name is the first word of a line anyway.
            guard let path = words.first else { return }
            add(ClassFile(path: path, isOptional: isOptional), to: name)
        case "K":
            var words = Self.words(rest)
            guard words.count >= 2 else { return }
            let name = words.removeFirst()
            maps[name] = Self.map(words)
        default: break
        }
    }

    private mutating func add(_ file: ClassFile, to name: String) {
        if classFiles[name]?.contains(where: { $0.path == file.path }) != true {
            classFiles[name, default: []].append(file)
        }
    }

    /// The words of a map's definition: quotes and parentheses keep white space together.
    static func words(_ text: some StringProtocol) -> [String] {
        var words: [String] = []
        var word = ""
        var (depth, isQuoted) = (0, false)
        for character in text {
            switch character {
            case "\"":
                isQuoted.toggle()
                continue
            case "(" where !isQuoted: depth += 1
            case ")" where !isQuoted: depth -= 1
            default: break
            }
            if character.isWhitespace, depth <= 0, !isQuoted {
                if !word.isEmpty { words.append(word) }
                word = ""
            } else {
                word.append(character)
            }
        }
        if !word.isEmpty { words.append(word) }
        return words
    }

    /// A map from the words after its name.
    static func map(_ words: [String]) -> Map {
        var map = Map(type: words.first ?? "")
        var index = 1
        // Options whose value may be the next word; in LDAP maps only, others have it attached.
        let valued: Set<String> = map.type == "ldap" ? Set("hHpbdMPkvslrwV".map(String.init)) : []
        while index < words.count {
            let word = words[index]
            index += 1
            guard word.hasPrefix("-"), word.count > 1 else {
                map.file = word
                continue
            }
            let letter = String(word.dropFirst().prefix(1))
            var value = String(word.dropFirst(2))
            if value.isEmpty, valued.contains(letter), index < words.count {
                value = words[index]
                index += 1
            }
            map.options[letter] = value
        }
        return map
    }

    // MARK: sendmail.mc

    /// Reads the text of a sendmail.mc: the macros that it calls, and the lines below LOCAL_CONFIG.
    ///
    /// - Parameter folder: where the macros look for their files by default.
    init(mc text: String, folder: String) {
        add(ClassFile(path: "\(folder)/relay-domains", isOptional: true), to: "R")
        var localHostNames = "\(folder)/local-host-names"
        var usesLocalHostNames = false
        for call in M4Call.all(in: text) {
            let arguments = call.arguments
            let first = arguments.first ?? ""
            func argument(_ index: Int) -> String { arguments.indices.contains(index) ? arguments[index] : "" }
            func addWords(_ name: String) {
                classes[name, default: []] += arguments.flatMap {
                    $0.split(whereSeparator: \.isWhitespace).map(String.init)
                }
            }
            switch call.name {
            case "RELAY_DOMAIN": addWords("R")
            case "RELAY_DOMAIN_FILE": add(Self.classFile(first), to: "R")
            case "VIRTUSER_DOMAIN":
                addWords("VirtHost")
                classes["R", default: []].append("$={VirtHost}")
            case "VIRTUSER_DOMAIN_FILE":
                add(Self.classFile(first), to: "VirtHost")
                classes["R", default: []].append("$={VirtHost}")
            case "LDAPROUTE_DOMAIN": addWords("LDAPRoute")
            case "LDAPROUTE_DOMAIN_FILE": add(Self.classFile(first), to: "LDAPRoute")
            case "LOCAL_DOMAIN": addWords("w")
            case "TRUST_AUTH_MECH": addWords("TrustAuthMech")
            case "INPUT_MAIL_FILTER": filters.append((first, argument(1)))
            case "define":
                if first == "confLDAP_DEFAULT_SPEC" { directoryDefaults = argument(1) }
                if first == "confCW_FILE" { localHostNames = argument(1) }
                if first == "confINPUT_MAIL_FILTERS" { definesFilterOrder = true }
            case "FEATURE":
                if first == "use_cw_file" { usesLocalHostNames = true }
                readFeature(first, argument, folder: folder)
            default: break
            }
        }
        if usesLocalHostNames { add(Self.classFile(localHostNames), to: "w") }
        readLocalLines(text)
    }

    private static func classFile(_ text: String) -> ClassFile {
        let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
        return ClassFile(
            path: words.first { !$0.hasPrefix("-") && !$0.hasPrefix("%") } ?? text, isOptional: words.first == "-o")
    }

    private mutating func readFeature(_ name: String, _ argument: (Int) -> String, folder: String) {
        func tableMap(_ file: String) -> Map {
            let given = argument(1)
            if given.isEmpty { return Map(type: "hash", file: "\(folder)/\(file)") }
            return given == "LDAP" ? Map(type: "ldap", options: ["k": ""]) : Self.map(Self.words(given))
        }
        switch name {
        case "access_db": maps["access"] = tableMap("access")
        case "virtusertable": maps["virtuser"] = tableMap("virtusertable")
        case "mailertable": maps["mailertable"] = tableMap("mailertable")
        case "relay_hosts_only": coversSubdomains = false
        case "relay_entire_domain": classes["R", default: []].append("$=m")
        case "blocklist_recipients", "blacklist_recipients": blocksRecipients = true
        case "promiscuous_relay", "relay_based_on_MX", "relay_mail_from", "relay_local_from": openFeatures.append(name)
        case "ldap_routing":
            let standard = "ldap -1 -v ATTRIBUTE -k (&(objectClass=inetLocalMailRecipient)(mailLocalAddress=%0))"
            for (index, name, attribute) in [(1, "ldapmh", "mailHost"), (2, "ldapmra", "mailRoutingAddress")] {
                let given = argument(index).isEmpty ? standard.replacing("ATTRIBUTE", with: attribute) : argument(index)
                maps[name] = Self.map(Self.words(given))
            }
            rejectsUnrouted = !["", "passthru"].contains(argument(3))
        default: break
        }
    }

    private mutating func readLocalLines(_ text: String) {
        var isLocal = false
        for line in text.split(separator: "\n") {
            if line.hasPrefix("LOCAL_CONFIG") {
                isLocal = true
            } else if line.contains(/^[A-Z]+[A-Z_]*(\(|dnl|$)/) {
                isLocal = false
            } else if isLocal, let first = line.first, "CFK".contains(first) {
                readDefinition(String(line))
            }
        }
    }

    /// The features of sendmail.mc that sendmail.cf doesn't show, beside one that was made from it.
    mutating func addFeatures(of source: SendmailSettings) {
        openFeatures = source.openFeatures
        definesFilterOrder = source.definesFilterOrder
    }
}

/// A call of a macro with quoted arguments in a text for m4(1).
struct M4Call {
    var name: String
    /// The arguments without their outer quotes.
    var arguments: [String]
    /// Where the call begins.
    var start: String.Index

    /// The calls at the top level of a text; those in comments (`dnl`, `#`) are left out.
    static func all(in text: String) -> [M4Call] {
        var calls: [M4Call] = []
        var index = text.startIndex
        func skipLine() { index = text[index...].firstIndex(of: "\n").map { text.index(after: $0) } ?? text.endIndex }
        while index < text.endIndex {
            let character = text[index]
            if character == "#" {
                skipLine()
            } else if character == "`" {
                _ = quoted(text, &index)
            } else if character.isLetter || character == "_" {
                let start = index
                index = text[index...].firstIndex { !$0.isLetter && !$0.isNumber && $0 != "_" } ?? text.endIndex
                let name = String(text[start..<index])
                if name == "dnl" {
                    skipLine()
                } else if index < text.endIndex, text[index] == "(" {
                    calls.append(M4Call(name: name, arguments: arguments(text, &index), start: start))
                }
            } else {
                index = text.index(after: index)
            }
        }
        return calls
    }

    /// The text in the quotes that begin at the index; the index is moved past them.
    private static func quoted(_ text: String, _ index: inout String.Index) -> String {
        var depth = 0
        var value = ""
        while index < text.endIndex {
            let character = text[index]
            index = text.index(after: index)
            if character == "`" {
                depth += 1
                if depth == 1 { continue }
            } else if character == "'" {
                depth -= 1
                if depth == 0 { break }
            }
            value.append(character)
        }
        return value
    }

    /// The arguments of the call whose parenthesis is at the index; the index is moved past it.
    private static func arguments(_ text: String, _ index: inout String.Index) -> [String] {
        var arguments: [String] = []
        var argument = ""
        var depth = 0
        while index < text.endIndex {
            let character = text[index]
            if character == "`" {
                argument += quoted(text, &index)
                continue
            }
            // A comment up to the end of the line, as in "define(`name',dnl".
            if character == "d", text[index...].hasPrefix("dnl"), argument.allSatisfy(\.isWhitespace) {
                index = text[index...].firstIndex(of: "\n") ?? text.endIndex
                continue
            }
            index = text.index(after: index)
            switch character {
            case "(":
                depth += 1
                if depth > 1 { argument.append(character) }
            case ")":
                depth -= 1
                if depth == 0 {
                    arguments.append(argument.trimmingCharacters(in: .whitespacesAndNewlines))
                    return arguments
                }
                argument.append(character)
            case "," where depth == 1:
                arguments.append(argument.trimmingCharacters(in: .whitespacesAndNewlines))
                argument = ""
            default: argument.append(character)
            }
        }
        return arguments
    }
}
