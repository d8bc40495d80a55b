import MailAddress

/// What a migration has found: the parts of Postern's configuration, the secrets, the changes of the MTA's configuration,
/// and everything that a person must decide.
public struct MigratedConfiguration: Sendable {
    /// What the configuration was read from, such as `Postfix in /etc/postfix`.
    public internal(set) var origin: String
    /// Where the MTA asks Postern.
    public var socket = "unix:/run/postern/milter.sock"
    /// The relay domains in the order in which they were found.
    public private(set) var domains: [Domain] = []
    /// Tables of relay domains, as `relay.domains_from` has them.
    public private(set) var domainTables: [String] = []
    /// Whether the sub-domains of relay domains are relay domains too.
    public var subdomains = false
    /// The networks whose clients may relay.
    public var trustedNetworks = ["127.0.0.0/8", "::1/128"]
    /// Whether clients that have logged in may relay.
    public var trustsAuthenticated = true
    /// The characters that begin a detail.
    public var delimiter = "+"
    /// The local parts that every relay domain accepts.
    public var always = ["postmaster", "abuse"]
    /// Recipients that are rejected whatever the sources list.
    public private(set) var blocked: [String] = []
    /// Regular expressions that accept or block.
    public private(set) var patterns: [Pattern] = []
    /// Where the recipients come from.
    public private(set) var sources: [Source] = []
    /// Passwords, for files of their own.
    public private(set) var secrets: [Secret] = []
    /// What differs from now, a sentence each.
    public private(set) var differences: [String] = []
    /// What a person must decide or do, a sentence or two each.
    public private(set) var questions: [String] = []
    /// The changes of the MTA's configuration; nil where none is known.
    public var change: MTAChange?
    /// Commands to run once, such as those that make the socket's folder, with their reasons.
    public var preparations: [String] = []

    /// A relay domain.
    public struct Domain: Sendable, Equatable {
        /// As A-label, with a leading dot for the sub-domains alone.
        public var name: String
        /// The setting or file that names it.
        public var origin: String
        /// Whether a table of ``MigratedConfiguration/domainTables`` names it.
        public var isInTable = false
        /// The domain of which it is an alias.
        public var aliasOf: String?
        /// Why it accepts every recipient; nil if sources list its recipients.
        public var catchAllReason: String?
        /// Where ``aliasOf`` was found.
        public var aliasOrigin: String?
    }

    /// A regular expression of `recipients.patterns`.
    public struct Pattern: Sendable, Equatable {
        /// The expression.
        public var match: String
        /// Whether recipients that match are accepted; if not, they are rejected.
        public var accepts: Bool
        /// The table and the line with the rule.
        public var origin: String
    }

    /// A `[[source]]`.
    public struct Source: Sendable {
        /// A value of a key.
        public enum Value: Sendable, Equatable {
            case string(String)
            case strings([String])
            case boolean(Bool)
            /// The path of the file of a secret, by the secret's name.
            case secret(String)
        }

        /// The name, which is unique.
        public var name: String
        /// The type, such as `file`.
        public var type: String
        /// The other keys, in their order.
        public var keys: [(name: String, value: Value)] = []
        /// The lines before the table.
        public var comments: [String] = []
        /// Whether Postern doesn't know the type, so that the table is written as a comment.
        public var isCommentedOut = false
    }

    /// A password, which goes to a file of mode 0600.
    public struct Secret: Sendable, Equatable {
        /// The file's name.
        public var name: String
        /// The password.
        public var value: String
        /// The setting or the file that holds the password now.
        public var origin: String
    }

    init(origin: String) { self.origin = origin }
}

extension MigratedConfiguration {
    /// Adds a relay domain, unless it is one already.
    ///
    /// - Returns: the domain's A-label; nil for a text that isn't a domain, which becomes an open question.
    @discardableResult
    mutating func addDomain(_ text: String, origin: String, isInTable: Bool = false) -> String? {
        let isDotted = text.hasPrefix(".")
        guard let domain = try? DomainName(isDotted ? String(text.dropFirst()) : text).aLabel,
            !domain.hasPrefix("[")
        else {
            ask("\(origin): \"\(text)\" is not a domain name, so that it isn't a relay domain here.")
            return nil
        }
        let name = (isDotted ? "." : "") + domain
        if let position = position(of: name) {
            if isInTable { domains[position].isInTable = true }
        } else {
            domains.append(Domain(name: name, origin: origin, isInTable: isInTable))
        }
        return name
    }

    /// Adds a table of relay domains with the domains that it lists today.
    mutating func addDomainTable(_ name: String, _ names: [String], origin: String) {
        if !domainTables.contains(name) { domainTables.append(name) }
        for domain in names { addDomain(domain, origin: origin, isInTable: true) }
    }

    func position(of domain: String) -> Int? { domains.firstIndex { $0.name == domain } }

    /// Whether a domain is a relay domain, by its name or as a sub-domain of one.
    func relays(_ domain: String) -> Bool {
        domains.contains { relay in
            relay.name == domain
                || (relay.name.hasPrefix(".")
                    ? domain.hasSuffix(relay.name) : subdomains && domain.hasSuffix(".\(relay.name)"))
        }
    }

    /// Makes a domain accept every recipient.
    mutating func acceptAll(in domain: String, because reason: String) {
        guard let position = position(of: domain), domains[position].aliasOf == nil else { return }
        domains[position].catchAllReason = domains[position].catchAllReason ?? reason
    }

    /// Makes a domain an alias of another, or asks why that can't be.
    mutating func addAlias(_ alias: String, of target: String, origin: String) {
        guard let alias = try? DomainName(alias).aLabel, let target = try? DomainName(target).aLabel else { return }
        guard relays(alias) else {
            return note("\(origin): @\(alias) is in no relay domain, so Postern is never asked about its recipients.")
        }
        guard relays(target) else {
            return ask(
                "\(origin): @\(alias) leads to \(target), which isn't a relay domain: Postern accepts every recipient of \(alias), "
                    + "as the MTA does. If the recipients of \(target) are known, list them for \(alias).")
        }
        addDomain(alias, origin: origin)
        guard let position = position(of: alias), domains[position].aliasOf == nil else { return }
        var chain = [alias]
        var next: String? = target
        while let domain = next {
            if chain.contains(domain) || chain.count > 15 {
                return ask(
                    "\(origin): the alias domain \(alias) leads back to itself or through too many others "
                        + "(\((chain + [domain]).joined(separator: " → "))): name the domain that has the recipients in alias_of."
                )
            }
            chain.append(domain)
            next = domains.first { $0.name == domain }?.aliasOf
        }
        domains[position].aliasOf = target
        domains[position].aliasOrigin = origin
        domains[position].catchAllReason = nil
    }

    mutating func block(_ recipient: String) {
        if !blocked.contains(recipient) { blocked.append(recipient) }
    }

    mutating func add(_ pattern: Pattern) {
        if !patterns.contains(where: { $0.match == pattern.match && $0.accepts == pattern.accepts }) {
            patterns.append(pattern)
        }
    }

    /// Adds a source; its name gets a number if another source has it. A source with the same keys isn't added twice.
    mutating func add(_ source: Source) {
        func hasSameKeys(_ other: Source) -> Bool {
            other.type == source.type
                && other.keys.elementsEqual(source.keys) { $0.name == $1.name && $0.value == $1.value }
        }
        if sources.contains(where: hasSameKeys) { return }
        var source = source
        source.name = unique(source.name) { name in sources.contains { $0.name == name } }
        sources.append(source)
    }

    /// Changes the source of this name.
    mutating func change(_ source: String, _ body: (inout Source) -> Void) {
        if let position = sources.firstIndex(where: { $0.name == source }) { body(&sources[position]) }
    }

    /// Keeps a password for a file of its own, and returns the file's name.
    mutating func addSecret(_ value: String, name: String, origin: String) -> String {
        if let known = secrets.first(where: { $0.value == value && $0.origin == origin }) { return known.name }
        let stem = unique(name) { stem in secrets.contains { $0.name == "\(stem).secret" } }
        secrets.append(Secret(name: "\(stem).secret", value: value, origin: origin))
        return "\(stem).secret"
    }

    private func unique(_ name: String, _ isTaken: (String) -> Bool) -> String {
        guard isTaken(name) else { return name }
        var number = 2
        while isTaken("\(name)-\(number)") { number += 1 }
        return "\(name)-\(number)"
    }

    /// Adds a sentence about what differs from now.
    mutating func note(_ sentence: String) {
        if !differences.contains(sentence) { differences.append(sentence) }
    }

    /// Adds an open question.
    mutating func ask(_ sentence: String) {
        if !questions.contains(sentence) { questions.append(sentence) }
    }
}

/// What to change in the MTA's configuration.
public struct MTAChange: Sendable {
    /// The file, such as `/etc/postfix/main.cf`.
    public var file: String
    /// The settings that let the MTA ask Postern while it observes: names and values for main.cf.
    public var settings: [Setting] = []
    /// Lines to add, for a file that isn't main.cf, and the text of the line before which they belong; nil: at the end.
    public var insertion: (lines: [String], before: String?) = ([], nil)
    /// The lines for later, when Postern decides alone.
    public var later: [String] = []
    /// The command that puts the change in force.
    public var reload: String
    /// Whether ``RevertibleChange`` can make the change.
    public var canBeApplied = true

    /// A setting of main.cf.
    public struct Setting: Sendable, Equatable {
        /// Its name, such as `smtpd_milters`.
        public var name: String
        /// Its value.
        public var value: String
    }

    init(file: String, reload: String) {
        self.file = file
        self.reload = reload
    }

    /// The lines that the file gets.
    public var lines: [String] { settings.map { "\($0.name) = \($0.value)" } + insertion.lines }
}
