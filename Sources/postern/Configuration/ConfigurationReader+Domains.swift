import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RecipientSources
import System

/// The relay domains: `[relay]`, the tables that it names, and `[[domain]]`.
extension ConfigurationReader {
    mutating func readRelay(_ table: ConfigurationTable<RelayKeys>) {
        configuration.policy.subdomains = table.value(\.subdomains)
        configuration.policy.trustAuthenticated = table.value(\.trustAuthenticated)
        configuration.policy.trustedNetworks = table.value(\.trustedNetworks)
        configuration.relaysIndexDomains =
            table.value(\.domainsFromIndex) || sources.contains(where: \.namesRelayDomains)
        var seen: Set<String> = []
        func add(_ name: String, _ key: String) {
            guard seen.insert(name).inserted else { return }
            configuration.domains.append(.init(name: name, key: key, rules: configuration.rules))
        }
        for domain in table.value(\.domains) { add(domain.name, "relay.domains") }
        for element in table.value(\.domainsFrom) {
            let given = element.value
            configuration.stamps.append(ConfigurationStamp(given.path))
            let names: [String]
            do {
                names = try parseDomainTable(path: given.path, format: given.format)
            } catch {
                names = acceptedDomains(of: [given.path])
                guard !names.isEmpty else {
                    context.fault(element.key, "\(error)")
                    continue
                }
                // Mail for these domains isn't rejected because a table can't be read.
                configuration.sourceFaults.append(
                    context.makeFault(
                        element.key,
                        "\(error); the \(Words.count(names.count, "relay domain")) that it listed at the last sync stay"
                    ))
            }
            for name in names { add(name, "relay.domains_from (\(given.text))") }
            configuration.relayTables[given.path, default: []] += names
        }
    }

    /// The relay domains that these tables listed when a sync last accepted them, from the index; none where this
    /// configuration has no sources, and so no sync that guards the tables.
    private func acceptedDomains(of paths: Set<String>) -> [String] {
        guard !sources.isEmpty, !paths.isEmpty, let info = try? IndexInfo(path: configuration.index.path) else {
            return []
        }
        return info.sources.filter { $0.isRelayTable && paths.contains($0.name) }.flatMap(\.relayDomains).map(\.name)
    }

    mutating func readDomains(_ tables: [ConfigurationTable<DomainKeys>]) {
        var seen: Set<String> = []
        let listed = Set(configuration.domains.map(\.name))
        let domains = tables.map { ($0, $0.given(\.name)) }
        // The table of a domain with its sub-domains may stand after those of its sub-domains.
        let ordered =
            domains.filter { $0.1.map { listed.contains($0.name) } == true }
            + domains.filter { $0.1.map { listed.contains($0.name) } != true }
        for (table, domain) in ordered {
            var rules = configuration.rules
            readRules(table.part(\.rules), &rules)
            readForm(table.part(\.form), &rules)
            if let catchAll = table.given(\.catchAll) { rules.catchAll = catchAll }
            readAlias(table, &rules)
            if let subdomains = table.given(\.subdomains) { rules.subdomains = subdomains }
            rules.replies = readReplies(table.value(\.replies))
            let blocked = table.value(\.blocked)
            guard let domain else { continue }
            readBlocked(blocked, in: domain.name, &rules)
            guard seen.insert(domain.name).inserted else {
                table.fault(\.name, "\"\(domain.text)\" has a [[domain]] already; accepted: one for each domain")
                continue
            }
            add(rules, of: domain, table)
        }
    }

    /// Puts the rules of a `[[domain]]` in force.
    private mutating func add(
        _ rules: DomainSettings, of domain: ConfiguredDomain, _ table: ConfigurationTable<DomainKeys>
    ) {
        let name = domain.name
        if let position = configuration.domains.firstIndex(where: { $0.name == name }) {
            configuration.domains[position].rules = rules
        } else if configuration.isBelowRelayDomain(name) {
            configuration.domains.append(.init(name: name, key: table.path(of: "name"), rules: rules))
        } else if configuration.relaysIndexDomains
            || acceptedDomains(of: Set(configuration.relayTables.keys)).contains(name)
        {
            configuration.rulesOfIndexDomains[name] = rules
        } else {
            let known = configuration.domains.prefix(5).map(\.name).joined(separator: ", ")
            table.fault(
                \.name,
                "\"\(domain.text)\" is not a relay domain; accepted: a domain of relay.domains or relay.domains_from"
                    + (known.isEmpty ? "" : " (\(known)\(configuration.domains.count > 5 ? ", …" : ""))"))
        }
    }

    /// Reads `alias_of`. Whether its domains are relay domains is checked when all domains have been read.
    private func readAlias(_ table: ConfigurationTable<DomainKeys>, _ rules: inout DomainSettings) {
        guard let target = table.given(\.aliasOf)?.name else { return }
        if table.given(\.catchAll) == true {
            table.fault(
                \.catchAll,
                "can't be combined with alias_of, which decides for every recipient; accepted: one of the two")
        }
        if table.given(\.name)?.name.hasPrefix(".") == true {
            table.fault(
                \.aliasOf,
                "can't be set for sub-domains (\".example.com\"); accepted: alias_of in the [[domain]] of a single domain"
            )
        }
        let rulesOfTarget = table.keys.rules.all.map(\.name).filter { $0 != "mode" }
        for key in rulesOfTarget + ["delimiter", "replies"] where table.has(key) {
            table.fault(key, "has no effect beside alias_of: set it for \(target), whose rules hold")
        }
        rules.aliasOf = target
        rules.hasOwnMode = table.part(\.rules).has(\.mode)
    }

    /// Reads a domain's own blocked recipients: local parts, or addresses in the domain or in its sub-domains.
    private mutating func readBlocked(
        _ elements: [ListElement<String>], in domain: String, _ rules: inout DomainSettings
    ) {
        for element in elements {
            let text = element.value
            let address = try? RecipientAddress(path: text.contains("@") ? text : "\(text)@\(domain.trimmingDot)")
            if let address, !text.contains("@") || address.domain == domain {
                rules.blocked.append(address.localPart)
            } else if let address, address.domain.hasSuffix(".\(domain.trimmingDot)") {
                configuration.policy.blocked.append(address.key)
            } else {
                context.fault(
                    element.key,
                    "\"\(text.escapedForMessage)\" is not a recipient of \(domain); accepted: a local part, such as "
                        + "\"old-list\", or an address in this domain")
            }
        }
    }

    // MARK: Checks that need all domains

    /// Reports a configuration that relays no domain at all: a fault, or in observe mode, in which nothing is rejected, a notice.
    mutating func checkDomains() {
        guard configuration.domains.isEmpty, !configuration.relaysIndexDomains,
            acceptedDomains(of: Set(configuration.relayTables.keys)).isEmpty,
            context.faults.allSatisfy({ $0.key?.hasPrefix("relay.domains") != true })
        else { return }
        guard !configuration.rules.observe else {
            configuration.notices.append(
                "relay.domains: there is no relay domain yet; in enforce mode Postern would reject all mail")
            return
        }
        context.fault(
            "relay.domains",
            "there is no relay domain, so Postern would reject all mail; accepted: at least one domain here or in a "
                + "table of relay.domains_from, or a source with accepted_domains or relay_domains_attribute")
    }

    /// Reports canaries that no source may list.
    func checkCanaries() {
        guard !configuration.relaysIndexDomains else { return }
        for canary in configuration.sync.canaries {
            guard let at = canary.lastIndex(of: "@") else { continue }
            guard !configuration.isRelayDomain(String(canary[canary.index(after: at)...])) else { continue }
            context.fault(
                "sync.canaries",
                "\"\(canary.escapedForMessage)\" is in no relay domain, so no source can list it; accepted: a "
                    + "recipient in a relay domain")
        }
    }

    /// Reports aliases of domains that aren't relayed, and aliases that lead back to themselves.
    func checkAliases() {
        for domain in configuration.domains {
            guard let target = domain.rules.aliasOf else { continue }
            let key = aliasKey(of: domain.name)
            if !configuration.relaysIndexDomains, !configuration.isRelayDomain(target) {
                context.fault(
                    key,
                    "\"\(target)\" is not a relay domain; accepted: a domain of relay.domains or relay.domains_from")
            }
            let chain = configuration.aliasChain(of: domain.name)
            if chain.last == domain.name {
                context.fault(
                    key,
                    "leads back to the domain itself (\(chain.joined(separator: " → "))); accepted: a domain that is "
                        + "not an alias, or whose aliases end at one")
            } else if chain.count > Policy.longestAliasChain {
                context.fault(
                    key,
                    "begins a chain of more than \(Policy.longestAliasChain) aliases; accepted: the domain at its end")
            }
        }
    }

    /// The key that makes a domain an alias, such as `domain[0].alias_of`.
    private func aliasKey(of domain: String) -> String {
        context.lines.domainTables(named: domain).map { "\($0).alias_of" }
            .first { context.lines.exactLine(of: $0) != nil } ?? "domain.alias_of"
    }
}
