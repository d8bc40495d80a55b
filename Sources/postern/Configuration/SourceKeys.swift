import RecipientSources

/// The types of `[[source]]`.
enum SourceType: String, CaseIterable, Sendable {
    case activeDirectory = "active-directory"
    case openLDAP = "openldap"
    case ldap, file, command
}

/// The mechanisms of SASL by which Postern can log in to a directory.
enum SASLMechanism: String, CaseIterable, Sendable {
    case gssapi, external
}

/// The keys that every `[[source]]` has, beside those of its type.
struct SourceKeys: ConfigurationKeys {
    /// The kinds of sources, in the order of the sample and the manual. A kind that isn't in this array is missing in both.
    static let kinds: [any ConfigurationKeys] = [FileSourceKeys(), CommandSourceKeys(), DirectorySourceKeys(nil)]

    let name: ConfigurationKey<String>
    let type: ConfigurationKey<SourceType>
    let domains = ConfigurationKey(
        "domains", .elements(of: .domain("a relay domain"), example: ["example.com"]), defaultNote: "all relay domains",
        example: ["example.com"], explanation: "The relay domains whose recipients the source may list.")

    /// - Parameters:
    ///   - name: the example of a name.
    ///   - type: the type in the sample.
    ///   - isSetInSample: whether the sample sets the keys, or shows them as comments.
    init(name: String, type: SourceType, isSetInSample: Bool = false) {
        self.name = ConfigurationKey(
            "name", .sourceName, isRequired: true, example: .string(name), isSetInSample: isSetInSample,
            explanation: "A name of your choice, which messages and reports show.")
        self.type = ConfigurationKey(
            "type", .word(SourceType.self), isRequired: true, example: .string(type.rawValue),
            isSetInSample: isSetInSample, explanation: "The type of the source.")
    }
}

/// The keys of a source of type `file`.
struct FileSourceKeys: ConfigurationKeys {
    var heading: String? { "A table or a list in a file (type = \"file\")" }

    let source = SourceKeys(name: "recipients", type: .file, isSetInSample: true)
    let format = ConfigurationKey(
        "format", .word(TableFormat.self), isRequired: true, example: "postfix", isSetInSample: true,
        explanation: """
            The format: the source text of a Postfix table ("postfix"), of Sendmail's access or virtusertable
            ("sendmail"), or one address on each line ("list").
            """)
    let path = ConfigurationKey(
        "path", .path, isRequired: true, example: "/etc/postfix/relay_recipients", isSetInSample: true,
        explanation: "The file. Postern reads it again when it has changed.")
}

/// The keys of a source of type `command`.
struct CommandSourceKeys: ConfigurationKeys {
    var heading: String? { "The standard output of a program (type = \"command\")" }

    let source = SourceKeys(name: "hr", type: .command)
    let command = ConfigurationKey(
        "command", .list(of: .text(), example: ["/usr/local/bin/list-recipients", "--all"], allowsEmpty: false),
        isRequired: true,
        example: ["/usr/local/bin/list-recipients", "--all"],
        explanation: """
            The program, by its absolute path, and its arguments. It runs at every sync.interval, without a shell.
            Postern uses the output only if the program exits with status 0.
            """)
    let format = ConfigurationKey(
        "format", .word(TableFormat.self), default: "list",
        explanation: #"The format of its output: "postfix", "sendmail" or "list", as for a file."#)
    let timeout = ConfigurationKey(
        "timeout", .duration(from: 1), default: "60s", explanation: "The time that the program may take.")
    let maximumSize = ConfigurationKey(
        "max_size", .size(), default: "256MiB", explanation: "The most that the program may write.")
}

/// The keys of a source of type `active-directory`, `openldap` or `ldap`.
struct DirectorySourceKeys: ConfigurationKeys {
    var heading: String? { "A directory (type = \"active-directory\", \"openldap\" or \"ldap\")" }

    let source = SourceKeys(name: "headquarters", type: .activeDirectory)

    // Where the recipients are found.
    let uris = ConfigurationKey(
        "uris",
        .elements(
            of: .ldapURI, example: ["ldaps://dc1.example.com", "ldaps://dc2.example.com:636"], allowsEmpty: false),
        isRequired: true,
        example: ["ldaps://dc1.corp.example", "ldaps://dc2.corp.example"],
        explanation: """
            The servers, in the order in which Postern tries them: ldaps://, ldap:// or ldapi://, with a host and,
            where needed, a port.
            """)
    let bases = ConfigurationKey(
        "bases", .list(of: .distinguishedName(example: "ou=people,dc=example,dc=com"), example: ["dc=example,dc=com"]),
        default: [], defaultNote: "those that the server names as its own", example: ["dc=corp,dc=example"],
        explanation: "The entries at which searches begin.")
    let excludedBases = ConfigurationKey(
        "exclude_bases",
        .list(of: .distinguishedName(example: "ou=people,dc=example,dc=com"), example: ["dc=example,dc=com"]),
        default: [], example: ["ou=service,dc=corp,dc=example"],
        explanation: "Entries that are left out, with all entries below them.")
    let filter = ConfigurationKey(
        "filter", .searchFilter,
        defaultNote: "a filter for entries that have one of the attributes; in Active Directory users, "
            + "groups, contacts and public folders", example: "(proxyAddresses=*)",
        explanation: "The search filter for the entries of recipients.")
    let excludedFilter = ConfigurationKey(
        "exclude_filter", .searchFilter, defaultNote: "no entry is left out",
        example: "(msExchHideFromAddressLists=TRUE)", explanation: "A search filter for entries that are left out.")
    let attributes = ConfigurationKey(
        "attributes", .list(of: .attribute, example: ["mail"], allowsEmpty: false),
        defaultNote: "proxyAddresses in Active Directory; else mail, mailLocalAddress and mailAlternateAddress",
        example: ["proxyAddresses"], explanation: "The attributes that hold the addresses.")

    // The account.
    let bindDN = ConfigurationKey(
        "bind_dn", .text("the name of an account"), defaultNote: "an anonymous bind", example: "postern@corp.example",
        explanation: "The account that reads the directory. It needs no rights but to read.")
    let passwordFile = ConfigurationKey(
        "password_file", .secretPath, defaultNote: "none", example: "/etc/postern/ldap.secret",
        explanation: """
            The file whose first line is the account's password. Give it mode 0600. "credential:NAME" stands for a
            credential that systemd gives the service (LoadCredential=NAME:FILE in the unit).
            """)
    let sasl = ConfigurationKey(
        "sasl", .word(SASLMechanism.self), defaultNote: "a bind with bind_dn",
        example: "gssapi",
        explanation: """
            Kerberos ("gssapi"), or the user of the process over ldapi:// ("external"), in place of bind_dn and
            password_file.
            """)
    let keytab = ConfigurationKey(
        "keytab", .path, defaultNote: "the tickets of the environment", example: "/etc/postern/krb5.keytab",
        explanation: #"The file with the Kerberos keys, for sasl = "gssapi". It is the same for all sources."#)

    // The connection.
    let startTLS = ConfigurationKey(
        "starttls", .boolean, default: false, explanation: "Whether a connection to ldap:// is encrypted by StartTLS.")
    let caFile = ConfigurationKey(
        "ca_file", .path, defaultNote: "the certificate authorities of the system", example: "/etc/postern/ca.pem",
        explanation: "The certificate authorities, in PEM, that may have signed the server's certificate.")
    let verifiesCertificate = ConfigurationKey(
        "verify_certificate", .boolean, default: true, explanation: "Whether the server's certificate must be valid.")
    let allowsPlaintext = ConfigurationKey(
        "allow_plaintext", .boolean, default: false,
        explanation: "Whether the password may cross the network unencrypted.")
    let timeout = ConfigurationKey(
        "timeout", .duration(from: 1), default: "30s", explanation: "The time that a server may take for an answer.")
    let pageSize = ConfigurationKey(
        "page_size", .integer(1...100_000), default: 1_000,
        explanation: "The number of entries that Postern asks for in one page of results.")
    let followsReferrals = ConfigurationKey(
        "follow_referrals", .boolean, default: false,
        explanation: "Whether Postern asks the other servers that a server refers to.")

    // What an entry says of its recipients.
    let includeDisabled = ConfigurationKey(
        "include_disabled", .disabledTreatment, default: true,
        explanation: """
            Whether the recipients of disabled accounts are listed (true), left out (false), or listed as disabled,
            so that policy.disabled decides ("mark").
            """)
    let disabledAttribute = ConfigurationKey(
        "disabled_attribute", .anyOf(.condition),
        defaultNote: "userAccountControl&2 in Active Directory; else no entry is disabled",
        example: "userAccountControl&2",
        explanation: "One condition or several; an account is disabled if any of them is true.")
    let internalOnlyAttribute = ConfigurationKey(
        "internal_only_attribute", .anyOf(.condition, allowsNone: true),
        defaultNote: "msExchRequireAuthToSendTo in Active Directory; else no recipient is internal",
        example: "msExchRequireAuthToSendTo",
        explanation: """
            One condition or several; a recipient is for trusted clients only if any of them is true. "" for none.
            """)
    let acceptedDomains = ConfigurationKey(
        "accepted_domains", .boolean, default: false,
        explanation: "Whether Exchange's accepted domains are relay domains too. For Active Directory only.")
    let relayDomainsAttribute = ConfigurationKey(
        "relay_domains_attribute", .attribute, defaultNote: "the directory names no relay domains",
        example: "associatedDomain", explanation: "The attribute whose values are relay domains too.")
    let relayDomainsBases = ConfigurationKey(
        "relay_domains_bases",
        .list(
            of: .distinguishedName(example: "ou=domains,dc=example,dc=com"), example: ["ou=domains,dc=example,dc=com"]),
        default: [], defaultNote: "those of bases", example: ["ou=domains,dc=corp,dc=example"],
        explanation: "The entries at which the search for relay_domains_attribute begins.")
    let relayDomainsFilter = ConfigurationKey(
        "relay_domains_filter", .searchFilter, defaultNote: "the entries that have the attribute",
        example: "(objectClass=domainRelatedObject)",
        explanation: "The search filter for the entries with relay_domains_attribute.")

    // How changes are followed.
    let incremental: ConfigurationKey<DirectoryConfiguration.Incremental>
    let push = ConfigurationKey(
        "push", .boolean, default: true,
        explanation: "Whether the server tells Postern of changes at once, where it can.")
    let reconcile = ConfigurationKey(
        "reconcile", .duration(from: 60), default: "1d",
        explanation: "The time after which Postern reads everything again, in case it missed a change.")

    /// The keys of one kind of directory; nil for those of all kinds.
    init(_ dialect: DirectoryConfiguration.Dialect?) {
        let type: ConfigurationType<DirectoryConfiguration.Incremental> =
            switch dialect {
            case .activeDirectory: .choice(["auto": .auto, "dirsync": .dirSync, "usn": .usn, "off": .off])
            case .openLDAP, .generic: .choice(["auto": .auto, "sync": .sync, "off": .off])
            case nil: .choice(["auto": .auto, "dirsync": .dirSync, "usn": .usn, "sync": .sync, "off": .off])
            }
        incremental = ConfigurationKey(
            "incremental", type, default: "auto",
            explanation: """
                How Postern follows changes: DirSync ("dirsync") or uSNChanged ("usn") of Active Directory, content
                synchronization (RFC 4533) of other servers ("sync"), the best of these that the server offers ("auto"),
                or by reading everything at every sync.interval ("off").
                """)
    }
}
