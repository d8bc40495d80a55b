import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RecipientSources
import System

extension Configuration {
    /// Reads and checks a configuration file.
    ///
    /// - Throws: ``ConfigurationError`` with every fault of the file.
    static func load(_ path: String) throws(ConfigurationError) -> Configuration {
        let file = URL(fileURLWithPath: path).standardizedFileURL.path
        let hint = "postern config sample prints a file to start from"
        let stamp = ConfigurationStamp(file)
        if let reason = FileFault.reason(file) {
            throw ConfigurationError(file: path, "the file can't be read: \(reason); \(hint)")
        }
        guard let bytes = try? Data(contentsOf: URL(fileURLWithPath: file)) else {
            throw ConfigurationError(file: path, "the file can't be read; \(hint)")
        }
        let document: TOMLNode
        do throws(TOMLSyntaxError) {
            document = try TOMLNode(parsing: Array(bytes))
        } catch {
            throw ConfigurationError(
                file: path,
                faults: [
                    ConfigurationFault(
                        key: nil, line: error.line, column: error.column,
                        message: "not TOML: \(error.message.escapedForMessage); accepted: TOML 1.0; \(hint)")
                ])
        }
        let lines = ConfigurationLines(document, text: String(decoding: bytes, as: UTF8.self))
        let context = ConfigurationContext(file: file, lines: lines)
        var reader = ConfigurationReader(document, context)
        reader.read()
        guard context.faults.isEmpty else {
            let sorted = context.faults.enumerated().sorted {
                ($0.element.line ?? 0, $0.offset) < ($1.element.line ?? 0, $1.offset)
            }
            throw ConfigurationError(file: path, faults: sorted.map(\.element))
        }
        reader.configuration.stamps.insert(stamp, at: 0)
        return reader.configuration
    }
}

/// Reads the sections of a configuration file. Faults go to the context; the default takes the place of a faulty value.
struct ConfigurationReader {
    let context: ConfigurationContext
    let file: ConfigurationTable<FileKeys>
    let sources: [SourceTable]
    var configuration: Configuration

    init(_ document: TOMLNode, _ context: ConfigurationContext) {
        self.context = context
        guard case .table(let members) = document.value else { preconditionFailure("a TOML document is a table") }
        file = ConfigurationTable(members, keys: FileKeys(), path: "", context: context)
        sources = file.value(\.source)
        configuration = Configuration(
            file: context.file, lines: context.lines, milter: file.value(\.milter), index: file.value(\.index),
            sync: file.value(\.sync), log: file.value(\.log), http: file.value(\.http))
    }

    mutating func read() {
        readMilter(file.value(\.milter))
        readRecipients(file.value(\.recipients))
        readRules(file.value(\.policy).part(\.rules), &configuration.rules)
        configuration.policy.observe = configuration.rules.observe
        readRelay(file.value(\.relay))
        readDomains(file.value(\.domain))
        readHarvest(file.value(\.harvest))
        configuration.policy.replies = readReplies(file.value(\.replies))
        readSources()
        noticePublicListener(file.value(\.http))
        checkDomains()
        checkAliases()
        checkCanaries()
        checkPaths()
        let isIndexGiven = file.value(\.index).has(\.path)
        if sources.isEmpty, !isIndexGiven, !configuration.domains.allSatisfy(\.rules.catchAll) {
            configuration.notices.append(
                "there is no [[source]] and no index.path, so Postern doesn't wait for a recipient index: while "
                    + "there is none at \(configuration.index.path), it rejects recipients as unknown")
        }
        configuration.policy.maximumIndexAge =
            configuration.index.maximumAge > 0 ? Int64(configuration.index.maximumAge) : nil
        configuration.policy.domainsFromIndex = configuration.relaysIndexDomains
        configuration.policy.indexExpected = !configuration.sync.sources.isEmpty || isIndexGiven
    }

    /// Reports keys that name the same file: one part of Postern would destroy what another keeps there.
    private func checkPaths() {
        var files = [
            ("index.path", configuration.index.path), ("sync.state", configuration.sync.state),
            ("log.database", configuration.log.database),
        ]
        if case .unix(let path) = configuration.socket.location { files.append(("milter.socket", path)) }
        var others = configuration.sync.sources.enumerated().flatMap { position, source in
            source.files.map { ("source[\(position)].\($0.key)", $0.path) }
        }
        others.append(("the configuration file", context.file))
        for (position, (key, path)) in files.enumerated() {
            let same = (files[..<position] + others).first { FileFault.isSame($0.1, path) }
            if let same {
                context.fault(key, "\"\(path.escapedForMessage)\" is \(same.0) too; accepted: a file of its own")
            }
        }
    }

    /// Reports a path where the filter can't make its socket because another kind of file is there.
    private func readMilter(_ table: ConfigurationTable<MilterKeys>) {
        guard table.has(\.socket), case .unix(let path) = configuration.socket.location else { return }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFSOCK else { return }
        let kind = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "a file that is not a socket"
        table.fault(
            \.socket,
            "\"\(path.escapedForMessage)\" is \(kind); accepted: the path of a socket, or one where nothing is, such "
                + "as \"/run/postern/milter.sock\"")
    }

    private mutating func readRecipients(_ table: ConfigurationTable<RecipientKeys>) {
        configuration.policy.always = table.value(\.always)
        configuration.policy.blocked = table.value(\.blocked)
        readForm(table.part(\.form), &configuration.rules)
        configuration.policy.patterns = readPatterns(table.value(\.patterns))
    }

    private func readPatterns(_ tables: [ConfigurationTable<PatternKeys>]) -> [RecipientPattern] {
        if let table = tables.dropFirst(1_000).first {
            table.fault(\.match, "there are more than 1000 patterns; accepted: at most 1000")
        }
        var budget = PatternBudget()
        return tables.prefix(1_000).compactMap { table in
            let action = table.given(\.action)
            guard let text = table.given(\.match) else { return nil }
            do {
                return try RecipientPattern(text, action: action ?? .block, &budget)
            } catch {
                table.fault(\.match, "\"\(text.escapedForMessage)\" \(error)")
                return nil
            }
        }
    }

    /// Reads the keys of an address's form. Those that the table doesn't set stay as they are.
    func readForm(_ table: ConfigurationTable<AddressFormKeys>, _ rules: inout DomainSettings) {
        if let delimiter = table.given(\.delimiter) { rules.delimiter = delimiter }
        if let batv = table.given(\.batv) { rules.batv = batv }
        if let srs = table.given(\.srs) { rules.srs = srs }
    }

    /// Reads the keys of the verdict. Those that the table doesn't set stay as they are.
    func readRules(_ table: ConfigurationTable<RuleKeys>, _ rules: inout DomainSettings) {
        if let observes = table.given(\.mode) { rules.observe = observes }
        if let action = table.given(\.indexMissing) { rules.indexMissing = action }
        if let action = table.given(\.indexStale) { rules.indexStale = action }
        if let hides = table.given(\.internalOnly) { rules.hideInternalOnly = hides }
        if let defers = table.given(\.unlistedSender) { rules.defersUnlistedSenders = defers }
        if let hides = table.given(\.disabled) { rules.hideDisabled = hides }
    }

    private mutating func readHarvest(_ table: ConfigurationTable<HarvestKeys>) {
        var harvest = Policy.Harvest()
        harvest.limit = table.value(\.limit)
        harvest.window = table.value(\.window)
        harvest.ipv4Prefix = table.value(\.ipv4Prefix)
        harvest.ipv6Prefix = table.value(\.ipv6Prefix)
        harvest.tarpit = table.value(\.tarpit) * 1_000
        harvest.tarpitLimit = table.value(\.tarpitLimit)
        configuration.policy.harvest = harvest
        configuration.policy.harvestExempt = table.value(\.exempt)
    }

    /// Reads the replies that the file gives.
    func readReplies(_ table: ConfigurationTable<ReplyKeys>) -> [ReplyKind: ReplyTemplate] {
        Dictionary(
            uniqueKeysWithValues: zip(ReplyKind.allCases, table.keys.replies).compactMap { kind, key in
                table.given(key).map { (kind, $0) }
            })
    }

    private mutating func noticePublicListener(_ table: ConfigurationTable<HTTPKeys>) {
        guard let listen = configuration.httpAddress, !listen.isLoopback else { return }
        configuration.notices.append(
            "http.listen: \(listen) is not a loopback address: everybody who can connect to it sees the addresses of "
                + "rejected mail\(configuration.log.redact ? " without their local parts" : "")")
    }
}

/// Why a file can't be used, in the words of the system.
enum FileFault {
    /// Why the file can't be opened for reading; nil when it can.
    static func reason(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return systemMessage() }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return systemMessage() }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return nil
        case S_IFDIR: return systemMessage(EISDIR)
        default: return "not a regular file"
        }
    }

    /// Why the file can't be run as a program; nil when it can.
    static func reasonNotExecutable(_ path: String) -> String? {
        guard access(path, X_OK) != 0 else { return nil }
        let message = systemMessage()
        return reason(path) ?? message
    }

    /// Whether two paths name the same file, also through links.
    static func isSame(_ first: String, _ second: String) -> Bool {
        if canonical(first) == canonical(second) { return true }
        guard let first = FileStamp(path: first), let second = FileStamp(path: second) else { return false }
        return first.isSameFile(as: second)
    }

    private static func canonical(_ path: String) -> String {
        URL(fileURLWithPath: path).standardizedFileURL.resolvingSymlinksInPath().path
    }
}
