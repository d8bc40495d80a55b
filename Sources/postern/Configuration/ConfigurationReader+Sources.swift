import Foundation
import RecipientSources
import System

/// A `[[source]]` table with the keys of its type.
enum SourceTable {
    case file(ConfigurationTable<FileSourceKeys>)
    case command(ConfigurationTable<CommandSourceKeys>)
    case directory(ConfigurationTable<DirectorySourceKeys>, DirectoryConfiguration.Dialect)
    /// The type is missing or not known, so that no other key can be read.
    case unknown(ConfigurationTable<SourceKeys>)

    init(_ members: [(key: String, node: TOMLNode)], path: String, context: ConfigurationContext) {
        func table<Keys>(_ keys: Keys) -> ConfigurationTable<Keys> {
            ConfigurationTable(members, keys: keys, path: path, context: context)
        }
        var type: SourceType?
        if case .string(let text)? = members.first(where: { $0.key == "type" })?.node.value {
            type = SourceType(rawValue: text)
        }
        switch type {
        case .file: self = .file(table(FileSourceKeys()))
        case .command: self = .command(table(CommandSourceKeys()))
        case .activeDirectory, .openLDAP, .ldap:
            let dialect = type.flatMap { DirectoryConfiguration.Dialect(rawValue: $0.rawValue) } ?? .generic
            self = .directory(table(DirectorySourceKeys(dialect)), dialect)
        case nil:
            let readable = members.filter { ["name", "type"].contains($0.key) }
            self = .unknown(
                ConfigurationTable(readable, keys: SourceKeys(name: "", type: .file), path: path, context: context))
        }
    }

    /// The keys that every source has.
    var source: ConfigurationTable<SourceKeys> {
        switch self {
        case .file(let table): table.part(\.source)
        case .command(let table): table.part(\.source)
        case .directory(let table, _): table.part(\.source)
        case .unknown(let table): table
        }
    }

    /// Whether the source reads relay domains too.
    var namesRelayDomains: Bool {
        guard case .directory(let table, _) = self else { return false }
        return table.has(\.relayDomainsAttribute) || table.given(\.acceptedDomains) == true
    }
}

extension ConfigurationReader {
    mutating func readSources() {
        var names: Set<String> = []
        for table in sources {
            let common = table.source
            let name = common.given(\.name)
            if let name, !names.insert(name).inserted {
                common.fault(
                    \.name, "\"\(name.escapedForMessage)\" is the name of another source; accepted: a name of its own")
            }
            let kind = readKind(table)
            if case .unknown = table { continue }
            let domains = readDomains(common)
            guard let name, let kind else { continue }
            let source = SourceConfiguration(name: name, kind: kind, domains: domains)
            configuration.sync.sources.append(source)
            checkFiles(source, common)
            noticeTrust(source)
        }
        checkKeytabs()
    }

    private func readKind(_ table: SourceTable) -> SourceConfiguration.Kind? {
        switch table {
        case .file(let table):
            let (format, path) = (table.given(\.format), table.given(\.path))
            guard let format, let path else { return nil }
            return .file(format: format, path: path)
        case .command(let table): return readCommand(table)
        case .directory(let table, let dialect): return .directory(readDirectory(table, dialect))
        case .unknown(let table):
            _ = table.given(\.type)
            return nil
        }
    }

    private func readCommand(_ table: ConfigurationTable<CommandSourceKeys>) -> SourceConfiguration.Kind? {
        let limits = (
            format: table.value(\.format), timeout: table.value(\.timeout), maximumSize: table.value(\.maximumSize)
        )
        guard let words = table.given(\.command), let program = words.first else { return nil }
        guard program.hasPrefix("/") else {
            table.fault(
                \.command,
                "\"\(program.escapedForMessage)\" is not an absolute path; accepted: a program by its absolute path, "
                    + "and its "
                    + "arguments, such as [\"/usr/local/bin/list-users\", \"--all\"]")
            return nil
        }
        return .command(
            CommandConfiguration(
                command: words, format: limits.format, timeout: limits.timeout, maximumSize: limits.maximumSize))
    }

    /// The domains that the source may list; nil for all relay domains.
    private func readDomains(_ table: ConfigurationTable<SourceKeys>) -> Set<String>? {
        guard let elements = table.given(\.domains) else { return nil }
        let known = Set(configuration.domains.map(\.name))
        for element in elements {
            let domain = element.value
            guard !known.contains(domain.name), !configuration.isBelowRelayDomain(domain.name),
                !configuration.relaysIndexDomains
            else { continue }
            context.fault(
                element.key, "\"\(domain.text)\" is not a relay domain; accepted: a domain of relay.domains")
        }
        return Set(elements.map(\.value.name))
    }

    /// Checks the files of a source. A file that can't be read stops neither the filter nor the other sources.
    private mutating func checkFiles(_ source: SourceConfiguration, _ table: ConfigurationTable<SourceKeys>) {
        for (key, path) in source.files {
            let isProgram = key == "command"
            guard let reason = isProgram ? FileFault.reasonNotExecutable(path) : FileFault.reason(path) else {
                continue
            }
            configuration.sourceFaults.append(
                context.makeFault(
                    table.path(of: key),
                    "\"\(path.escapedForMessage)\" can't be \(isProgram ? "run" : "read"): \(reason); accepted: a "
                        + (isProgram ? "program" : "readable file")))
        }
        for (key, path) in source.files where key == "password_file" || key == "keytab" {
            var status = stat()
            guard stat(path, &status) == 0, status.st_mode & 0o077 != 0 else { continue }
            let mode = String(status.st_mode & 0o7777, radix: 8)
            configuration.notices.append(
                "\(table.path(of: key)): other users than the owner can use \(path) (mode 0\(mode)); chmod 600 it")
        }
    }
}

extension SourceConfiguration {
    /// The files that the source reads, by their keys.
    var files: [(key: String, path: String)] {
        switch kind {
        case .file(_, let path): return [("path", path)]
        case .command(let command): return command.command.first.map { [("command", $0)] } ?? []
        case .directory(let directory):
            var files: [(key: String, path: String)] = []
            switch directory.login {
            case .simple(_, let path): files.append(("password_file", path))
            case .gssapi(let path?): files.append(("keytab", path))
            case .gssapi(nil), .anonymous, .external: break
            }
            if let path = directory.caFile { files.append(("ca_file", path)) }
            return files
        }
    }
}
