import DirectorySync
import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import TOMLKit

extension Configuration {
    /// Reads and checks a configuration file.
    ///
    /// - Throws: ``ConfigurationError`` with every fault of the file.
    static func load(_ path: String) throws(ConfigurationError) -> Configuration {
        func refuse(_ message: String) -> ConfigurationError {
            ConfigurationError(file: path, faults: [ConfigurationFault(key: nil, line: nil, message: message)])
        }
        let file = URL(fileURLWithPath: path).standardizedFileURL.path
        let hint = "a sample is printed by: postern config sample"
        let stamp = ConfigurationStamp(file)
        if let reason = FileFault.reason(file) { throw refuse("can't be read: \(reason); \(hint)") }
        guard let bytes = try? Data(contentsOf: URL(fileURLWithPath: file)) else {
            throw refuse("can't be read; \(hint)")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw refuse("isn't UTF-8; accepted: a TOML file in UTF-8")
        }
        // The TOML library hands strings over as C strings, so a NUL would cut one short unseen.
        if let line = text.components(separatedBy: "\n").firstIndex(where: { $0.contains(/\0|\\u0000|\\U00000000/) }) {
            throw ConfigurationError(
                file: path,
                faults: [
                    ConfigurationFault(
                        key: nil, line: line + 1, message: "holds a NUL character; accepted: text without")
                ])
        }
        if let line = TableHeaders.firstWithoutName(text) {
            throw ConfigurationError(
                file: path,
                faults: [
                    ConfigurationFault(
                        key: nil, line: line,
                        message: "isn't TOML: the table header has no name; accepted: such as [relay] or [[source]]")
                ])
        }
        let table: TOMLTable
        do {
            table = try TOMLTable(string: text)
        } catch let error as TOMLParseError {
            throw ConfigurationError(
                file: path,
                faults: [
                    ConfigurationFault(
                        key: nil, line: error.source.begin.line,
                        message:
                            "isn't TOML: \(error.description); accepted: TOML 1.0, as printed by: postern config sample"
                    )
                ])
        } catch {
            throw refuse("isn't TOML: \(error)")
        }
        let lines = ConfigurationLines(text)
        let faults = ConfigurationFaults(lines)
        var configuration = ConfigurationReader(file: file, lines: lines, faults: faults)
            .read(ConfigurationTable(table, faults: faults))
        configuration.stamps.insert(stamp, at: 0)
        guard faults.list.isEmpty else {
            let sorted = faults.list.enumerated().sorted {
                ($0.element.line ?? 0, $0.offset) < ($1.element.line ?? 0, $1.offset)
            }
            throw ConfigurationError(file: path, faults: sorted.map(\.element))
        }
        return configuration
    }
}

/// Reads the sections one after the other; what is wrong goes to `faults`, and a default takes its place meanwhile.
struct ConfigurationReader {
    let file: String
    let lines: ConfigurationLines
    let faults: ConfigurationFaults

    func read(_ top: ConfigurationTable) -> Configuration {
        var configuration = Configuration(file: file, lines: lines)
        readMilter(top.section("milter"), &configuration)
        readRecipients(top.section("recipients"), &configuration)
        readPolicy(top.section("policy"), &configuration)
        let index = top.section("index")
        readIndex(index, &configuration)
        let sources = top.sections("source")
        readRelay(top.section("relay"), isSynced: !sources.isEmpty, &configuration)
        if sources.contains(where: \.namesDomains) { configuration.takesDomainsFromIndex = true }
        readDomains(top.sections("domain"), isSynced: !sources.isEmpty, &configuration)
        readHarvest(top.section("harvest"), &configuration)
        configuration.policy.replies = readReplies(top.section("replies"))
        readSync(top.section("sync"), &configuration)
        readSources(sources, &configuration)
        readLog(top.section("log"), &configuration)
        readHTTP(top.section("http"), &configuration)
        top.finish()
        checkDomains(configuration)
        checkAliases(configuration)
        checkCanaries(configuration)
        checkPaths(configuration)
        if configuration.sync.sources.isEmpty, !index.has("path"), !configuration.domains.allSatisfy(\.rules.catchAll) {
            configuration.notices.append(
                "there is no [[source]] and no index.path, so nothing is waited for: while there is no index at "
                    + "\(configuration.index.path), recipients are refused as unknown")
        }
        configuration.policy.domainsFromIndex = configuration.takesDomainsFromIndex
        configuration.policy.indexExpected = !configuration.sync.sources.isEmpty || index.has("path")
        return configuration
    }

    /// Two keys that name one file would have one part of Postern destroy what another keeps.
    private func checkPaths(_ configuration: Configuration) {
        var files = [
            ("index.path", configuration.index.path), ("sync.state", configuration.sync.state),
            ("log.database", configuration.log.database),
        ]
        if case .unix(let path) = configuration.socket.location { files.append(("milter.socket", path)) }
        var others = configuration.sync.sources.enumerated().flatMap { position, source in
            source.files.map { ("source[\(position)].\($0.key)", $0.path) }
        }
        others.append(("the configuration file", file))
        for (position, (key, path)) in files.enumerated() {
            let same = (files[..<position] + others).first { FileFault.isSame($0.1, path) }
            if let same { faults.add(key, "\"\(path)\" is \(same.0) too; accepted: a file of its own") }
        }
    }

    // MARK: Sections

    private func readMilter(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        if let text = table.string("socket") {
            do {
                configuration.socket = try MilterSocket(text)
                checkSocket(configuration.socket, table)
            } catch {
                table.fault("socket", "\(error)")
            }
        }
        if let text = table.string("socket_mode") {
            if let mode = UInt32(text, radix: 8), (3...4).contains(text.count), mode <= 0o777, mode & 0o600 == 0o600 {
                configuration.socketMode = mode
            } else {
                table.fault(
                    "socket_mode",
                    "\"\(text)\" is not a mode; accepted: octal digits, such as \"0660\", that let the owner "
                        + "read and write")
            }
        }
        if let limit = table.integer("max_connections", 1...1_000_000) { configuration.maximumConnections = limit }
        if let reloads = table.choice("reload", ["signal": false, "auto": true]) {
            configuration.reloadsByItself = reloads
        }
        table.finish()
    }

    /// A path that something else than a socket has taken, which the filter wouldn't put its socket in the place of.
    private func checkSocket(_ socket: MilterSocket, _ table: ConfigurationTable) {
        guard case .unix(let path) = socket.location else { return }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFSOCK else { return }
        let what = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "a file that is no socket"
        table.fault(
            "socket",
            "\"\(path)\" is \(what); accepted: a path that is free or a socket's, such as \"/run/postern/milter.sock\"")
    }

    /// The relay domains that tables of the configuration listed when a sync last accepted them, by the index; none where no sync of this
    /// configuration guards them.
    private func acceptedDomains(of paths: Set<String>, isSynced: Bool, _ configuration: Configuration) -> [String] {
        guard isSynced, !paths.isEmpty, let info = try? IndexInfo(path: configuration.index.path) else { return [] }
        return info.sources.filter { $0.isRelayTable && paths.contains($0.name) }.flatMap(\.relayDomains).map(\.name)
    }

    /// - Parameter isSynced: whether there are sources, and so a sync that guards the tables.
    private func readRelay(_ table: ConfigurationTable, isSynced: Bool, _ configuration: inout Configuration) {
        var seen: Set<String> = []
        func add(_ name: String, _ key: String) {
            guard seen.insert(name).inserted else { return }
            configuration.domains.append(.init(name: name, key: key, rules: configuration.rules))
        }
        for (index, given) in (table.strings("domains") ?? []).enumerated() {
            let text = given.trimmingCharacters(in: .whitespaces)
            let isDotted = text.hasPrefix(".")
            do {
                let name = try DomainName(isDotted ? String(text.dropFirst()) : text)
                add((isDotted ? "." : "") + name.aLabel, "relay.domains")
            } catch {
                table.fault(
                    "domains[\(index)]",
                    "\"\(text)\" is not a domain name (\(error)); accepted: such as \"example.com\"")
            }
        }
        for (index, text) in (table.strings("domains_from") ?? []).enumerated() {
            guard let (format, path) = domainTable(text, "domains_from[\(index)]", table) else { continue }
            configuration.stamps.append(ConfigurationStamp(path))
            do {
                let names = try parseDomainTable(path: path, format: format)
                for name in names { add(name, "relay.domains_from (\(text))") }
                configuration.relayTables[path, default: []] += names
            } catch {
                let accepted = acceptedDomains(of: [path], isSynced: isSynced, configuration)
                guard !accepted.isEmpty else {
                    table.fault("domains_from[\(index)]", "\(error)")
                    continue
                }
                // Mail for them isn't refused for a table that can't be read.
                for name in accepted { add(name, "relay.domains_from (\(text))") }
                configuration.relayTables[path, default: []] += accepted
                let key = table.name("domains_from[\(index)]")
                configuration.sourceFaults.append(
                    ConfigurationFault(
                        key: key, line: lines.line(of: key),
                        message:
                            "\(error); the \(Words.count(accepted.count, "relay domain")) that it listed at the last sync "
                            + "stay"))
            }
        }
        configuration.policy.subdomains = table.bool("subdomains") ?? false
        configuration.takesDomainsFromIndex = table.bool("domains_from_index") ?? false
        configuration.policy.trustAuthenticated = table.bool("trust_authenticated") ?? true
        configuration.policy.trustedNetworks = readNetworks(table, "trusted_networks", ["127.0.0.0/8", "::1/128"])
        table.finish()
    }

    private func readNetworks(
        _ table: ConfigurationTable, _ key: String, _ otherwise: [String] = []
    ) -> [Network] {
        (table.strings(key) ?? otherwise).enumerated().compactMap { index, text in
            do {
                return try Network(text)
            } catch {
                table.fault("\(key)[\(index)]", "\(error)")
                return nil
            }
        }
    }

    /// A table of `relay.domains_from`: a path, with what kind of table it is before it.
    private func domainTable(
        _ text: String, _ key: String, _ table: ConfigurationTable
    ) -> (format: DomainTableFormat, path: String)? {
        let accepted =
            "the path of a table's source text, with transport:, access: or mailertable: before it where it is one of these, such "
            + "as \"/etc/postfix/relay_domains\" or \"transport:/etc/postfix/transport\""
        var format = DomainTableFormat.domains
        var path = text[...]
        if let colon = text.firstIndex(of: ":"), !text[..<colon].contains("/") {
            let kind = String(text[..<colon])
            guard let known = DomainTableFormat(rawValue: kind), known != .domains else {
                table.fault(
                    key,
                    "\"\(text.escapedForMessage)\" begins with \"\(kind.escapedForMessage):\"; accepted: \(accepted)")
                return nil
            }
            format = known
            path = text[text.index(after: colon)...]
        }
        guard !path.isEmpty, !path.utf8.contains(0), !path.hasSuffix("/") else {
            table.fault(key, "\"\(text.escapedForMessage)\" is not a file's path; accepted: \(accepted)")
            return nil
        }
        return (format, absolute(String(path)))
    }

    /// Sources may name relay domains, so this is known only when they have been read.
    private func checkDomains(_ configuration: Configuration) {
        let tables = Set(configuration.relayTables.keys)
        guard configuration.domains.isEmpty, !configuration.takesDomainsFromIndex,
            acceptedDomains(of: tables, isSynced: !configuration.sync.sources.isEmpty, configuration).isEmpty,
            faults.list.allSatisfy({ $0.key?.hasPrefix("relay.domains") != true })
        else { return }
        faults.add(
            "relay.domains",
            "no relay domain is given, so all mail would be refused; accepted: at least one domain here or in a "
                + "table of relay.domains_from, or a source with accepted_domains or relay_domains_attribute")
    }

    private func readRecipients(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        if let always = table.strings("always") {
            configuration.policy.always = always.enumerated().compactMap { index, text in
                do {
                    return try RecipientAddress(path: "\(text)@example.invalid").localPart
                } catch {
                    table.fault(
                        "always[\(index)]",
                        "\"\(text)\" is not a local part: \(error)")
                    return nil
                }
            }
        }
        readAddressRules(table, &configuration.rules)
        configuration.policy.patterns = readPatterns(table.sections("patterns"))
        configuration.policy.blocked = (table.strings("blocked") ?? []).enumerated().compactMap { index, text in
            if let address = try? RecipientAddress(path: text), address.hasDomain { return address.key }
            table.fault(
                "blocked[\(index)]", "\"\(text)\" is not an address; accepted: such as \"old-list@example.com\"")
            return nil
        }
        table.finish()
    }

    /// The keys that `[recipients]` and `[[domain]]` share.
    private func readAddressRules(_ table: ConfigurationTable, _ rules: inout Policy.Rules) {
        if let delimiter = delimiter(table) { rules.delimiter = delimiter }
        if let batv = table.bool("batv") { rules.batv = batv }
        if let srs = table.bool("srs") { rules.srs = srs }
    }

    private func readPatterns(_ tables: [ConfigurationTable]) -> [RecipientPattern] {
        if let table = tables.dropFirst(1_000).first {
            table.fault("match", "is one pattern too many; accepted: at most 1000")
        }
        var budget = PatternBudget()
        return tables.prefix(1_000).compactMap { table in
            defer { table.finish() }
            let action = table.choice("action", ["accept": RecipientPattern.Action.accept, "block": .block])
            if !table.has("action") { table.fault("action", "is missing; accepted: \"accept\", \"block\"") }
            guard let text = table.string("match") else {
                if !table.has("match") { table.fault("match", "is missing; accepted: a regular expression") }
                return nil
            }
            do {
                return try RecipientPattern(text, action: action ?? .block, &budget)
            } catch {
                table.fault("match", "\"\(text.escapedForMessage)\" \(error)")
                return nil
            }
        }
    }

    private func readPolicy(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        readRules(table, &configuration.rules)
        configuration.policy.observe = configuration.rules.observe
        table.finish()
    }

    /// The keys that `[policy]` and `[[domain]]` share.
    private func readRules(_ table: ConfigurationTable, _ rules: inout Policy.Rules) {
        if let observe = table.choice("mode", ["enforce": false, "observe": true]) { rules.observe = observe }
        if let action = table.choice(
            "index_missing", ["tempfail": Verdict.Action.tempfail, "accept": .accept])
        {
            rules.indexMissing = action
        }
        if let action = table.choice(
            "index_stale", ["keep": Verdict.Action?.none, "tempfail": .tempfail, "accept": .accept])
        {
            rules.indexStale = action
        }
        if let hide = table.choice("internal_only", ["reject": false, "unknown": true]) {
            rules.hideInternalOnly = hide
        }
        if let defers = table.choice("unlisted_sender", ["report": false, "defer": true]) {
            rules.defersUnlistedSenders = defers
        }
        if let hide = table.choice("disabled", ["unknown": true, "reject": false]) { rules.hideDisabled = hide }
    }

    private func readDomains(_ tables: [ConfigurationTable], isSynced: Bool, _ configuration: inout Configuration) {
        var seen: Set<String> = []
        // A domain that takes its sub-domains in may stand behind the table of one of these.
        let listed = Set(configuration.domains.map(\.name))
        func isListed(_ table: ConfigurationTable) -> Bool {
            table.has("name")
                && table.string("name").flatMap { try? DomainName($0).aLabel }.map(listed.contains) == true
        }
        for table in tables.filter(isListed) + tables.filter({ !isListed($0) }) {
            defer { table.finish() }
            var rules = configuration.rules
            readRules(table, &rules)
            readAddressRules(table, &rules)
            if let catchAll = table.bool("catch_all") { rules.catchAll = catchAll }
            readAlias(table, &rules)
            if let subdomains = table.bool("subdomains") { rules.subdomains = subdomains }
            rules.replies = readReplies(table.section("replies"))
            let blocked = table.strings("blocked") ?? []
            guard let text = table.string("name") else {
                if !table.has("name") { table.fault("name", "is missing; accepted: one of the relay domains") }
                continue
            }
            let isDotted = text.hasPrefix(".")
            guard let domain = try? DomainName(isDotted ? String(text.dropFirst()) : text) else {
                table.fault("name", "\"\(text)\" is not a domain name; accepted: one of the relay domains")
                continue
            }
            let name = (isDotted ? "." : "") + domain.aLabel
            readBlocked(blocked, of: name, table, &rules, &configuration.policy)
            guard seen.insert(name).inserted else {
                table.fault("name", "\"\(text)\" has a [[domain]] already; accepted: one for each domain")
                continue
            }
            if let position = configuration.domains.firstIndex(where: { $0.name == name }) {
                configuration.domains[position].rules = rules
            } else if isBelowRelayDomain(name, configuration) {
                configuration.domains.append(.init(name: name, key: table.name("name"), rules: rules))
            } else if configuration.takesDomainsFromIndex
                || acceptedDomains(of: Set(configuration.relayTables.keys), isSynced: isSynced, configuration).contains(
                    name)
            {
                configuration.rulesToCome[name] = rules
            } else {
                let known = configuration.domains.prefix(5).map(\.name).joined(separator: ", ")
                table.fault(
                    "name",
                    "\"\(text)\" is not a relay domain; accepted: a domain of relay.domains or relay.domains_from"
                        + (known.isEmpty ? "" : " (\(known)\(configuration.domains.count > 5 ? ", …" : ""))"))
            }
        }
    }

    /// `alias_of`; whether its domains are relay domains shows when all domains are read.
    private func readAlias(_ table: ConfigurationTable, _ rules: inout Policy.Rules) {
        guard let text = table.string("alias_of") else { return }
        guard let target = try? DomainName(text).aLabel else {
            table.fault(
                "alias_of", "\"\(text.escapedForMessage)\" is not a domain name; accepted: one of the relay domains")
            return
        }
        if table.isTrue("catch_all") {
            table.fault("catch_all", "stands beside alias_of, which decides of every recipient; accepted: one of both")
        }
        if table.string("name")?.hasPrefix(".") == true {
            table.fault("alias_of", "stands in the table of sub-domains; accepted: in that of a single domain")
        }
        for key in [
            "replies", "delimiter", "unlisted_sender", "index_missing", "index_stale", "internal_only", "disabled",
        ]
        where table.has(key) {
            table.fault(
                key, "stands beside alias_of, and would have no effect: set it for \(target), whose rules count")
        }
        rules.aliasOf = target
        rules.hasOwnMode = table.has("mode")
    }

    /// Canaries that no source may list.
    private func checkCanaries(_ configuration: Configuration) {
        guard !configuration.takesDomainsFromIndex else { return }
        for canary in configuration.sync.canaries {
            guard let at = canary.lastIndex(of: "@") else { continue }
            let domain = String(canary[canary.index(after: at)...])
            guard !configuration.isRelayDomain(domain) else { continue }
            faults.add(
                "sync.canaries",
                "\"\(canary.escapedForMessage)\" is in no relay domain, so that no source can list it; accepted: a recipient of one"
            )
        }
    }

    /// Aliases of domains that aren't relayed, and aliases that lead back to themselves.
    private func checkAliases(_ configuration: Configuration) {
        for domain in configuration.domains {
            guard let target = domain.rules.aliasOf else { continue }
            let key = domainKey(domain.name, "alias_of", configuration)
            if !configuration.takesDomainsFromIndex, !configuration.isRelayDomain(target) {
                faults.add(
                    key,
                    "\"\(target)\" is not a relay domain; accepted: a domain of relay.domains or relay.domains_from")
            }
            let chain = configuration.aliasChain(of: domain.name)
            if chain.last == domain.name {
                faults.add(
                    key,
                    "leads back to the domain itself (\(chain.joined(separator: " → "))); accepted: a domain that is no "
                        + "alias, or an alias of such a one")
            } else if chain.count > Policy.longestAliasChain {
                faults.add(
                    key,
                    "begins a chain of more than \(Policy.longestAliasChain) aliases; accepted: the domain at its end")
            }
        }
    }

    /// The key of a domain's own table.
    private func domainKey(_ domain: String, _ key: String, _ configuration: Configuration) -> String {
        configuration.lines.domainTables(named: domain).map { "\($0).\(key)" }
            .first { configuration.lines.exactLine(of: $0) != nil } ?? "domain.\(key)"
    }

    /// A domain's own blocked recipients: local parts, or addresses at the domain or, where it has these, its sub-domains.
    private func readBlocked(
        _ texts: [String], of domain: String, _ table: ConfigurationTable, _ rules: inout Policy.Rules,
        _ policy: inout Policy.Settings
    ) {
        for (index, text) in texts.enumerated() {
            let address = try? RecipientAddress(path: text.contains("@") ? text : "\(text)@\(domain.trimmingDot)")
            if let address, !text.contains("@") || address.domain == domain {
                rules.blocked.append(address.localPart)
            } else if let address, address.domain.hasSuffix(".\(domain.trimmingDot)") {
                policy.blocked.append(address.key)
            } else {
                table.fault(
                    "blocked[\(index)]",
                    "\"\(text.escapedForMessage)\" is no recipient of \(domain); accepted: a local part, such as "
                        + "\"old-list\", or an address there")
            }
        }
    }

    /// Whether the domain is one by way of `relay.subdomains` or of an entry with a leading dot.
    func isBelowRelayDomain(_ name: String, _ configuration: Configuration) -> Bool {
        configuration.domains.contains { relay in
            relay.name.hasPrefix(".")
                ? name.hasSuffix(relay.name)
                : configuration.coversSubdomains(relay) && name.hasSuffix(".\(relay.name)")
        }
    }

    private func readHarvest(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        var harvest = Policy.Harvest()
        if let limit = table.integer("limit", 0...1_000_000) { harvest.limit = limit }
        if let window = table.duration("window", minimum: 1) { harvest.window = window }
        if let prefix = table.integer("ipv4_prefix", 8...32) { harvest.ipv4Prefix = prefix }
        if let prefix = table.integer("ipv6_prefix", 16...128) { harvest.ipv6Prefix = prefix }
        // Sendmail waits ten seconds for an answer.
        if let delay = table.duration("tarpit", maximum: 8) { harvest.tarpit = delay * 1_000 }
        if let limit = table.integer("tarpit_limit", 1...10_000) { harvest.tarpitLimit = limit }
        configuration.policy.harvest = harvest
        configuration.policy.harvestExempt = readNetworks(table, "exempt")
        table.finish()
    }

    private func readReplies(_ table: ConfigurationTable) -> [ReplyKind: ReplyTemplate] {
        var replies: [ReplyKind: ReplyTemplate] = [:]
        for kind in ReplyKind.allCases {
            guard let text = table.string(kind.key) else { continue }
            do {
                replies[kind] = try ReplyTemplate(text, for: kind)
            } catch {
                table.fault(kind.key, "\"\(text.escapedForMessage)\" \(error)")
            }
        }
        table.finish()
        return replies
    }

    private func readIndex(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        if let path = filePath(table, "path") { configuration.index.path = path }
        if let age = table.duration("max_age") { configuration.index.maximumAge = age }
        configuration.policy.maximumIndexAge =
            configuration.index.maximumAge > 0 ? Int64(configuration.index.maximumAge) : nil
        table.finish()
    }

    private func readSync(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        if let path = filePath(table, "state") { configuration.sync.state = path }
        if let interval = table.duration("interval", minimum: 1) { configuration.sync.interval = interval }
        if let deadline = table.duration("deadline", minimum: 1) { configuration.sync.deadline = deadline }
        if let shrink = table.percentage("max_shrink") { configuration.sync.maximumShrink = shrink }
        if let window = table.duration("shrink_window") { configuration.sync.shrinkWindow = window }
        if let grace = table.duration("grace") { configuration.sync.grace = grace }
        if let minimum = table.integer("minimum", 0...Int.max) { configuration.sync.minimum = minimum }
        configuration.sync.canaries = (table.strings("canaries") ?? []).enumerated().compactMap { index, text in
            if let address = try? RecipientAddress(path: text), address.hasDomain { return address.key }
            table.fault("canaries[\(index)]", "\"\(text)\" is not an address; accepted: such as \"ceo@example.com\"")
            return nil
        }
        table.finish()
    }

    private func readLog(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        if let path = filePath(table, "database") { configuration.log.database = path }
        if let retention = table.duration("retention", minimum: 3600) { configuration.log.retention = retention }
        if let lines = table.bool("lines") { configuration.log.lines = lines }
        if let redact = table.bool("redact") { configuration.log.redact = redact }
        if let retention = table.duration("detail_retention", minimum: 3600) {
            configuration.log.detailRetention = retention
        }
        if let size = table.size("max_size", minimum: 1 << 20, allowsNone: true) {
            configuration.log.maximumSize = size
        }
        table.finish()
    }

    private func readHTTP(_ table: ConfigurationTable, _ configuration: inout Configuration) {
        if let listen = table.string("listen"), !listen.isEmpty {
            configuration.http.listen = HostAndPort(listen)
            if configuration.http.listen == nil {
                table.fault(
                    "listen",
                    "\"\(listen)\" is not an address; accepted: host:port, such as \"127.0.0.1:8892\", or \"\"")
            } else if configuration.http.listen?.isLoopback == false {
                configuration.notices.append(
                    "http.listen: \(listen) is no loopback address: whoever can reach it sees the addresses of refused "
                        + "mail\(configuration.log.redact ? " without their local parts" : "")")
            }
        }
        table.finish()
    }

    // MARK: Values

    private func delimiter(_ table: ConfigurationTable) -> String? {
        guard let text = table.string("delimiter") else { return nil }
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "@") && $0 != UInt8(ascii: "\"") })
        else {
            table.fault(
                "delimiter",
                "\"\(text.escapedForMessage)\" can't set off a detail; accepted: printable ASCII characters other "
                    + "than @ and \", such as \"+\" or \"+-\", or \"\" for none")
            return nil
        }
        return text
    }

    func filePath(_ table: ConfigurationTable, _ key: String) -> String? {
        guard let text = table.string(key) else { return nil }
        guard !text.isEmpty, !text.utf8.contains(0), !text.hasSuffix("/") else {
            table.fault(
                key, "\"\(text.escapedForMessage)\" is not a file's path; accepted: such as \"/var/lib/postern/file\"")
            return nil
        }
        return absolute(text)
    }

    /// A path relative to the configuration file's folder, made absolute.
    func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/") else { return path }
        return URL(fileURLWithPath: path, relativeTo: URL(fileURLWithPath: file).deletingLastPathComponent()).path
    }
}

extension String {
    /// The domain that an entry with a leading dot is of the sub-domains of.
    fileprivate var trimmingDot: String { hasPrefix(".") ? String(dropFirst()) : self }
}
