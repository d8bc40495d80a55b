import Foundation
import MailAddress
import RecipientSources
import System

/// What the program that migrates can do: it decides what is written and what becomes an open question.
public struct MigrationAbilities: Sendable {
    /// The values of `type` in `[[source]]` that Postern knows.
    public var sourceTypes: Set<String>
    /// Why a regular expression can't be used in `recipients.patterns`; nil if it can.
    public var patternFault: @Sendable (String) -> String?

    /// - Parameter patternFault: why an expression can't be used, as a clause after "it"; nil if it can.
    public init(sourceTypes: Set<String>, patternFault: @escaping @Sendable (String) -> String?) {
        self.sourceTypes = sourceTypes
        self.patternFault = patternFault
    }
}

/// Reads a live Postfix configuration through postconf(1).
public struct PostfixReader {
    let settings: PostfixSettings
    let abilities: MigrationAbilities
    var result: MigratedConfiguration
    /// Sources that take the place of tables, by the tables' paths: a directory whose copy the table is.
    var replacements: [String: (DirectoryTable, String)] = [:]

    /// Reads the settings from main.cf and master.cf.
    ///
    /// - Parameters:
    ///   - folder: the folder of main.cf.
    ///   - socket: where Postfix asks Postern; nil to choose the usual place.
    public init(folder: String, socket: String?, abilities: MigrationAbilities) throws(MigrationError) {
        try self.init(PostfixSettings.read(folder), socket: socket, abilities: abilities)
    }

    init(_ settings: PostfixSettings, socket: String?, abilities: MigrationAbilities) throws(MigrationError) {
        self.settings = settings
        self.abilities = abilities
        result = MigratedConfiguration(origin: "Postfix in \(settings.folder)")
        if let socket {
            result.socket = socket
        } else if let chrooted = settings.smtpServices.first(where: settings.isChrooted) {
            let queue = settings["queue_directory"]
            result.socket = "unix:\(queue)/postern/milter.sock"
            result.note(
                "\(chrooted.name) runs chrooted in \(queue), so Postern's socket must be below it.")
            result.preparations.append("install -d -o postern -g postfix -m 2750 \(queue)/postern")
        } else {
            result.preparations.append(
                "install -d -o postern -g postfix -m 2750 /run/postern    # Postern's package and systemd unit make it, too"
            )
        }
    }

    /// The migrated configuration.
    ///
    /// - Parameter origin: what it was read from; nil for the folder of main.cf.
    public mutating func read(origin: String? = nil) throws(MigrationError) -> MigratedConfiguration {
        if let origin { result.origin = origin }
        result.delimiter = settings["recipient_delimiter"]
        result.subdomains = settings["parent_domain_matches_subdomains"].contains("relay_domains")
        result.note(
            "Postern accepts postmaster and abuse in every relay domain (recipients.always); Postfix treats them as any recipient."
        )
        try readDomains()
        try readRecipients()
        readTransports()
        try readNetworks()
        try readRestrictions()
        readMilters()
        guard !result.domains.isEmpty else {
            throw MigrationError(
                .data,
                (["\(settings.folder)/main.cf: no relay domain was found, so Postern would have nothing to do"]
                    + result.questions).joined(separator: "; "))
        }
        return result
    }

    // MARK: Domains

    private mutating func readDomains() throws(MigrationError) {
        try addDomains(of: "relay_domains")
        let relayed = result.domains.map(\.name)
        if settings["relay_recipient_maps"].isEmpty {
            for domain in relayed {
                result.acceptAll(
                    in: domain,
                    because:
                        "OPEN QUESTION: \(domain) is relayed without any list of recipients (relay_recipient_maps is empty), so "
                        + "every recipient is accepted, as now. Add a source for it, then remove this table.")
            }
            if !relayed.isEmpty {
                result.ask(
                    "relay_recipient_maps is empty: \(Self.names(relayed)) \(relayed.count == 1 ? "is" : "are") relayed without any list of "
                        + "recipients, and accept every recipient, as now. Where are their recipients listed? Add a [[source]] and remove "
                        + "catch_all.")
            }
        }
        let others = [
            ("mydestination", "local_recipient_maps"), ("virtual_mailbox_domains", "virtual_mailbox_maps"),
            ("virtual_alias_domains", "virtual_alias_maps"),
        ]
        for (setting, list) in others {
            let before = Set(result.domains.map(\.name))
            try addDomains(of: setting)
            let added = result.domains.map(\.name).filter { !before.contains($0) }
            guard !added.isEmpty else { continue }
            result.note(
                "\(Self.names(added)) (\(setting)): domains that Postfix delivers itself are relay domains of Postern, too, as it rejects mail "
                    + "to all others.")
            guard setting != "virtual_alias_domains" else { continue }
            if setting == "virtual_mailbox_domains", isListable(settings[list]) { continue }
            for domain in added {
                result.acceptAll(
                    in: domain,
                    because: settings[list].isEmpty
                        ? "Postfix accepts every recipient here (\(list) is empty)."
                        : "Postfix delivers this domain itself, and rejects its unknown recipients before it asks Postern (\(list))."
                )
            }
        }
    }

    /// A few names, and how many more there are.
    private static func names(_ domains: [String]) -> String {
        let shown = domains.prefix(5).joined(separator: ", ")
        return domains.count > 5 ? "\(shown) and \(domains.count - 5) more" : shown
    }

    /// Whether a setting names tables all of which become sources.
    private func isListable(_ value: String) -> Bool {
        let maps = PostfixMap.list(value, defaultType: defaultType)
        return !maps.isEmpty
            && maps.allSatisfy {
                PostfixMap.indexed[$0.type] != nil || ["texthash", "ldap", "inline"].contains($0.type)
            }
    }

    var defaultType: String { settings["default_database_type"].isEmpty ? "hash" : settings["default_database_type"] }

    /// Adds the domains of a setting that is a list of domains, files and tables.
    private mutating func addDomains(of setting: String) throws(MigrationError) {
        for token in PostfixMap.tokens(settings[setting]) { try addDomains(token, setting, depth: 0) }
    }

    private mutating func addDomains(_ token: String, _ setting: String, depth: Int) throws(MigrationError) {
        if token.hasPrefix("!") {
            result.ask("\(setting): the exclusion \(token) has no counterpart: leave its domain out of relay.domains.")
        } else if token.hasPrefix("/") {
            guard depth < 5 else { return }
            let text = try TextFile.read(token, namedBy: setting)
            let words = TextFile.logicalLines(text).map { PostfixMap.tokens($0.text) }
            if words.allSatisfy({
                $0.count == 1 && !$0[0].contains(":") && !$0[0].hasPrefix("/") && !$0[0].hasPrefix("!")
            }),
                let names = try? parseDomainTable(path: token), !names.isEmpty
            {
                return result.addDomainTable(token, names, origin: "\(setting) (\(token))")
            }
            for word in words.joined() { try addDomains(word, setting, depth: depth + 1) }
        } else if token.contains(":"), !token.hasPrefix("[") {
            try addDomains(PostfixMap(token, defaultType: defaultType), setting)
        } else {
            result.addDomain(token, origin: setting)
        }
    }

    private mutating func addDomains(_ map: PostfixMap, _ setting: String) throws(MigrationError) {
        let origin = "\(setting) (\(map))"
        switch map.type {
        case "inline":
            for entry in map.inlineEntries { result.addDomain(entry.key, origin: origin) }
        case "unionmap", "randmap":
            for part in map.parts { try addDomains(PostfixMap(part, defaultType: defaultType), setting) }
        case _ where PostfixMap.indexed[map.type] != nil || map.type == "texthash":
            let table = try TableContent(map, namedBy: setting, in: settings)
            if table.file != nil, !names(map, in: "virtual_alias_maps") {
                let isTransport = names(map, in: "transport_maps")
                if let names = try? parseDomainTable(path: map.name, format: isTransport ? .transport : .domains),
                    !names.isEmpty
                {
                    return result.addDomainTable((isTransport ? "transport:" : "") + map.name, names, origin: origin)
                }
            }
            let names = table.entries.map(\.key).filter { $0.contains(".") && !$0.contains("@") }
            for name in names { result.addDomain(name, origin: origin) }
            if !names.isEmpty {
                result.note(
                    "The domains of \(origin) are listed in relay.domains as they are today: a domain that is added to the table later must be "
                        + "added there, too.")
            }
        default:
            result.ask(
                "\(origin): the domains in tables of the type \"\(map.type)\" can't be listed: write them into relay.domains"
                    + (map.type == "ldap" ? ", or read them from the directory with relay_domains_attribute." : "."))
        }
    }

    /// Whether a setting names a table with the same path.
    private func names(_ map: PostfixMap, in setting: String) -> Bool {
        PostfixMap.list(settings[setting], defaultType: defaultType).contains { $0.name == map.name }
    }

    // MARK: Transports and milters

    private mutating func readTransports() {
        for map in PostfixMap.list(settings["transport_maps"], defaultType: defaultType) {
            guard let table = try? TableContent(map, namedBy: "transport_maps", in: settings) else { continue }
            let routed = table.entries.filter { entry in
                entry.key != "*" && !entry.key.contains("@") && !entry.value.lowercased().hasPrefix("error:")
            }.map { $0.key.lowercased() }
            // An entry with a leading dot is for sub-domains.
            let foreign = routed.filter { !result.relays($0.hasPrefix(".") ? "any\($0)" : $0) }
            guard !foreign.isEmpty else { continue }
            result.note(
                "transport_maps (\(map)) routes mail for \(Self.names(foreign)), which Postfix doesn't relay for strangers "
                    + "(not in relay_domains): Postern doesn't either.")
        }
    }

    private mutating func readMilters() {
        var change = MTAChange(
            file: "\(settings.folder)/main.cf",
            reload: settings.folder == "/etc/postfix" ? "postfix reload" : "postfix -c \(settings.folder) reload")
        let present = PostfixMap.tokens(settings["smtpd_milters"])
        let socket = mainSocket
        let isPresent = present.contains { $0.contains(socket) || $0.contains(result.socket) }
        func value(_ action: String) -> String {
            let own =
                settings.version.major >= 3 ? "{ \(socket), default_action=\(action), connect_timeout=5s }" : socket
            return ([own] + present.filter { !$0.contains(socket) && !$0.contains(result.socket) }).joined(
                separator: ", ")
        }
        if isPresent {
            result.note("smtpd_milters names Postern's socket already: \(settings["smtpd_milters"]).")
        } else {
            change.settings.append(.init(name: "smtpd_milters", value: value("accept")))
            if settings.version.major < 3 {
                change.settings.append(.init(name: "milter_default_action", value: "accept"))
            }
            result.note(
                "While Postern observes, Postfix accepts mail if Postern is down (default_action=accept): its own tables still decide. "
                    + "Once Postern decides alone, mail must wait instead (default_action=tempfail).")
        }
        change.later.append("smtpd_milters = \(value("tempfail"))")
        if settings.version.major < 3 { change.later.append("milter_default_action = tempfail") }
        if !settings["relay_recipient_maps"].isEmpty { change.later.append("relay_recipient_maps =") }
        if !present.isEmpty, !isPresent {
            result.note(
                "smtpd_milters names other milters (\(settings["smtpd_milters"])): they stay, after Postern, which needs the envelope only."
            )
        }
        readOtherServices(&change, isPresent: isPresent)
        result.change = change
    }

    /// The socket as main.cf names it: relative to the queue's folder where that is Postfix's root.
    private var mainSocket: String {
        let inQueue = "unix:\(settings["queue_directory"])/"
        if result.socket.hasPrefix(inQueue) { return "unix:" + result.socket.dropFirst(inQueue.count) }
        // Postfix writes inet:host:port, libmilter inet:port@host.
        for family in ["inet:", "inet6:"] where result.socket.hasPrefix(family) {
            let parts = result.socket.dropFirst(family.count).split(separator: "@", maxSplits: 1)
            if parts.count == 2 {
                return "inet:\(parts[1].contains(":") ? "[\(parts[1])]" : "\(parts[1])"):\(parts[0])"
            }
        }
        return result.socket
    }

    private mutating func readOtherServices(_ change: inout MTAChange, isPresent: Bool) {
        let local = settings.given["non_smtpd_milters"] ?? ""
        let inherits = /\$(smtpd_milters\b|\{smtpd_milters\}|\(smtpd_milters\))/
        if local.contains(inherits) {
            let former = isPresent ? "" : settings.given["smtpd_milters"] ?? ""
            let value = local.replacing(inherits, with: former).trimmingCharacters(in: CharacterSet(charactersIn: ", "))
            change.settings.append(.init(name: "non_smtpd_milters", value: value))
            result.note(
                "non_smtpd_milters is \(local): Postfix would ask Postern about mail of local programs and about bounces, can't reject "
                    + "these, and would try them again for days. The change names the other milters there, without Postern."
            )
        } else if settings["non_smtpd_milters"].contains(mainSocket) {
            result.ask(
                "non_smtpd_milters names Postern's socket: remove it there; Postfix can't reject mail of local programs."
            )
        }
        for service in settings.smtpServices {
            if let milters = service.options["smtpd_milters"] {
                result.ask(
                    "master.cf: the service \(service.name) has smtpd_milters of its own (\(milters.isEmpty ? "none" : milters)), so Postfix "
                        + "doesn't ask Postern there. That is right for submission; a port for strangers needs Postern."
                )
            }
            if service.options["receive_override_options"]?.contains("no_milters") == true {
                result.note(
                    "master.cf: the service \(service.name) asks no milters (no_milters), so Postern isn't asked there."
                )
            }
        }
        let own: Set = [
            "mynetworks", "recipient_delimiter", "relay_domains", "relay_recipient_maps",
            "smtpd_recipient_restrictions",
            "smtpd_relay_restrictions", "virtual_alias_maps", "virtual_mailbox_maps",
        ]
        for service in settings.smtpServices {
            let names = service.options.keys.filter(own.contains).sorted()
            guard !names.isEmpty else { continue }
            result.ask(
                "master.cf: the service \(service.name) has values of its own for \(names.joined(separator: ", ")); this migration took those of "
                    + "main.cf. Compare them, if strangers' mail comes in there.")
        }
        if !settings["smtpd_restriction_classes"].isEmpty {
            result.ask(
                "smtpd_restriction_classes (\(settings["smtpd_restriction_classes"])): restrictions in classes were not read. They stay in Postfix "
                    + "and act before Postern.")
        }
        if settings.smtpServices.isEmpty {
            result.ask(
                "\(settings.folder)/master.cf has no smtpd service: Postfix receives no mail by SMTP, and never asks Postern."
            )
        }
    }
}
