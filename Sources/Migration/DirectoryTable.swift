import RecipientSources

/// A table that asks a directory for one address at a time (ldap_table(5), Sendmail's LDAP maps, getadsmtp), from which a
/// source is made that reads all addresses.
struct DirectoryTable {
    /// The name in messages, such as `ldap:/etc/postfix/recipients.cf`.
    var origin: String
    /// Servers as hosts or URIs.
    var servers: [String] = []
    var port = 389
    var base = ""
    /// The search filter, with a placeholder for the address.
    var filter = ""
    /// The attributes of which the table returns values: an entry without any of them doesn't count.
    var resultAttributes: [String] = []
    /// The attributes with the addresses, where the filter has no placeholder.
    var attributes: [String] = []
    var bindDN = ""
    var password: String?
    /// `gssapi` or `external` instead of a password.
    var mechanism: String?
    var startTLS = false
    var caFile: String?
    /// Whether the server's certificate is checked.
    var verifiesCertificate = true
    var scope = "sub"
    /// The domains for which the table is asked; empty for all.
    var domains: [String] = []
    /// Whether the server is an Active Directory; nil to tell by the attributes.
    var isActiveDirectory: Bool?

    /// The placeholders that stand for the whole address.
    private static let placeholders: Set<String> = ["%s", "%u@%d", "%U@%D", "%0", "smtp:%s", "smtp:%0", "smtp:%u@%d"]
    private static let activeDirectoryAttributes: Set<String> = [
        "proxyaddresses", "samaccountname", "userprincipalname", "objectcategory", "mailnickname", "useraccountcontrol",
        "homemdb", "msexchhomeservername", "targetaddress", "msexchrecipienttypedetails",
    ]

    /// Adds the source to a configuration, or an open question if the table can't be translated.
    func add(to configuration: inout MigratedConfiguration, name: String) {
        let search: (filter: String?, attributes: [String])
        switch translated() {
        case .failure(let reason):
            return configuration.ask(
                "\(origin): \(reason.text), so that Postern can't read its recipients: write a [[source]] by hand "
                    + "(\"postern config sample\" has one).")
        case .success(let found): search = found
        }
        let uris = servers.flatMap(uris)
        guard !uris.isEmpty else {
            return configuration.ask("\(origin): it names no server, so that it is not taken over.")
        }
        let isActiveDirectory = isActiveDirectory ?? usesActiveDirectory(search.attributes)
        var source = MigratedConfiguration.Source(
            name: name, type: isActiveDirectory ? "active-directory" : "openldap", comments: ["From \(origin)."])
        source.keys.append(("uris", .strings(uris)))
        if !base.isEmpty { source.keys.append(("bases", .strings([base]))) }
        if let filter = search.filter { source.keys.append(("filter", .string(filter))) }
        source.keys.append(("attributes", .strings(search.attributes)))
        addLogin(to: &source, &configuration, uris)
        addTLS(to: &source, &configuration, uris)
        if isActiveDirectory {
            source.comments.append(
                "internal_only_attribute = \"\" accepts recipients that Exchange keeps for authenticated senders, as now. Without "
                    + "the line Postern rejects strangers' mail to them.")
            source.keys.append(("internal_only_attribute", .string("")))
        }
        let own = domains.filter(configuration.relays)
        if !own.isEmpty { source.keys.append(("domains", .strings(own))) }
        if !domains.isEmpty, own.isEmpty { configuration.note("\(origin) is for domains that aren't relay domains.") }
        if scope != "sub" {
            configuration.ask(
                "\(origin) searches with the scope \"\(scope)\"; Postern searches all entries below the base. Check with "
                    + "\"postern sync --dry-run\" that it finds no more recipients than you want.")
        }
        configuration.add(source)
    }

    /// Whether the attributes are those of Active Directory.
    private func usesActiveDirectory(_ attributes: [String]) -> Bool {
        let names = attributes + filter.lowercased().split { "()=&|! ".contains($0) }.map(String.init)
        return names.contains { Self.activeDirectoryAttributes.contains($0.lowercased()) }
    }

    private func addLogin(
        to source: inout MigratedConfiguration.Source, _ configuration: inout MigratedConfiguration, _ uris: [String]
    ) {
        if let mechanism {
            source.keys.append(("sasl", .string(mechanism)))
        } else if !bindDN.isEmpty, let password, !password.isEmpty {
            source.keys.append(("bind_dn", .string(bindDN)))
            let file = configuration.addSecret(password, name: source.name, origin: origin)
            source.keys.append(("password_file", .secret(file)))
            if !startTLS, uris.contains(where: { $0.hasPrefix("ldap://") }) {
                source.keys.append(("allow_plaintext", .boolean(true)))
                configuration.ask(
                    "\(origin): the password of \(bindDN) crosses the network unencrypted, as now (allow_plaintext = true in the "
                        + "source \"\(source.name)\"). Use ldaps:// or starttls = true, if the server has a certificate."
                )
            }
        } else if !bindDN.isEmpty {
            configuration.ask(
                "\(origin): the account \(bindDN) has no password there; the source \"\(source.name)\" reads anonymously. To read "
                    + "as that account, add bind_dn and password_file.")
        }
    }

    private func addTLS(
        to source: inout MigratedConfiguration.Source, _ configuration: inout MigratedConfiguration, _ uris: [String]
    ) {
        if startTLS { source.keys.append(("starttls", .boolean(true))) }
        if let caFile { source.keys.append(("ca_file", .string(caFile))) }
        if !verifiesCertificate, startTLS || uris.contains(where: { $0.hasPrefix("ldaps:") }) {
            source.keys.append(("verify_certificate", .boolean(false)))
            configuration.ask(
                "\(origin): the server's certificate isn't checked, as now (verify_certificate = false in the source "
                    + "\"\(source.name)\"): name its certificate authority in ca_file and remove the line.")
        }
    }

    /// The URIs of one word of the setting that names the servers.
    private func uris(_ server: String) -> [String] {
        if server.contains("://") {
            return LDAPURI(server) == nil ? [] : [server.hasSuffix("/") ? String(server.dropLast()) : server]
        }
        let hasPort = server.contains(":") && !server.hasSuffix("]")
        let uri = hasPort || port == 389 ? "ldap://\(server)" : "\(port == 636 ? "ldaps" : "ldap")://\(server):\(port)"
        return LDAPURI(uri) == nil ? [] : [uri]
    }

    // MARK: The filter

    struct Reason: Error {
        var text: String
    }

    /// The filter for all entries and the attributes with the addresses.
    func translated() -> Result<(filter: String?, attributes: [String]), Reason> {
        do throws(Reason) {
            if base.contains("%") { throw Reason(text: "its search base depends on the address (\(base))") }
            let text = filter.trimmingWhitespace
            guard let node = SearchFilter(text.hasPrefix("(") ? text : "(\(text))") else {
                throw Reason(text: "its search filter can't be read: \(filter)")
            }
            var found: [String] = []
            let all = try translate(node, isNegated: false, &found)
            var addresses: [String] = []
            for name in found + attributes where !addresses.contains(where: { $0.lowercased() == name.lowercased() }) {
                addresses.append(name)
            }
            guard !addresses.isEmpty else {
                throw Reason(text: "its search filter doesn't compare an attribute with the whole address (\(filter))")
            }
            var filter = all
            let isImplied = resultAttributes.contains { name in
                addresses.count == 1 && addresses[0].lowercased() == name.lowercased()
            }
            if !resultAttributes.isEmpty, !isImplied {
                let present = resultAttributes.map { SearchFilter.item("\($0)=*") }
                let any = present.count == 1 ? present[0] : .any(present)
                filter = .all([filter, any])
            }
            let written = filter.description
            guard DirectoryConfiguration.isFilter(written) else {
                throw Reason(text: "its search filter is malformed: \(self.filter)")
            }
            let isDefault = addresses.count == 1 && written == "(\(addresses[0])=*)"
            return .success((isDefault ? nil : written, addresses))
        } catch {
            return .failure(error)
        }
    }

    /// The node for all addresses instead of one.
    private func translate(
        _ node: SearchFilter, isNegated: Bool, _ found: inout [String]
    ) throws(Reason) -> SearchFilter {
        switch node {
        case .all(let nodes), .any(let nodes):
            var parts: [SearchFilter] = []
            for node in nodes {
                let part = try translate(node, isNegated: isNegated, &found)
                // (mail=%s) and (mail=smtp:%s) become the same.
                if !parts.contains(where: { $0.description == part.description }) { parts.append(part) }
            }
            if parts.count == 1 { return parts[0] }
            if case .all = node { return .all(parts) }
            return .any(parts)
        case .not(let node): return .not(try translate(node, isNegated: true, &found))
        case .item(let text):
            guard text.contains("%") else { return node }
            guard let sign = text.firstIndex(of: "="), !isNegated,
                Self.placeholders.contains(String(text[text.index(after: sign)...]).lowercasedPrefix)
            else {
                throw Reason(text: "its search filter has (\(text)), which isn't the whole address")
            }
            let name = String(text[..<sign]).trimmingWhitespace
            guard DirectoryConfiguration.isAttribute(name) else {
                throw Reason(text: "its search filter compares (\(text)) otherwise than by equality")
            }
            found.append(name)
            return .item("\(name)=*")
        }
    }
}

extension String {
    fileprivate var trimmingWhitespace: String {
        String(drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }

    /// The text with the prefix `smtp:` in lower case.
    fileprivate var lowercasedPrefix: String {
        lowercased().hasPrefix("smtp:") ? "smtp:" + dropFirst("smtp:".count) : self
    }
}

/// A search filter (RFC 4515) in its parts.
indirect enum SearchFilter: CustomStringConvertible {
    case all([SearchFilter])
    case any([SearchFilter])
    case not(SearchFilter)
    /// `attribute=value` or another comparison, without its parentheses.
    case item(String)

    /// The deepest nesting that is read.
    private static let deepest = 100

    /// Reads a filter; white space between its parts is passed over. Nil for a malformed filter.
    init?(_ text: String) {
        var rest = Substring(text)
        guard let filter = Self.parse(&rest, depth: 0), rest.allSatisfy(\.isWhitespace) else { return nil }
        self = filter
    }

    private static func parse(_ rest: inout Substring, depth: Int) -> SearchFilter? {
        guard depth < deepest else { return nil }
        rest = rest.drop(while: \.isWhitespace)
        guard rest.popFirst() == "(" else { return nil }
        rest = rest.drop(while: \.isWhitespace)
        if let sign = rest.first, "&|!".contains(sign) {
            rest = rest.dropFirst()
            var parts: [SearchFilter] = []
            while true {
                rest = rest.drop(while: \.isWhitespace)
                if rest.first == ")" {
                    rest = rest.dropFirst()
                    break
                }
                guard let part = parse(&rest, depth: depth + 1) else { return nil }
                parts.append(part)
            }
            guard let first = parts.first else { return nil }
            switch sign {
            case "&": return .all(parts)
            case "|": return .any(parts)
            default: return parts.count == 1 ? .not(first) : nil
            }
        }
        let item = rest.prefix { $0 != ")" && $0 != "(" }
        rest = rest.dropFirst(item.count)
        guard rest.popFirst() == ")", item.contains("="), !item.hasPrefix("=") else { return nil }
        return .item(String(item))
    }

    var description: String {
        switch self {
        case .all(let parts): "(&\(parts.map(\.description).joined()))"
        case .any(let parts): "(|\(parts.map(\.description).joined()))"
        case .not(let part): "(!\(part))"
        case .item(let text): "(\(text))"
        }
    }
}
