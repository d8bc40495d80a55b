import Foundation
import MailAddress
import RecipientSources
import System

extension ConfigurationReader {
    func readSources(_ tables: [ConfigurationTable], _ configuration: inout Configuration) {
        var names: Set<String> = []
        for table in tables {
            let name = readName(table, &names)
            guard let kind = readKind(table) else { continue }
            let domains = sourceDomains(table, configuration)
            table.finish()
            guard let name, let kind = kind.value else { continue }
            let source = SourceConfiguration(name: name, kind: kind, domains: domains)
            configuration.sync.sources.append(source)
            checkFiles(source, table, &configuration)
            noticeTrust(source, &configuration)
        }
        checkKeytabs(tables, configuration)
    }

    private func readName(_ table: ConfigurationTable, _ names: inout Set<String>) -> String? {
        guard let name = table.string("name") else {
            if !table.has("name") {
                table.fault("name", "is missing; accepted: a name of your choice, such as \"headquarters\"")
            }
            return nil
        }
        if name.isEmpty || name.contains(where: \.isNewline) {
            table.fault("name", "\"\(name.escapedForMessage)\" is not a name; accepted: one line of text")
        } else if !names.insert(name).inserted {
            table.fault("name", "\"\(name)\" names another source already; accepted: a name of its own for each")
        }
        return name
    }

    /// A kind whose faults, if there were any, have been told.
    private struct ReadKind {
        let value: SourceConfiguration.Kind?
    }

    /// nil for a type that isn't known, with which no other key means anything.
    private func readKind(_ table: ConfigurationTable) -> ReadKind? {
        let accepted = "\"active-directory\", \"openldap\", \"ldap\", \"file\", \"command\""
        guard let type = table.string("type") else {
            if !table.has("type") { table.fault("type", "is missing; accepted: \(accepted)") }
            return nil
        }
        switch type {
        case "file": return ReadKind(value: readFile(table))
        case "command": return ReadKind(value: readCommand(table))
        default:
            guard let dialect = DirectoryConfiguration.Dialect(rawValue: type) else {
                table.fault("type", "\"\(type)\" is not known; accepted: \(accepted)")
                return nil
            }
            return ReadKind(value: .directory(readDirectory(table, dialect)))
        }
    }

    private func readFormat(_ table: ConfigurationTable) -> TableFormat? {
        table.choice("format", ["postfix": TableFormat.postfix, "sendmail": .sendmail, "list": .list])
    }

    private func readFile(_ table: ConfigurationTable) -> SourceConfiguration.Kind? {
        let format = readFormat(table)
        if !table.has("format") {
            table.fault("format", "is missing; accepted: \"postfix\", \"sendmail\", \"list\"")
        }
        let path = filePath(table, "path")
        if !table.has("path") { table.fault("path", "is missing; accepted: the path of a file") }
        guard let format, let path else { return nil }
        return .file(format: format, path: path)
    }

    private func readCommand(_ table: ConfigurationTable) -> SourceConfiguration.Kind? {
        var command = CommandConfiguration(command: [])
        if let words = table.strings("command") { command.command = words }
        if let format = readFormat(table) { command.format = format }
        if let timeout = table.duration("timeout", minimum: 1) { command.timeout = timeout }
        if let size = table.size("max_size") { command.maximumSize = size }
        let accepted =
            "a program by its whole path, and its arguments, such as [\"/usr/local/bin/list-users\", \"--all\"]"
        guard let program = command.command.first else {
            table.fault("command", "\(table.has("command") ? "names no program" : "is missing"); accepted: \(accepted)")
            return nil
        }
        guard program.hasPrefix("/"), !command.command.contains(where: { $0.utf8.contains(0) }) else {
            table.fault("command", "\"\(program.escapedForMessage)\" is not a whole path; accepted: \(accepted)")
            return nil
        }
        return .command(command)
    }

    // MARK: Directories

    private func readDirectory(
        _ table: ConfigurationTable, _ dialect: DirectoryConfiguration.Dialect
    ) -> DirectoryConfiguration {
        var directory = DirectoryConfiguration(dialect, servers: readServers(table))
        readSearch(table, &directory)
        readFlags(table, &directory)
        readRelayDomains(table, &directory)
        readLogin(table, &directory)
        readConnection(table, &directory)
        checkReferrals(table, directory)
        checkSecurity(table, directory)
        return directory
    }

    private func readServers(_ table: ConfigurationTable) -> [LDAPURI] {
        let accepted = "a list of servers, such as [\"ldaps://dc1.example.com\", \"ldaps://dc2.example.com:636\"]"
        guard let texts = table.strings("uris") else {
            if !table.has("uris") { table.fault("uris", "is missing; accepted: \(accepted)") }
            return []
        }
        if texts.isEmpty { table.fault("uris", "names no server; accepted: \(accepted)") }
        return texts.enumerated().compactMap { index, text in
            if let uri = LDAPURI(text) { return uri }
            table.fault(
                "uris[\(index)]",
                "\"\(text.escapedForMessage)\" is not the URI of a directory server; accepted: ldaps://, ldap:// or ldapi:// "
                    + "with a host and a port or none, such as \"ldaps://dc1.example.com\"")
            return nil
        }
    }

    private func readSearch(_ table: ConfigurationTable, _ directory: inout DirectoryConfiguration) {
        func names(_ key: String) -> [String] {
            (table.strings(key) ?? []).enumerated().compactMap { index, text in
                if !text.isEmpty, DirectoryConfiguration.isName(text) { return text }
                table.fault(
                    "\(key)[\(index)]",
                    "\"\(text.escapedForMessage)\" is not the name of an entry; accepted: such as \"ou=people,dc=example,dc=com\""
                )
                return nil
            }
        }
        directory.bases = names("bases")
        directory.excludedBases = names("exclude_bases")
        directory.excludedFilter = filter(table, "exclude_filter")
        if let texts = table.strings("attributes") {
            if texts.isEmpty { table.fault("attributes", "names no attribute; accepted: such as [\"mail\"]") }
            directory.attributes = texts.enumerated().compactMap { index, text in
                attribute(table, "attributes[\(index)]", text)
            }
            if !directory.attributes.isEmpty { directory.useOwnFilter() }
        }
        if let text = filter(table, "filter") { directory.filter = text }
    }

    private func filter(_ table: ConfigurationTable, _ key: String) -> String? {
        guard let text = table.string(key) else { return nil }
        guard DirectoryConfiguration.isFilter(text) else {
            table.fault(
                key,
                "\"\(text.escapedForMessage)\" is not a search filter (RFC 4515); accepted: such as \"(&(objectClass=person)(mail=*))\""
            )
            return nil
        }
        return text
    }

    private func attribute(_ table: ConfigurationTable, _ key: String, _ text: String) -> String? {
        if DirectoryConfiguration.isAttribute(text) { return text }
        table.fault(key, "\"\(text.escapedForMessage)\" is not the name of an attribute; accepted: such as \"mail\"")
        return nil
    }

    private func readFlags(_ table: ConfigurationTable, _ directory: inout DirectoryConfiguration) {
        func conditions(_ key: String) -> [DirectoryConfiguration.Condition]? {
            table.stringOrStrings(key)?.compactMap { text in
                if let condition = DirectoryConfiguration.Condition(text) { return condition }
                table.fault(
                    key,
                    "\"\(text.escapedForMessage)\" tells nothing of an entry; accepted: an attribute that is true or false "
                        + "(\"nsAccountLock\"), with a value (\"employeeStatus=left\"), with any value (\"employeeType=*\"), a bit "
                        + "(\"userAccountControl&2\") or a date that has passed (\"accountExpires<now\"); or a list of these, of which "
                        + "one that holds is enough")
                return nil
            }
        }
        if table.isText("internal_only_attribute", "") {
            directory.internalOnly = []
        } else if let found = conditions("internal_only_attribute") {
            directory.internalOnly = found
        }
        if let found = conditions("disabled_attribute") { directory.disabled = found }
        if let treatment = table.boolOrWord("include_disabled", word: "mark") {
            directory.disabledTreatment = treatment.map { $0 ? .include : .exclude } ?? .mark
            if directory.disabledTreatment != .include, directory.disabled.isEmpty,
                !table.has("disabled_attribute")
            {
                table.fault(
                    "include_disabled",
                    "needs disabled_attribute: this kind of directory has no usual one; accepted: both or none")
            }
        }
    }

    private func readRelayDomains(_ table: ConfigurationTable, _ directory: inout DirectoryConfiguration) {
        let accepted = table.bool("accepted_domains") ?? false
        let name = table.string("relay_domains_attribute")
        let bases = (table.strings("relay_domains_bases") ?? [])
        let filter = filter(table, "relay_domains_filter")
        if accepted, directory.dialect != .activeDirectory {
            table.fault(
                "accepted_domains",
                "only Active Directory has accepted domains; accepted: relay_domains_attribute = \"associatedDomain\"")
        }
        if accepted, name != nil {
            table.fault("relay_domains_attribute", "stands beside accepted_domains = true; accepted: one of both")
        }
        for (key, isGiven) in [("relay_domains_bases", !bases.isEmpty), ("relay_domains_filter", filter != nil)]
        where isGiven && name == nil {
            table.fault(key, "is given without relay_domains_attribute; accepted: beside it")
        }
        for (index, text) in bases.enumerated() where text.isEmpty || !DirectoryConfiguration.isName(text) {
            table.fault(
                "relay_domains_bases[\(index)]",
                "\"\(text.escapedForMessage)\" is not the name of an entry; accepted: such as \"ou=domains,dc=example,dc=com\""
            )
        }
        if accepted { directory.relayDomains = .acceptedDomains }
        if let name = name.flatMap({ attribute(table, "relay_domains_attribute", $0) }) {
            directory.relayDomains = .attribute(name: name, bases: bases, filter: filter ?? "(\(name)=*)")
        }
    }

    private func readLogin(_ table: ConfigurationTable, _ directory: inout DirectoryConfiguration) {
        let name = table.string("bind_dn")
        let password = filePath(table, "password_file")
        let sasl = table.choice("sasl", ["gssapi": "gssapi", "external": "external"])
        let keytab = filePath(table, "keytab")
        if let name, let password {
            directory.login = .simple(dn: name, passwordFile: password)
        } else if name != nil, !table.has("password_file") {
            table.fault("bind_dn", "needs password_file; accepted: both or none")
        } else if password != nil, !table.has("bind_dn") {
            table.fault("password_file", "needs bind_dn; accepted: both or none")
        }
        if let name, name.isEmpty {
            table.fault("bind_dn", "is empty; accepted: the account's name, or no bind_dn at all")
        }
        if let sasl {
            if name != nil || password != nil {
                table.fault("sasl", "stands beside bind_dn or password_file; accepted: one kind of bind")
            }
            directory.login = sasl == "gssapi" ? .gssapi(keytab: keytab) : .external
        }
        if keytab != nil, sasl != "gssapi" { table.fault("keytab", "is for sasl = \"gssapi\"; accepted: beside it") }
    }

    private func readConnection(_ table: ConfigurationTable, _ directory: inout DirectoryConfiguration) {
        directory.startTLS = table.bool("starttls") ?? false
        directory.caFile = filePath(table, "ca_file")
        directory.verifiesCertificate = table.bool("verify_certificate") ?? true
        directory.allowsPlaintext = table.bool("allow_plaintext") ?? false
        if let timeout = table.duration("timeout", minimum: 1) { directory.timeout = timeout }
        if let size = table.integer("page_size", 1...100_000) { directory.pageSize = size }
        directory.followsReferrals = table.bool("follow_referrals") ?? false
        directory.push = table.bool("push") ?? true
        if let interval = table.duration("reconcile", minimum: 60) { directory.reconcileInterval = interval }
        switch directory.dialect {
        case .activeDirectory:
            if let way = table.choice(
                "incremental",
                ["auto": DirectoryConfiguration.Incremental.auto, "dirsync": .dirSync, "usn": .usn, "off": .off])
            {
                directory.incremental = way
            }
        case .openLDAP, .generic:
            if let way = table.choice(
                "incremental", ["auto": DirectoryConfiguration.Incremental.auto, "sync": .sync, "off": .off])
            {
                directory.incremental = way
            }
        }
    }

    /// No server tells what changes on another one.
    private func checkReferrals(_ table: ConfigurationTable, _ directory: DirectoryConfiguration) {
        guard directory.followsReferrals, directory.incremental != .auto, directory.incremental != .off else { return }
        table.fault(
            "follow_referrals",
            "doesn't go with incremental = \"\(directory.incremental.rawValue)\", which tells nothing of other servers; accepted: "
                + "one of both")
    }

    private func checkSecurity(_ table: ConfigurationTable, _ directory: DirectoryConfiguration) {
        for (index, uri) in directory.servers.enumerated() {
            let key = "uris[\(index)]"
            if case .simple = directory.login, uri.scheme == .ldap, !directory.startTLS, !directory.allowsPlaintext {
                table.fault(
                    key,
                    "\"\(uri)\" would carry the password in clear; accepted: ldaps://, or starttls = true, or allow_plaintext = true"
                )
            }
            if directory.startTLS, uri.scheme == .ldaps {
                table.fault("starttls", "\"\(uri)\" is encrypted from its first octet; accepted: starttls with ldap://")
            }
            if directory.login == .external, uri.scheme != .ldapi {
                table.fault(
                    key,
                    "\"\(uri)\" is no unix socket, through which alone sasl = \"external\" says who is asking; accepted: ldapi://"
                )
            }
        }
        if !directory.verifiesCertificate, directory.caFile != nil {
            table.fault("ca_file", "is of no use with verify_certificate = false; accepted: one of both")
        }
    }

    /// Says what protection of a connection has been turned off, and how to have it back.
    private func noticeTrust(_ source: SourceConfiguration, _ configuration: inout Configuration) {
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
                "source \"\(name)\": allow_plaintext = true: the password and the recipients cross the network unencrypted; "
                    + "use ldaps:// or starttls = true and remove allow_plaintext")
        } else {
            configuration.notices.append(
                "source \"\(name)\": allow_plaintext = true: no connection needs it now, and a later change of uris may send "
                    + "the password unencrypted; remove allow_plaintext")
        }
    }

    /// The Kerberos library takes its keys from one file for the whole process.
    private func checkKeytabs(_ tables: [ConfigurationTable], _ configuration: Configuration) {
        var first: String?
        for (index, source) in configuration.sync.sources.enumerated() {
            guard case .directory(let directory) = source.kind, case .gssapi(let keytab?) = directory.login else {
                continue
            }
            if let first, first != keytab {
                faults.add(
                    "source[\(index)].keytab",
                    "\"\(keytab)\" is another file than \"\(first)\"; accepted: one keytab with all keys")
            }
            first = first ?? keytab
        }
    }

    // MARK: Files

    /// Files that can't be read are told, and are no fault for those who go on with what they have.
    private func checkFiles(
        _ source: SourceConfiguration, _ table: ConfigurationTable, _ configuration: inout Configuration
    ) {
        for (key, path) in source.files {
            guard let reason = key == "command" ? programFault(path) : FileFault.reason(path) else { continue }
            configuration.sourceFaults.append(
                ConfigurationFault(
                    key: table.name(key), line: lines.line(of: table.name(key)),
                    message: "\"\(path)\" can't be \(key == "command" ? "run" : "read"): \(reason); accepted: a "
                        + (key == "command" ? "program" : "readable file")))
        }
        for (key, path) in source.files where key == "password_file" || key == "keytab" {
            var status = stat()
            guard stat(path, &status) == 0, status.st_mode & 0o077 != 0 else { continue }
            let mode = String(status.st_mode & 0o7777, radix: 8)
            configuration.notices.append(
                "\(table.name(key)): others than the owner may use \(path) (mode 0\(mode)): chmod 600 it")
        }
    }

    private func programFault(_ path: String) -> String? {
        if let reason = FileFault.reason(path), access(path, X_OK) != 0 { return reason }
        return access(path, X_OK) == 0 ? nil : String(cString: strerror(errno))
    }

    private func sourceDomains(_ table: ConfigurationTable, _ configuration: Configuration) -> Set<String>? {
        guard let texts = table.strings("domains") else { return nil }
        let known = Set(configuration.domains.map(\.name))
        return Set(
            texts.enumerated().compactMap { index, text in
                guard let name = try? DomainName(text).aLabel else {
                    table.fault("domains[\(index)]", "\"\(text)\" is not a domain name; accepted: a relay domain")
                    return nil
                }
                if !known.contains(name), !isBelowRelayDomain(name, configuration), !configuration.takesDomainsFromIndex
                {
                    table.fault(
                        "domains[\(index)]", "\"\(text)\" is not a relay domain; accepted: a domain of relay.domains")
                }
                return name
            })
    }
}

extension ConfigurationTable {
    /// Whether a source asks for relay domains too.
    var namesDomains: Bool { has("relay_domains_attribute") || isTrue("accepted_domains") }
}

extension SourceConfiguration {
    /// The files that it reads, by their keys.
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
