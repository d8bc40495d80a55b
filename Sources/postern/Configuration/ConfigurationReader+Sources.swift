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
                    + "and its arguments, such as [\"/usr/local/bin/list-users\", \"--all\"]")
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

/// The `[[source]]` tables of directories.
extension ConfigurationReader {
    func readDirectory(
        _ table: ConfigurationTable<DirectorySourceKeys>, _ dialect: DirectoryConfiguration.Dialect
    ) -> DirectoryConfiguration {
        let servers = table.given(\.uris) ?? []
        var directory = DirectoryConfiguration(dialect, servers: servers.map(\.value))
        readSearch(table, &directory)
        readEntries(table, &directory)
        readRelayDomains(table, &directory)
        directory.login = readLogin(table)
        readConnection(table, &directory)
        checkReferrals(table, directory)
        checkSecurity(directory, servers, table)
        return directory
    }

    private func readSearch(
        _ table: ConfigurationTable<DirectorySourceKeys>, _ directory: inout DirectoryConfiguration
    ) {
        directory.bases = table.value(\.bases)
        directory.excludedBases = table.value(\.excludedBases)
        directory.excludedFilter = table.given(\.excludedFilter)
        if let attributes = table.given(\.attributes) {
            directory.attributes = attributes
            if !attributes.isEmpty { directory.useDefaultFilter() }
        }
        if let filter = table.given(\.filter) { directory.filter = filter }
    }

    /// Reads what an entry says of its recipients.
    private func readEntries(
        _ table: ConfigurationTable<DirectorySourceKeys>, _ directory: inout DirectoryConfiguration
    ) {
        if let conditions = table.given(\.internalOnlyAttribute) { directory.internalOnly = conditions }
        if let conditions = table.given(\.disabledAttribute) { directory.disabled = conditions }
        directory.disabledTreatment = table.value(\.includeDisabled)
        if directory.disabledTreatment != .include, directory.disabled.isEmpty, !table.has(\.disabledAttribute) {
            table.fault(
                \.includeDisabled,
                "needs disabled_attribute, which has no default for this type of directory; accepted: both or neither")
        }
    }

    private func readRelayDomains(
        _ table: ConfigurationTable<DirectorySourceKeys>, _ directory: inout DirectoryConfiguration
    ) {
        let accepted = table.value(\.acceptedDomains)
        let (name, bases) = (table.given(\.relayDomainsAttribute), table.value(\.relayDomainsBases))
        let filter = table.given(\.relayDomainsFilter)
        if accepted, directory.dialect != .activeDirectory {
            table.fault(
                \.acceptedDomains,
                "only Active Directory has accepted domains; accepted: relay_domains_attribute = \"associatedDomain\"")
        }
        if accepted, table.has(\.relayDomainsAttribute) {
            table.fault(
                \.relayDomainsAttribute, "can't be combined with accepted_domains = true; accepted: one of the two")
        }
        if !table.has(\.relayDomainsAttribute) {
            let message = "is given without relay_domains_attribute; accepted: both or neither"
            if !bases.isEmpty { table.fault(\.relayDomainsBases, message) }
            if filter != nil { table.fault(\.relayDomainsFilter, message) }
        }
        if accepted { directory.relayDomains = .acceptedDomains }
        if let name { directory.relayDomains = .attribute(name: name, bases: bases, filter: filter ?? "(\(name)=*)") }
    }

    private func readLogin(_ table: ConfigurationTable<DirectorySourceKeys>) -> DirectoryConfiguration.Login {
        let (account, password) = (table.given(\.bindDN), table.given(\.passwordFile))
        let (sasl, keytab) = (table.given(\.sasl), table.given(\.keytab))
        if account?.isEmpty == true {
            table.fault(\.bindDN, "is empty; accepted: the name of an account, or no bind_dn for an anonymous bind")
        }
        if account != nil, !table.has(\.passwordFile) {
            table.fault(\.bindDN, "needs password_file; accepted: both or neither")
        } else if password != nil, !table.has(\.bindDN) {
            table.fault(\.passwordFile, "needs bind_dn; accepted: both or neither")
        }
        if sasl != nil, account != nil || password != nil {
            table.fault(\.sasl, "can't be combined with bind_dn or password_file; accepted: one kind of bind")
        }
        if keytab != nil, sasl != .gssapi {
            table.fault(\.keytab, "is for sasl = \"gssapi\" only; accepted: both or neither")
        }
        switch sasl {
        case .gssapi: return .gssapi(keytab: keytab)
        case .external: return .external
        case nil:
            guard let account, let password else { return .anonymous }
            return .simple(dn: account, passwordFile: password)
        }
    }

    private func readConnection(
        _ table: ConfigurationTable<DirectorySourceKeys>, _ directory: inout DirectoryConfiguration
    ) {
        directory.startTLS = table.value(\.startTLS)
        directory.caFile = table.given(\.caFile)
        directory.verifiesCertificate = table.value(\.verifiesCertificate)
        directory.allowsPlaintext = table.value(\.allowsPlaintext)
        directory.timeout = table.value(\.timeout)
        directory.pageSize = table.value(\.pageSize)
        directory.followsReferrals = table.value(\.followsReferrals)
        directory.push = table.value(\.push)
        directory.reconcileInterval = table.value(\.reconcile)
        directory.incremental = table.value(\.incremental)
    }

    /// No server tells of changes on another server.
    private func checkReferrals(
        _ table: ConfigurationTable<DirectorySourceKeys>, _ directory: DirectoryConfiguration
    ) {
        guard directory.followsReferrals, directory.incremental != .auto, directory.incremental != .off else { return }
        table.fault(
            \.followsReferrals,
            "can't be combined with incremental = \"\(directory.incremental.rawValue)\", which doesn't see changes "
                + "on other servers; accepted: one of the two")
    }

    private func checkSecurity(
        _ directory: DirectoryConfiguration, _ servers: [ListElement<LDAPURI>],
        _ table: ConfigurationTable<DirectorySourceKeys>
    ) {
        for server in servers {
            let uri = server.value
            if case .simple = directory.login, uri.scheme == .ldap, !directory.startTLS, !directory.allowsPlaintext {
                context.fault(
                    server.key,
                    "\"\(uri)\" would carry the password unencrypted; accepted: ldaps://, or starttls = true, or "
                        + "allow_plaintext = true")
            }
            if directory.startTLS, uri.scheme == .ldaps {
                table.fault(
                    \.startTLS, "\"\(uri)\" is encrypted from its first byte; accepted: starttls with ldap://")
            }
            if directory.login == .external, uri.scheme != .ldapi {
                context.fault(
                    server.key,
                    "\"\(uri)\" is not a unix socket, and only a unix socket shows the server which user asks (sasl = "
                        + "\"external\"); accepted: ldapi://")
            }
        }
        if !directory.verifiesCertificate, directory.caFile != nil {
            table.fault(\.caFile, "has no effect with verify_certificate = false; accepted: one of the two")
        }
    }

    /// Warns of a connection whose protection is turned off, and says how to turn it on.
    mutating func noticeTrust(_ source: SourceConfiguration) {
        guard case .directory(let directory) = source.kind else { return }
        let name = source.name.escapedForMessage
        if !directory.verifiesCertificate {
            configuration.notices.append(
                "source \"\(name)\": verify_certificate = false: Postern doesn't verify the server's certificate, "
                    + "and another server can take its place; name the certificate authority in ca_file and remove "
                    + "verify_certificate")
        }
        guard directory.allowsPlaintext else { return }
        if !directory.startTLS, directory.servers.contains(where: { $0.scheme == .ldap }) {
            configuration.notices.append(
                "source \"\(name)\": allow_plaintext = true: the password and the recipients cross the network "
                    + "unencrypted; use ldaps:// or starttls = true and remove allow_plaintext")
        } else {
            configuration.notices.append(
                "source \"\(name)\": allow_plaintext = true: no connection needs it now, and a later change of uris "
                    + "may send the password unencrypted; remove allow_plaintext")
        }
    }

    /// Reports a second keytab: the Kerberos library has one for the whole process.
    func checkKeytabs() {
        var first: String?
        for (index, source) in configuration.sync.sources.enumerated() {
            guard case .directory(let directory) = source.kind, case .gssapi(let keytab?) = directory.login else {
                continue
            }
            if let first, first != keytab {
                context.fault(
                    "source[\(index)].keytab",
                    "\"\(keytab)\" is another file than \"\(first)\"; accepted: one keytab with the keys of all sources"
                )
            }
            first = first ?? keytab
        }
    }
}
