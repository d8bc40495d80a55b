import Foundation
import MailAddress
import System

/// The tables of recipients, and the restrictions that refuse recipients.
extension PostfixReader {
    /// The settings whose tables' left sides are valid recipients for Postfix.
    private static let recipientSettings = [
        "relay_recipient_maps", "virtual_alias_maps", "virtual_mailbox_maps", "recipient_canonical_maps",
        "canonical_maps",
    ]

    mutating func readRecipients() throws(MigrationError) {
        for setting in Self.recipientSettings {
            for map in PostfixMap.list(settings[setting], defaultType: defaultType) { try addSource(map, setting) }
        }
        if !settings["relocated_maps"].isEmpty {
            result.note(
                "relocated_maps (\(settings["relocated_maps"])): Postfix goes on rejecting these recipients, with their new addresses, before it "
                    + "asks Postern.")
        }
        if settings["smtpd_reject_unlisted_recipient"] == "no" {
            result.note(
                "smtpd_reject_unlisted_recipient = no: Postfix doesn't reject unlisted recipients by itself now; Postern in enforce mode does."
            )
        }
    }

    private mutating func addSource(_ map: PostfixMap, _ setting: String) throws(MigrationError) {
        let origin = "\(setting) (\(map))"
        switch map.type {
        case _ where PostfixMap.indexed[map.type] != nil || map.type == "texthash": try addTable(map, setting)
        case "inline":
            for (key, value) in map.inlineEntries { addInline(key, value, origin) }
        case "static":
            for domain in result.domains.map(\.name) {
                result.acceptAll(in: domain, because: "\(origin) accepts every recipient, as now.")
            }
            result.ask("\(origin) accepts every recipient of every domain. Where are the recipients listed?")
        case "regexp", "pcre":
            addPatterns(try TextFile.read(map.name, namedBy: setting), origin, accepts: { _ in true })
        case "ldap": try addDirectory(map, setting)
        case "pgsql", "mysql", "sqlite":
            let (values, place) = try tableSettings(map, setting)
            DatabaseTable(origin: place, type: map.type, settings: values)
                .add(to: &result, name: Self.name(of: map), isKnown: abilities.sourceTypes.contains("sql"))
        case "unionmap", "randmap":
            for part in map.parts { try addSource(PostfixMap(part, defaultType: defaultType), setting) }
        case "pipemap":
            guard let first = map.parts.first else { return }
            try addSource(PostfixMap(first, defaultType: defaultType), setting)
            result.ask(
                "\(origin): a recipient must be found in each table of the pipemap; Postern reads the first of them only (\(first))."
            )
        default:
            result.ask(
                "\(origin): tables of the type \"\(map.type)\" can't be listed: Postern doesn't know recipients that stand there alone. Give it a "
                    + "list of them in another way, such as type = \"command\".")
        }
    }

    private static func name(of map: PostfixMap) -> String {
        let name = map.name.split(separator: "/").last.map(String.init) ?? map.name
        for suffix in [".cf", ".conf", ".txt"] where name.hasSuffix(suffix) && name.count > suffix.count {
            return String(name.dropLast(suffix.count))
        }
        return name
    }

    /// A table of an indexed type: a source that reads its text, or lists its database.
    private mutating func addTable(_ map: PostfixMap, _ setting: String) throws(MigrationError) {
        let origin = "\(setting) (\(map))"
        if let (directory, name) = replacements[map.name] {
            directory.add(to: &result, name: name)
            result.note("\(origin) is the copy of a directory: the source \"\(name)\" reads the directory itself.")
            return
        }
        let table = try TableContent(map, namedBy: setting, in: settings)
        var source = MigratedConfiguration.Source(
            name: Self.name(of: map), type: table.file == nil ? "command" : "file", comments: ["From \(origin)."])
        if let file = table.file {
            source.keys = [("format", .string("postfix")), ("path", .string(file))]
            if !table.hasDatabase {
                result.note(
                    "\(origin): the table has no database, so Postfix can't use it; Postern reads the text, as postmap would."
                )
            }
            if table.isNewerThanDatabase {
                result.note(
                    "\(origin): \(file) has changed since postmap was run; Postern reads the text, as postmap would now."
                )
            }
        } else {
            source.keys = [("command", .strings(table.command)), ("format", .string("postfix"))]
            result.note(
                "\(origin): there is no text \(map.name), so Postern lists the database with postmap -s at each sync.interval."
            )
        }
        result.add(source)
        guard setting == "virtual_alias_maps" else { return }
        for (key, value) in table.entries where key.hasPrefix("@") && value.hasPrefix("@") && key.count > 1 {
            guard !value.contains(where: { $0 == "," || $0.isWhitespace }) else { continue }
            result.addAlias(String(key.dropFirst()), of: String(value.dropFirst()), origin: origin)
        }
    }

    private mutating func addInline(_ key: String, _ value: String, _ origin: String) {
        guard let at = key.lastIndex(of: "@") else { return }
        let domain = String(key[key.index(after: at)...])
        if at > key.startIndex {
            guard let address = try? RecipientAddress(path: key) else {
                return result.ask("\(origin): \"\(key)\" is not an address.")
            }
            addPattern(PatternTable.expression(for: address.key), accepts: true, origin)
        } else if value.hasPrefix("@") {
            result.addAlias(domain, of: String(value.dropFirst()), origin: origin)
        } else if result.relays(domain), let name = result.addDomain(domain, origin: origin) {
            result.acceptAll(in: name, because: "From \(origin).")
        }
    }

    private mutating func addPattern(_ match: String, accepts: Bool, _ origin: String) {
        if let fault = abilities.patternFault(match) {
            result.ask("\(origin): the expression \(match) can't be a pattern of Postern: it \(fault).")
        } else {
            result.add(.init(match: match, accepts: accepts, origin: origin))
        }
    }

    /// The rules of a regexp or pcre table as patterns.
    ///
    /// - Parameter accepts: whether a right side accepts the recipient or rejects it; nil if it does neither.
    private mutating func addPatterns(_ text: String, _ origin: String, accepts: (String) -> Bool?) {
        let table = PatternTable(text)
        for rule in table.rules {
            let place = "\(origin), line \(rule.line)"
            if let alias = rule.alias, result.relays(alias.domain), result.relays(alias.target) {
                result.addAlias(alias.domain, of: alias.target, origin: place)
            } else if rule.isNegated || rule.isConditional || !rule.flags.allSatisfy({ "mi".contains($0) }) {
                result.ask(
                    "\(place): the rule /\(rule.expression)/ is negated, conditional or has flags, which Postern's patterns don't have."
                )
            } else if let accepts = accepts(rule.action) {
                addPattern(rule.expression, accepts: accepts, place)
            } else {
                result.ask(
                    "\(place): the right side of /\(rule.expression)/ neither accepts nor rejects: it stays in Postfix."
                )
            }
        }
        for line in table.faults { result.ask("\(origin), line \(line): the rule can't be read.") }
    }

    // MARK: Directories and databases

    /// The settings of a table such as `ldap:/etc/postfix/recipients.cf`, or `ldap:people` with settings in main.cf, and the
    /// table's name in messages.
    private func tableSettings(
        _ map: PostfixMap, _ setting: String
    ) throws(MigrationError) -> (values: [String: String], place: String) {
        guard map.name.hasPrefix("/") || map.name.hasPrefix(".") else {
            let prefix = "\(map.name)_"
            let own = settings.values.filter { $0.key.hasPrefix(prefix) }
            guard !own.isEmpty else {
                throw MigrationError(.data, "\(setting): \(map): \(settings.folder)/main.cf has no settings \(prefix)…")
            }
            return (
                Dictionary(own.map { (String($0.key.dropFirst(prefix.count)), $0.value) }, uniquingKeysWith: { $1 }),
                "\(setting) (\(map) in main.cf)"
            )
        }
        var values: [String: String] = [:]
        for (_, line) in TextFile.logicalLines(try TextFile.read(map.name, namedBy: setting)) {
            guard let sign = line.firstIndex(of: "=") else { continue }
            let name = line[..<sign].trimmingCharacters(in: .whitespaces)
            values[name] = line[line.index(after: sign)...].trimmingCharacters(in: .whitespaces)
        }
        return (values, "\(setting) (\(map))")
    }

    private mutating func addDirectory(_ map: PostfixMap, _ setting: String) throws(MigrationError) {
        let (values, place) = try tableSettings(map, setting)
        func words(_ name: String, _ standard: String) -> [String] {
            (values[name] ?? standard).split { $0 == "," || $0.isWhitespace }.map(String.init)
        }
        func isOn(_ name: String) -> Bool { ["yes", "true", "1"].contains(values[name]?.lowercased() ?? "") }
        var directory = DirectoryTable(origin: place)
        directory.servers = words("server_host", "localhost")
        directory.port = Int(values["server_port"] ?? "") ?? 389
        directory.base = values["search_base"] ?? ""
        directory.filter = values["query_filter"] ?? "(mailacceptinggeneralid=%s)"
        directory.resultAttributes =
            words("result_attribute", values["special_result_attribute"] == nil ? "maildrop" : "")
            + words("special_result_attribute", "") + words("leaf_result_attribute", "")
            + words("terminal_result_attribute", "")
        let bind = values["bind"]?.lowercased() ?? "yes"
        if bind == "sasl" {
            let mechanisms = (values["sasl_mechs"] ?? "").lowercased()
            directory.mechanism = mechanisms.contains("external") ? "external" : "gssapi"
            if !mechanisms.contains("external"), !mechanisms.contains("gssapi") {
                result.ask("\(place): Postern binds by SASL with gssapi or external only, not with \"\(mechanisms)\".")
            }
        } else if bind != "no" {
            directory.bindDN = values["bind_dn"] ?? ""
            directory.password = values["bind_pw"]
        }
        directory.startTLS = isOn("start_tls")
        directory.caFile = values["tls_ca_cert_file"].flatMap { $0.isEmpty ? nil : $0 }
        directory.verifiesCertificate = isOn("tls_require_cert")
        directory.scope = values["scope"]?.lowercased() ?? "sub"
        let (domains, tables) = words("domain", "").reduce(into: ([String](), [String]())) { parts, word in
            if word.contains(":") || word.hasPrefix("/") { parts.1.append(word) } else { parts.0.append(word) }
        }
        directory.domains = tables.isEmpty ? domains : []
        if !tables.isEmpty {
            result.ask(
                "\(place): its domains stand in the tables \(tables.joined(separator: ", ")); the source lists recipients of all relay domains. Name "
                    + "them in its key domains.")
        }
        if values["tls_cert"]?.isEmpty == false {
            result.ask("\(place): Postern doesn't show a client certificate (tls_cert).")
        }
        directory.add(to: &result, name: Self.name(of: map))
    }

    // MARK: Restrictions

    mutating func readRestrictions() throws(MigrationError) {
        let stages = ["client", "helo", "sender", "relay", "recipient", "data"]
        let lists = stages.map { ("smtpd_\($0)_restrictions", PostfixMap.tokens(settings["smtpd_\($0)_restrictions"])) }
        let words = Set(lists.flatMap(\.1))
        for (setting, tokens) in lists {
            for (index, token) in tokens.enumerated() {
                let argument = tokens.indices.contains(index + 1) ? tokens[index + 1] : ""
                switch token {
                case "check_recipient_access":
                    try readAccess(
                        PostfixMap(argument, defaultType: defaultType), setting,
                        isList: tokens[(index + 1)...].contains("reject"))
                case "reject_unverified_recipient": askAboutVerification(setting)
                case "check_policy_service", "reject_rbl_client", "reject_rhsbl_recipient":
                    result.note("\(setting): \(token) \(argument) stays in Postfix and acts before Postern.")
                case "permit_mx_backup":
                    result.ask(
                        "\(setting): permit_mx_backup relays for domains that name this machine in their MX records. Postern rejects mail to "
                            + "them: list them in relay.domains.")
                case "permit_tls_clientcerts", "permit_tls_all_clientcerts", "check_client_access",
                    "check_ccert_access":
                    guard setting == "smtpd_relay_restrictions" || setting == "smtpd_recipient_restrictions" else {
                        break
                    }
                    result.ask(
                        "\(setting): clients that \(token) \(argument) permits may relay to any domain. Postern doesn't know them: add their networks "
                            + "to relay.trusted_networks.")
                default: break
                }
            }
        }
        if !words.contains("permit_sasl_authenticated") {
            result.trustsAuthenticated = false
        }
        if !words.contains("permit_mynetworks") {
            result.trustedNetworks = []
            result.note("No restriction has permit_mynetworks, so no network is trusted (relay.trusted_networks).")
        }
        if !words.contains("reject_unauth_destination"), words.contains("defer_unauth_destination") {
            result.note(
                "Postfix defers mail to foreign domains itself (defer_unauth_destination), before it asks Postern; with "
                    + "reject_unauth_destination it would reject it.")
        }
    }

    private mutating func askAboutVerification(_ setting: String) {
        let type = "call-ahead"
        let domains = result.domains.filter { $0.catchAllReason != nil && $0.origin.hasPrefix("relay_domains") }.map(
            \.name)
        guard !abilities.sourceTypes.contains(type) else {
            return result.ask(
                "\(setting): reject_unverified_recipient asks the next hop about each recipient. It stays in Postfix and acts before Postern; a "
                    + "[[source]] of type \"call-ahead\" does the same in Postern.")
        }
        var source = MigratedConfiguration.Source(
            name: "next-hop", type: type, comments: ["From reject_unverified_recipient in \(setting)."],
            isCommentedOut: true)
        source.keys.append(("domains", .strings(domains)))
        result.add(source)
        result.ask(
            "\(setting): reject_unverified_recipient asks the next hop about each recipient. It stays in Postfix and acts before Postern: this Postern "
                + "has no sources of type \"call-ahead\", and the source \"next-hop\" is a comment in the file.")
    }

    /// The most recipients of an access table that are written into the configuration.
    private static let mostBlocked = 500

    /// - Parameter isList: whether everything that the restrictions don't permit is rejected at their end, so that the
    ///   table's permitted recipients are the list of valid ones.
    private mutating func readAccess(_ map: PostfixMap, _ setting: String, isList: Bool) throws(MigrationError) {
        let origin = "\(setting), check_recipient_access \(map)"
        if map.type == "regexp" || map.type == "pcre" {
            let text = try TextFile.read(map.name, namedBy: origin)
            addPatterns(text, origin) { action in
                switch AccessAction(action) {
                case .accept: isList ? true : nil
                case .reject: false
                case .other: nil
                }
            }
            return
        }
        guard PostfixMap.indexed[map.type] != nil || map.type == "texthash" else {
            return result.ask("\(origin): the table can't be listed; it stays in Postfix and acts before Postern.")
        }
        let table = try TableContent(map, namedBy: setting, in: settings)
        var (blocked, accepted, others) = ([String](), 0, 0)
        for (key, value) in table.entries {
            let address = key.contains("@") ? try? RecipientAddress(path: key) : nil
            switch (AccessAction(value), address) {
            case (.reject, let address?) where result.relays(address.domain): blocked.append(address.key)
            case (.accept, _?): accepted += 1
            default: others += 1
            }
        }
        if blocked.count <= Self.mostBlocked {
            for recipient in blocked { result.block(recipient) }
        } else {
            result.ask(
                "\(origin) refuses \(blocked.count) recipients, too many for recipients.blocked: Postfix goes on refusing them itself."
            )
        }
        if isList, accepted > 0 {
            try addTable(map, setting)
            result.note(
                "\(origin): its recipients are the list of the valid ones, as everything else is rejected after it.")
        }
        if others > 0 {
            result.note(
                "\(origin): \(Words.count(others, "entry", plural: "entries")) for domains, local parts, other domains' recipients or with other "
                    + "actions stay in Postfix and act before Postern.")
        }
    }
}

/// What the right side of an access(5) table does with a recipient.
enum AccessAction {
    case accept, reject, other

    init(_ value: String) {
        let word = value.prefix { !$0.isWhitespace }.uppercased()
        switch word {
        case "OK", "PERMIT", "RELAY": self = .accept
        case "REJECT": self = .reject
        case _ where word.count == 3 && word.allSatisfy(\.isNumber): self = word.hasPrefix("5") ? .reject : .other
        case _ where !word.isEmpty && word.allSatisfy(\.isNumber): self = .accept
        default: self = .other
        }
    }
}

/// The trusted networks.
extension PostfixReader {
    mutating func readNetworks() throws(MigrationError) {
        var networks = TrustedNetworks()
        for token in PostfixMap.tokens(settings["mynetworks"]) { try addNetworks(token, &networks, depth: 0) }
        result.trustedNetworks = networks.texts
        if settings.given["mynetworks"] == nil {
            result.note(
                "mynetworks isn't set: the trusted networks are those of this machine's interfaces today (mynetworks_style = "
                    + "\(settings["mynetworks_style"])).")
        }
    }

    private mutating func addNetworks(
        _ token: String, _ networks: inout TrustedNetworks, depth: Int
    ) throws(MigrationError) {
        let isExcluded = token.hasPrefix("!")
        let name = isExcluded ? String(token.dropFirst()) : token
        if name.hasPrefix("/"), depth < 5 {
            for (_, line) in TextFile.logicalLines(try TextFile.read(name, namedBy: "mynetworks")) {
                for word in PostfixMap.tokens(line) {
                    try addNetworks((isExcluded ? "!" : "") + word, &networks, depth: depth + 1)
                }
            }
        } else if name.contains(/^[a-z]+:[\/{]/) {
            let map = PostfixMap(name, defaultType: defaultType)
            guard map.type == "cidr", !isExcluded else {
                return try addNetworks(of: map, isExcluded: isExcluded, &networks)
            }
            for (_, line) in TextFile.logicalLines(try TextFile.read(map.name, namedBy: "mynetworks")) {
                let (key, _) = TextFile.sides(line)
                if let fault = networks.add(key) { result.ask("mynetworks (\(map)): \(fault).") }
            }
        } else if let fault = networks.add(token) {
            result.ask(
                "mynetworks: \(fault), so that it isn't trusted; add the client's networks to relay.trusted_networks.")
        }
    }

    private mutating func addNetworks(
        of map: PostfixMap, isExcluded: Bool, _ networks: inout TrustedNetworks
    ) throws(MigrationError) {
        guard PostfixMap.indexed[map.type] != nil || map.type == "texthash" else {
            return result.ask(
                "mynetworks (\(map)): the table can't be listed; add its networks to relay.trusted_networks.")
        }
        for (key, _) in try TableContent(map, namedBy: "mynetworks", in: settings).entries {
            if let fault = networks.add((isExcluded ? "!" : "") + key) { result.ask("mynetworks (\(map)): \(fault).") }
        }
    }
}
