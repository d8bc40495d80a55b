import DirectorySync
import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RejectionLog
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
    func readAddressRules(_ table: ConfigurationTable, _ rules: inout Policy.Rules) {
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
    func readRules(_ table: ConfigurationTable, _ rules: inout Policy.Rules) {
        if let observe = table.choice("mode", ["enforce": false, "observe": true]) { rules.observe = observe }
        if let action = table.choice(
            "index_missing", ["tempfail": Outcome.deferred, "accept": .accepted])
        {
            rules.indexMissing = action
        }
        if let action = table.choice(
            "index_stale", ["keep": Outcome?.none, "tempfail": .deferred, "accept": .accepted])
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

    func readReplies(_ table: ConfigurationTable) -> [ReplyKind: ReplyTemplate] {
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
    var trimmingDot: String { hasPrefix(".") ? String(dropFirst()) : self }
}
