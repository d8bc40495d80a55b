import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RecipientSources
import System

/// The relay domains: `[relay]`, the tables that it names, and `[[domain]]`.
extension ConfigurationReader {
    /// The relay domains that tables of the configuration listed when a sync last accepted them, by the index; none where no sync of this
    /// configuration guards them.
    private func acceptedDomains(of paths: Set<String>, isSynced: Bool, _ configuration: Configuration) -> [String] {
        guard isSynced, !paths.isEmpty, let info = try? IndexInfo(path: configuration.index.path) else { return [] }
        return info.sources.filter { $0.isRelayTable && paths.contains($0.name) }.flatMap(\.relayDomains).map(\.name)
    }

    /// - Parameter isSynced: whether there are sources, and so a sync that guards the tables.
    func readRelay(_ table: ConfigurationTable, isSynced: Bool, _ configuration: inout Configuration) {
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

    func readNetworks(
        _ table: ConfigurationTable, _ key: String, _ otherwise: [String] = []
    ) -> [IPNetwork] {
        (table.strings(key) ?? otherwise).enumerated().compactMap { index, text in
            do {
                return try IPNetwork(text)
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
    func checkDomains(_ configuration: Configuration) {
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

    func readDomains(_ tables: [ConfigurationTable], isSynced: Bool, _ configuration: inout Configuration) {
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
    func checkCanaries(_ configuration: Configuration) {
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
    func checkAliases(_ configuration: Configuration) {
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
}
