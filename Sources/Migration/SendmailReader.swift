import Foundation
import MailAddress
import RecipientSources
import System

/// Reads a Sendmail configuration: sendmail.cf, or sendmail.mc where there is no sendmail.cf, and the tables that it names.
public struct SendmailReader {
    private let folder: String
    private let abilities: MigrationAbilities
    private var settings: SendmailSettings
    private var result: MigratedConfiguration
    /// The text of sendmail.mc; nil without one.
    private let source: String?
    /// The domains whose recipients a table or a directory lists in full.
    private var listed: Set<String> = []

    /// - Parameters:
    ///   - folder: the folder of sendmail.cf and sendmail.mc.
    ///   - socket: where Sendmail asks Postern; nil to choose the usual place.
    public init(folder: String, socket: String?, abilities: MigrationAbilities) throws(MigrationError) {
        self.folder = folder
        self.abilities = abilities
        let (compiled, source) = ("\(folder)/sendmail.cf", "\(folder)/sendmail.mc")
        let hasSource = TextFile.exists(source)
        self.source = hasSource ? try TextFile.read(source) : nil
        let written = self.source.map { SendmailSettings(mc: $0, folder: folder) }
        if TextFile.exists(compiled) || !hasSource {
            let text = try TextFile.read(compiled)
            guard text.contains(/(?m)^V[0-9]/) else {
                throw MigrationError(.data, "\(compiled) is not a Sendmail configuration: it has no line \"V10\"")
            }
            settings = SendmailSettings(cf: text)
            if let written { settings.addFeatures(of: written) }
            result = MigratedConfiguration(origin: "Sendmail in \(folder) (sendmail.cf)")
        } else if let written {
            settings = written
            result = MigratedConfiguration(origin: "Sendmail in \(folder) (sendmail.mc)")
            result.note(
                "There is no \(compiled): what \(source) includes from other files is not known to this migration.")
        } else {
            throw MigrationError(.noInput, "\(compiled): no such file")
        }
        if let socket { result.socket = socket }
        if result.socket.hasPrefix("unix:/run/postern/") {
            result.preparations.append(
                "install -d -o postern -g postern -m 755 /run/postern    # Postern's package and systemd unit make it, too"
            )
        }
    }

    /// The migrated configuration.
    public mutating func read() throws(MigrationError) -> MigratedConfiguration {
        result.subdomains = settings.coversSubdomains
        result.trustsAuthenticated = settings.classes["TrustAuthMech"]?.isEmpty == false
        result.note(
            "Postern accepts postmaster and abuse in every relay domain (recipients.always); Sendmail treats them as any recipient."
        )
        var networks = TrustedNetworks()
        for network in result.trustedNetworks { _ = networks.add(network) }
        try readRelayClass(&networks)
        let access = try table("access")
        if let access { try readAccess(access, &networks) }
        result.trustedNetworks = networks.texts
        let local = try readLocalNames()
        try readVirtualUsers()
        if let access { addAccessSource(access) }
        try readDirectory()
        askAboutMissingLists(local)
        try readMailerTable()
        readOtherMaps()
        readFilters()
        guard !result.domains.isEmpty else {
            throw MigrationError(
                .data,
                (["\(folder): no relay domain was found, so Postern would have nothing to do"] + result.questions)
                    .joined(separator: "; "))
        }
        return result
    }

    // MARK: Classes

    /// The words of a class with those of its files; `$={Other}` is replaced.
    private func members(of name: String, depth: Int = 0) throws(MigrationError) -> [(word: String, origin: String)] {
        guard depth < 5 else { return [] }
        var members: [(word: String, origin: String)] = []
        for word in settings.classes[name] ?? [] {
            if word.hasPrefix("$=") {
                let other = word.dropFirst(2).trimmingCharacters(in: CharacterSet(charactersIn: "{}"))
                members += try self.members(of: other, depth: depth + 1)
            } else {
                members.append((word, "class \(name)"))
            }
        }
        for file in settings.classFiles[name] ?? [] {
            if file.isOptional, !TextFile.exists(file.path) { continue }
            if file.path.hasPrefix("@") || file.path.hasPrefix("|") || file.path.contains(":") {
                members.append(("", "class \(name) (\(file.path))"))
                continue
            }
            for line in try TextFile.read(file.path, namedBy: "class \(name)").split(separator: "\n") {
                let words = line.split(whereSeparator: \.isWhitespace)
                guard let word = words.first, !word.hasPrefix("#") else { continue }
                members.append((String(word), file.path))
            }
        }
        return members
    }

    private mutating func readRelayClass(_ networks: inout TrustedNetworks) throws(MigrationError) {
        var hasDomains = false
        // A file of nothing but domains can be read live.
        var live: Set<String> = []
        for file in settings.classFiles["R"] ?? [] where TextFile.exists(file.path) {
            guard let names = try? parseDomainTable(path: file.path), !names.isEmpty else { continue }
            result.addDomainTable(file.path, names, origin: "class R (\(file.path))")
            live.insert(file.path)
            hasDomains = true
        }
        for (word, origin) in try members(of: "R") where !live.contains(origin) {
            if word.isEmpty {
                result.ask("\(origin): the class comes from a map or a program: list its domains in relay.domains.")
            } else if let network = Self.network(word) {
                if let fault = networks.add(network) { result.ask("\(origin): \(fault).") }
            } else if result.addDomain(word, origin: origin) != nil {
                hasDomains = true
            }
        }
        if hasDomains {
            result.ask(
                "Sendmail also lets clients relay anywhere whose own host names are in a relay domain. Postern trusts networks only: add those of your "
                    + "inner servers to relay.trusted_networks.")
        }
        for feature in settings.openFeatures {
            result.ask(
                "FEATURE(`\(feature)') lets clients relay that Postern doesn't trust: add their networks to relay.trusted_networks."
            )
        }
    }

    /// A network in Sendmail's form, such as `10.1`, `192.168.1.5`, `[10.0.0.1]` or `IPv6:2001:db8::1`, in the usual one.
    static func network(_ word: String) -> String? {
        let text = word.hasPrefix("[") && word.hasSuffix("]") ? String(word.dropFirst().dropLast()) : word
        if text.lowercased().hasPrefix("ipv6:") {
            let address = text.dropFirst("ipv6:".count)
            let groups = address.split(separator: ":")
            guard !address.contains("::"), groups.count < 8 else { return String(address) }
            return "\(groups.joined(separator: ":"))::/\(groups.count * 16)"
        }
        if text.hasSuffix(".") { return nil }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...4).contains(parts.count), parts.allSatisfy({ UInt8($0) != nil }) else { return nil }
        if parts.count == 4 { return text }
        return (parts + Array(repeating: "0", count: 4 - parts.count)).joined(separator: ".") + "/\(parts.count * 8)"
    }

    /// The local host names, which become relay domains that accept every recipient.
    private mutating func readLocalNames() throws(MigrationError) -> Set<String> {
        var names: Set<String> = []
        for (word, origin) in try members(of: "w") where !word.isEmpty && !word.hasPrefix("[") {
            guard let name = result.addDomain(word, origin: origin) else { continue }
            names.insert(name)
            result.acceptAll(
                in: name,
                because: "Sendmail delivers mail for \(name) itself, and rejects its unknown recipients itself.")
        }
        result.note(
            "Sendmail delivers mail to this machine's own host names itself. Postern knows those in class w "
                + "(\(names.sorted().joined(separator: ", "))) only: add others that receive mail from outside to relay.domains, with catch_all."
        )
        return names
    }

    // MARK: Tables

    /// A table that a map names: its entries, and the keys of a source that reads it.
    private struct Table {
        var map: SendmailSettings.Map
        var entries: [(key: String, value: String)] = []
        var keys: [(name: String, value: MigratedConfiguration.Source.Value)] = []
        var type = "file"
    }

    private mutating func table(_ name: String) throws(MigrationError) -> Table? {
        guard let map = settings.maps[name] else { return nil }
        let types = ["hash", "btree", "dbm", "cdb", "text"]
        guard types.contains(map.type) else {
            if map.type != "ldap" || name != "virtuser" {
                result.ask(
                    "The map \(name) has the type \"\(map.type)\", which this migration can't read: write down its recipients or domains."
                )
            }
            return nil
        }
        var table = Table(map: map)
        let path = map.file
        if TextFile.exists(path) {
            table.entries = try TextFile.read(path, namedBy: "map \(name)").split(separator: "\n").compactMap { line in
                line.hasPrefix("#") || line.allSatisfy(\.isWhitespace) ? nil : TextFile.sides(String(line))
            }
            table.keys = [("format", .string("sendmail")), ("path", .string(path))]
            return table
        }
        let database = path + (map.type == "dbm" ? ".pag" : map.type == "cdb" ? ".cdb" : ".db")
        guard map.type != "text", TextFile.exists(database) else {
            if map.isOptional { return nil }
            throw MigrationError(.noInput, "the map \(name) names \(path): there is no \(path) and no \(database)")
        }
        let program = try MTAProgram.path(of: "makemap")
        let command = [program, "-u", map.type, path]
        let listed = try MTAProgram.run(program, Array(command.dropFirst()))
        guard listed.status == 0 else {
            let reason = listed.error.split(separator: "\n").last ?? "exit status \(listed.status)"
            throw MigrationError(
                .data, "the map \(name): there is no \(path), and makemap can't list \(database): \(reason)")
        }
        table.entries = listed.output.split(separator: "\n").map { TextFile.sides(String($0)) }
        table.keys = [("command", .strings(command)), ("format", .string("sendmail"))]
        table.type = "command"
        result.note("There is no text \(path), so Postern lists the database with makemap -u at each sync.interval.")
        return table
    }

    private mutating func add(_ table: Table, name: String, origin: String) {
        result.add(
            MigratedConfiguration.Source(
                name: name, type: table.type, keys: table.keys, comments: ["From \(origin)."]))
    }

    /// The tag of an access entry in lower case, without its colon, and what follows it.
    private static func tagged(_ key: String) -> (tag: String, name: String) {
        guard let colon = key.firstIndex(of: ":") else { return ("", key) }
        let tag = key[..<colon]
        guard !tag.contains("@"), tag.allSatisfy(\.isLetter), !tag.isEmpty else { return ("", key) }
        return (tag.lowercased(), String(key[key.index(after: colon)...]))
    }

    private mutating func readAccess(_ table: Table, _ networks: inout TrustedNetworks) throws(MigrationError) {
        let origin = "access (\(table.map.file))"
        if table.type == "file", let names = try? parseDomainTable(path: table.map.file, format: .access),
            !names.isEmpty
        {
            result.addDomainTable("access:\(table.map.file)", names, origin: origin)
        }
        var hosts: [String] = []
        for (key, value) in table.entries where value.uppercased() == "RELAY" {
            let (tag, name) = Self.tagged(key)
            if let network = Self.network(tag == "ipv6" ? key : name), ["", "connect", "ipv6"].contains(tag) {
                if let fault = networks.add(network) { result.ask("\(origin): \(fault).") }
            } else if tag == "connect" {
                hosts.append(name)
            } else if tag == "from" {
                result.ask(
                    "\(origin): \(key) RELAY lets senders relay, whom Postern doesn't trust: add networks to relay.trusted_networks."
                )
            } else if table.type == "command", ["", "to"].contains(tag), !name.contains("@") {
                result.addDomain(name, origin: origin)
            }
        }
        if !hosts.isEmpty {
            result.ask(
                "\(origin): the clients \(hosts.prefix(5).joined(separator: ", ")) may relay by their host names. Postern trusts networks only: add "
                    + "theirs to relay.trusted_networks.")
        }
        // A domain whose recipients alone are named there.
        for (key, value) in table.entries {
            let (tag, name) = Self.tagged(key)
            guard tag == "to", let at = name.lastIndex(of: "@"), at > name.startIndex, value.uppercased() == "RELAY"
            else {
                continue
            }
            let domain = String(name[name.index(after: at)...])
            if !result.relays(domain), let name = result.addDomain(domain, origin: "\(origin), its recipients") {
                listed.insert(name)
            }
        }
        for (key, value) in table.entries where ["", "to"].contains(Self.tagged(key).tag) {
            let name = Self.tagged(key).name
            let isRejected = !["OK", "RELAY", "DISCARD", "SKIP"].contains(value.uppercased())
            // The recipients above are permitted, and everything else in the domain is rejected.
            if isRejected, settings.blocksRecipients, result.relays(name) { listed.insert(name.lowercased()) }
        }
    }

    private mutating func addAccessSource(_ table: Table) {
        let names = table.entries.filter { ["", "to"].contains(Self.tagged($0.key).tag) && $0.key.contains("@") }
        guard !names.isEmpty else { return }
        add(table, name: "access", origin: "access (\(table.map.file))")
        if !settings.blocksRecipients {
            result.note(
                "Sendmail doesn't reject recipients by access now (there is no FEATURE(`blocklist_recipients')); Postern rejects those that "
                    + "access rejects.")
        }
    }

    private mutating func readVirtualUsers() throws(MigrationError) {
        let hosts = try members(of: "VirtHost").map(\.word).filter { !$0.isEmpty }
        for host in hosts { result.addDomain(host, origin: "class VirtHost") }
        if let map = settings.maps["virtuser"], map.type == "ldap" {
            return addDirectory([("virtuser", map)], name: "virtuser")
        }
        guard let table = try table("virtuser") else { return }
        let origin = "virtusertable (\(table.map.file))"
        guard !table.entries.isEmpty else { return }
        add(table, name: "virtusertable", origin: origin)
        for (key, value) in table.entries where key.hasPrefix("@") && key.count > 1 {
            let domain = String(key.dropFirst())
            listed.insert(domain.lowercased())
            guard !value.lowercased().hasPrefix("error:"), let at = value.firstIndex(of: "@") else { continue }
            let (user, target) = (value[..<at], String(value[value.index(after: at)...]))
            if ["%1", "%1%3"].contains(user) {
                result.addAlias(domain, of: target, origin: origin)
            } else if user.contains("%") {
                result.ask(
                    "\(origin): \(key) \(value) changes the local part: Postern accepts every recipient of \(domain), as Sendmail does."
                )
            }
        }
    }

    // MARK: Directories

    private mutating func readDirectory() throws(MigrationError) {
        let maps = ["ldapmra", "ldapmh"].compactMap { name in settings.maps[name].map { (name, $0) } }
        let routed = Set(try members(of: "LDAPRoute").map(\.word).filter { !$0.isEmpty }).sorted()
        guard !maps.isEmpty else { return }
        let relayed = routed.filter { result.relays($0.lowercased()) }
        let others = routed.filter { !result.relays($0.lowercased()) }
        if !others.isEmpty {
            result.ask(
                "LDAP routing is on for \(others.joined(separator: ", ")), which Sendmail doesn't relay: add them to relay.domains if it should."
            )
        }
        addDirectory(maps, name: "ldap-routing", domains: relayed)
        guard settings.rejectsUnrouted else {
            return result.note(
                "LDAP routing passes on recipients that the directory doesn't have (passthru); Postern in enforce mode rejects them, unless the "
                    + "domain has catch_all.")
        }
        for domain in relayed { listed.insert(domain.lowercased()) }
    }

    private mutating func addDirectory(
        _ maps: [(name: String, map: SendmailSettings.Map)], name: String, domains: [String] = []
    ) {
        let defaults = SendmailSettings.map(["ldap"] + SendmailSettings.words(settings.directoryDefaults))
        var tables: [DirectoryTable] = []
        for (mapName, map) in maps {
            guard map.type == "ldap" else {
                result.ask("The map \(mapName) has the type \"\(map.type)\", which this migration can't read.")
                continue
            }
            let options = defaults.options.merging(map.options) { $1 }
            var table = DirectoryTable(origin: "LDAP map \(mapName)")
            table.servers = (options["H"] ?? options["h"] ?? "").split(whereSeparator: \.isWhitespace).map(String.init)
            table.port = Int(options["p"] ?? "") ?? 389
            table.base = options["b"] ?? ""
            table.filter = options["k"] ?? ""
            table.resultAttributes = (options["v"] ?? "").split(separator: ",").map { String($0.prefix { $0 != ":" }) }
            table.bindDN = options["d"] ?? ""
            table.domains = domains
            table.scope = options["s"]?.lowercased() ?? "sub"
            let method = options["M"]?.lowercased() ?? ""
            if method.contains("krb") || method.contains("kerberos") {
                table.mechanism = "gssapi"
            } else if let file = options["P"], !table.bindDN.isEmpty {
                do {
                    table.password = try TextFile.read(file).split(separator: "\n").first.map(String.init)
                } catch {
                    result.ask("\(table.origin): the file of the password can't be read (\(error)).")
                }
            }
            if let known = tables.firstIndex(where: {
                $0.filter == table.filter && $0.base == table.base && $0.servers == table.servers
            }) {
                tables[known].resultAttributes += table.resultAttributes
                tables[known].origin += " and \(mapName)"
            } else {
                tables.append(table)
            }
        }
        for table in tables { table.add(to: &result, name: name) }
    }

    // MARK: What remains

    private mutating func askAboutMissingLists(_ local: Set<String>) {
        let missing = result.domains.filter { domain in
            domain.aliasOf == nil && !local.contains(domain.name) && !listed.contains(domain.name)
        }.map(\.name)
        guard !missing.isEmpty else { return }
        for domain in missing {
            result.acceptAll(
                in: domain,
                because:
                    "OPEN QUESTION: \(domain) is relayed without a list of recipients, so every recipient is accepted, as now. Add a source "
                    + "for it, then remove this table.")
        }
        let shown =
            missing.prefix(10).joined(separator: ", ") + (missing.count > 10 ? " and \(missing.count - 10) more" : "")
        result.ask(
            "Relayed without a list of recipients: \(shown). They accept every recipient, as now. Where are their recipients listed? Add a [[source]] "
                + "and remove catch_all.")
    }

    private mutating func readMailerTable() throws(MigrationError) {
        guard let table = try table("mailertable") else { return }
        let foreign = table.entries.filter { entry in
            let name = entry.key.hasPrefix(".") ? String(entry.key.dropFirst()) : entry.key
            return entry.key != "." && !entry.value.lowercased().hasPrefix("error:")
                && !result.relays(name.lowercased())
        }.map(\.key)
        guard !foreign.isEmpty else { return }
        let shown =
            foreign.prefix(5).joined(separator: ", ") + (foreign.count > 5 ? " and \(foreign.count - 5) more" : "")
        result.note(
            "mailertable (\(table.map.file)) routes mail for \(shown), which Sendmail doesn't relay for strangers: Postern doesn't either."
        )
    }

    private mutating func readOtherMaps() {
        let known: Set<String> = ["access", "virtuser", "mailertable", "ldapmra", "ldapmh"]
        for (name, map) in settings.maps.sorted(by: { $0.key < $1.key })
        where map.type == "ldap" && !known.contains(name) {
            result.ask(
                "The map \(name) asks a directory; this migration doesn't know what for: if it lists recipients, write a [[source]] for it."
            )
        }
    }

    private mutating func readFilters() {
        let timeouts = "T=C:30s;S:10s;R:10s;E:5m"
        let isPresent = settings.filters.contains { $0.equates.contains(result.socket) }
        let hasMakefile = TextFile.exists("\(folder)/Makefile")
        let build = hasMakefile ? "make -C \(folder)" : "m4 \(folder)/sendmail.mc > \(folder)/sendmail.cf"
        var change = MTAChange(
            file: "\(folder)/\(source == nil ? "sendmail.cf" : "sendmail.mc")",
            reload: (source == nil ? "" : "\(build) && ") + "service sendmail restart")
        if let source {
            let order = ["INPUT_MAIL_FILTER", "MAIL_FILTER", "MAILER_DEFINITIONS", "MAILER"]
            let first = M4Call.firstLine(of: source) { order.contains($0) }
            if !isPresent {
                change.insertion = (["INPUT_MAIL_FILTER(`postern', `S=\(result.socket), \(timeouts)')dnl"], first)
            }
            change.later = ["INPUT_MAIL_FILTER(`postern', `S=\(result.socket), F=T, \(timeouts)')dnl"]
            if settings.definesFilterOrder, !isPresent {
                change.canBeApplied = false
                result.ask(
                    "sendmail.mc defines confINPUT_MAIL_FILTERS: put postern first there, too. --apply doesn't change such a file."
                )
            }
        } else {
            let names = ["postern"] + settings.filters.map(\.name)
            if !isPresent {
                change.insertion = (
                    [
                        "O InputMailFilters=\(names.joined(separator: ","))",
                        "Xpostern, S=\(result.socket), \(timeouts)",
                    ], nil
                )
            }
            change.later = ["Xpostern, S=\(result.socket), F=T, \(timeouts)"]
            change.canBeApplied = false
            result.note(
                "There is no \(folder)/sendmail.mc: the lines are for sendmail.cf, which is usually made from it.")
        }
        result.note(
            "While Postern observes, Sendmail accepts mail if Postern is down (no F= in the filter's line): its own rules still decide. Once Postern "
                + "decides alone, mail must wait instead (F=T).")
        if !isPresent, !settings.filters.isEmpty {
            result.note(
                "Sendmail has other filters (\(settings.filters.map(\.name).joined(separator: ", "))): they stay, after Postern."
            )
        }
        result.change = change
    }
}

extension M4Call {
    /// The whole line on which the first of some macros stands, called or not; nil if none does.
    static func firstLine(of text: String, _ isWanted: (String) -> Bool) -> String? {
        for line in text.split(separator: "\n") {
            let word = line.prefix { $0.isLetter || $0 == "_" }
            if isWanted(String(word)) { return String(line) }
        }
        return nil
    }
}
