import Foundation

/// The settings of a source of type `active-directory`, `openldap` or `ldap`.
public struct DirectoryConfiguration: Sendable, Codable, Equatable {
    /// The kind of server, which decides the defaults and how changes are followed.
    public enum Dialect: String, Sendable, Codable, CaseIterable {
        /// Active Directory, Samba's included.
        case activeDirectory = "active-directory"
        /// OpenLDAP, and others with RFC 4533.
        case openLDAP = "openldap"
        /// Any server of RFC 4511, read in full each time.
        case generic = "ldap"
    }

    /// How Postern authenticates.
    public enum Login: Sendable, Codable, Equatable {
        /// Not at all.
        case anonymous
        /// By a name and a password, which is the first line of a file.
        case simple(dn: String, passwordFile: String)
        /// SASL EXTERNAL: as the user of the process, which a unix socket shows to the server.
        case external
        /// SASL GSSAPI (Kerberos) with the keys of a file; nil for the ticket cache that the environment names.
        case gssapi(keytab: String?)
    }

    /// How a disabled entry is treated.
    public enum Disabled: String, Sendable, Codable {
        /// It is listed like others: Exchange's shared mailboxes are disabled accounts.
        case include
        /// It is left out.
        case exclude
        /// It is listed as disabled; `policy.disabled` decides how it is rejected.
        case mark
    }

    /// Where relay domains are read from.
    public enum DomainSource: Sendable, Codable, Equatable {
        /// Exchange's accepted domains, in Active Directory's configuration.
        case acceptedDomains
        /// The values of an attribute, of the entries below the bases that match a filter.
        case attribute(name: String, bases: [String], filter: String)
    }

    /// How changes are followed.
    public enum Incremental: String, Sendable, Codable, CaseIterable {
        /// The best way that the server offers.
        case auto
        /// They aren't: everything is read each time.
        case off
        /// Active Directory's DirSync.
        case dirSync = "dirsync"
        /// Active Directory's uSNChanged.
        case usn
        /// RFC 4533.
        case sync
    }

    /// The kind of server.
    public var dialect: Dialect
    /// The servers in the order in which they are tried.
    public var servers: [LDAPURI]
    /// The bases of the searches; empty for the naming contexts that the server shows.
    public var bases: [String]
    /// Entries at or below these are left out.
    public var excludedBases: [String] = []
    /// The filter that entries must match (RFC 4515).
    public var filter: String
    /// Entries that match it are left out.
    public var excludedFilter: String?
    /// The attributes whose values are recipients; values with a prefix other than `smtp:` are left out.
    public var attributes: [String]
    /// The conditions that make a recipient internal-only: one of them is enough.
    public var internalOnly: [Condition] = []
    /// The conditions that make an entry disabled: one of them is enough.
    public var disabled: [Condition] = []
    /// How a disabled entry is treated.
    public var disabledTreatment = Disabled.include
    /// Where relay domains are read from; nil for nowhere.
    public var relayDomains: DomainSource?
    /// How Postern authenticates.
    public var login = Login.anonymous
    /// Whether a connection to `ldap://` is encrypted by StartTLS before anything else.
    public var startTLS = false
    /// A file with the certificates of the trusted authorities, in PEM; nil for those of the system.
    public var caFile: String?
    /// Whether the server's certificate must be valid.
    public var verifiesCertificate = true
    /// Whether a password may be sent over an unencrypted connection.
    public var allowsPlaintext = false
    /// How many seconds a server has for an answer.
    public var timeout = 30
    /// How many entries a page has.
    public var pageSize = 1_000
    /// Whether references to other servers are followed.
    public var followsReferrals = false
    /// How changes are followed.
    public var incremental = Incremental.auto
    /// Whether the server is asked to report changes by itself.
    public var push = true
    /// After how many seconds everything is read again although changes are followed.
    public var reconcileInterval = 86_400

    /// The settings of a source with the defaults of its kind.
    public init(_ dialect: Dialect, servers: [LDAPURI], bases: [String] = []) {
        self.dialect = dialect
        self.servers = servers
        self.bases = bases
        switch dialect {
        case .activeDirectory:
            attributes = ["proxyAddresses"]
            internalOnly = [Condition("msExchRequireAuthToSendTo")].compactMap { $0 }
            disabled = [Condition("userAccountControl&2")].compactMap { $0 }
        case .openLDAP, .generic: attributes = ["mail", "mailLocalAddress", "mailAlternateAddress"]
        }
        filter = ""
        useDefaultFilter()
    }

    /// Sets the filter to the default of its kind: entries with one of the attributes. In Active Directory, only users
    /// (also with shared, room and equipment mailboxes), groups, dynamic groups, contacts and public folders.
    public mutating func useDefaultFilter() {
        let present = LDAPFilter.any(attributes.map { "(\($0.prefix { $0 != ";" })=*)" })
        filter =
            dialect == .activeDirectory
            ? "(&\(present)(|(objectClass=user)(objectClass=group)(objectClass=contact)(objectClass=publicFolder)"
                + "(objectClass=msExchDynamicDistributionList)))"
            : present
    }

    /// The filter for entries that match `filter` and don't match `excludedFilter`.
    var wholeFilter: String {
        excludedFilter.map { LDAPFilter.all([filter, LDAPFilter.not($0)]) } ?? filter
    }

    /// Whether a text can be the name of an attribute, with or without options (RFC 4512 section 2.5).
    public static func isAttribute(_ text: String) -> Bool {
        guard let first = text.utf8.first,
            (UInt8(ascii: "A")...UInt8(ascii: "z")).contains(first) || text.first?.isNumber == true
        else { return false }
        return text.utf8.allSatisfy { byte in
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || "-;.=".utf8.contains(byte)
        }
    }

    /// Whether a text is a search filter (RFC 4515).
    public static func isFilter(_ text: String) -> Bool { LDAPFilter.isValid(text) }

    /// Whether a text is a distinguished name (RFC 4514).
    public static func isName(_ text: String) -> Bool { !text.utf8.contains(0) && DistinguishedName(text) != nil }
}
