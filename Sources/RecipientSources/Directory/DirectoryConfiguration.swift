import Foundation

/// A source of type `active-directory`, `openldap` or `ldap`.
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

    /// How Postern says who it is.
    public enum Login: Sendable, Codable, Equatable {
        /// Not at all.
        case anonymous
        /// A name and the password in a file, its line end left out.
        case simple(dn: String, passwordFile: String)
        /// SASL EXTERNAL: whom the unix socket says it is.
        case external
        /// SASL GSSAPI with the keys of a file; nil for the ticket that the environment names.
        case gssapi(keytab: String?)
    }

    /// What becomes of an entry that the directory says is disabled.
    public enum Disabled: String, Sendable, Codable {
        /// It is listed like any other: shared mailboxes of Exchange are disabled accounts.
        case include
        /// It is left out.
        case exclude
        /// It is listed as disabled; `policy.disabled` says how it is refused.
        case mark
    }

    /// An attribute that tells something of an entry by its value: `nsAccountLock`, `status=inactive`, `status=*`,
    /// `userAccountControl&2`, `accountExpires<now`.
    public struct Condition: Sendable, Codable, Equatable {
        /// When it holds.
        public enum Test: Sendable, Codable, Equatable {
            /// A value is `TRUE`, `yes`, `on` or a number other than 0.
            case isTrue
            /// A value is this one, whatever its case.
            case equals(String)
            /// A value is a number with this bit.
            case hasBit(Int64)
            /// There is a value.
            case isPresent
            /// A value is a date that has passed: generalized time (RFC 4517), a FILETIME of Active Directory, seconds or days since
            /// 1970.
            case isPast
        }

        /// Attributes that hold a date, in lower case: by themselves they mean one that has passed.
        private static let dates: Set<String> = [
            "accountexpires", "krbprincipalexpiration", "shadowexpire", "schacexpirydate", "pwdendtime",
        ]

        /// The attribute's name.
        public var attribute: String
        /// When it holds.
        public var test: Test

        /// A condition as it stands in the configuration; nil for what is none.
        public init?(_ text: String) {
            let end = text.firstIndex { $0 == "=" || $0 == "&" || $0 == "<" } ?? text.endIndex
            attribute = text[..<end].trimmingCharacters(in: .whitespaces)
            guard DirectoryConfiguration.isAttribute(attribute) else { return nil }
            guard end < text.endIndex else {
                test = Self.dates.contains(attribute.lowercased()) ? .isPast : .isTrue
                return
            }
            let value = text[text.index(after: end)...].trimmingCharacters(in: .whitespaces)
            switch text[end] {
            case "=":
                guard !value.isEmpty else { return nil }
                // A filter's pattern, which a value of the attribute would never equal.
                guard value == "*" || !value.contains("*") else { return nil }
                test = value == "*" ? .isPresent : .equals(value)
            case "<":
                guard value.lowercased() == "now" else { return nil }
                test = .isPast
            default:
                guard let bit = Int64(value), bit > 0 else { return nil }
                test = .hasBit(bit)
            }
        }
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
        /// Not at all: everything is read each time.
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
    /// In the order in which they are tried.
    public var servers: [LDAPURI]
    /// Where the searches begin; empty for what the server names as its own.
    public var bases: [String]
    /// Entries at or below these are left out.
    public var excludedBases: [String] = []
    /// Which entries are looked at (RFC 4515).
    public var filter: String
    /// Entries that match it are left out.
    public var excludedFilter: String?
    /// The attributes whose values are recipients; values with a prefix other than `smtp:` are left out.
    public var attributes: [String]
    /// What makes a recipient internal-only: one that holds is enough.
    public var internalOnly: [Condition] = []
    /// What tells that an entry is disabled: one that holds is enough.
    public var disabled: [Condition] = []
    /// What becomes of it then.
    public var disabledTreatment = Disabled.include
    /// Where relay domains are read from; nil for nowhere.
    public var relayDomains: DomainSource?
    /// How Postern says who it is.
    public var login = Login.anonymous
    /// Whether a connection to `ldap://` is encrypted before anything is asked.
    public var startTLS = false
    /// The authorities that the server's certificate may come from, in PEM; nil for those of the system.
    public var caFile: String?
    /// Whether the server's certificate must be valid.
    public var verifiesCertificate = true
    /// Whether a password may go over a connection that isn't encrypted.
    public var allowsPlaintext = false
    /// How many seconds a server may take to answer.
    public var timeout = 30
    /// How many entries a page has.
    public var pageSize = 1_000
    /// Whether references to other servers are followed.
    public var followsReferrals = false
    /// How changes are followed.
    public var incremental = Incremental.auto
    /// Whether the server may tell of changes by itself.
    public var push = true
    /// After how many seconds everything is read again, though changes are followed.
    public var reconcileInterval = 86_400

    /// A source with the defaults of its kind.
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
        useOwnFilter()
    }

    /// Has those entries looked at that have one of the attributes: in Active Directory users with their mailboxes (also shared ones,
    /// rooms and equipment), groups, dynamic groups, contacts and public folders; elsewhere all.
    public mutating func useOwnFilter() {
        let present = LDAPFilter.any(attributes.map { "(\($0.prefix { $0 != ";" })=*)" })
        filter =
            dialect == .activeDirectory
            ? "(&\(present)(|(objectClass=user)(objectClass=group)(objectClass=contact)(objectClass=publicFolder)"
                + "(objectClass=msExchDynamicDistributionList)))"
            : present
    }

    /// The filter with what it leaves out.
    var wholeFilter: String {
        excludedFilter.map { LDAPFilter.all([filter, LDAPFilter.not($0)]) } ?? filter
    }

    /// Whether a text can be the name of an attribute, with options or without (RFC 4512 section 2.5).
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

    /// Whether a text is a search filter that can be sent (RFC 4515).
    public static func isFilter(_ text: String) -> Bool { LDAPFilter.isValid(text) }

    /// Whether a text is the name of an entry (RFC 4514).
    public static func isName(_ text: String) -> Bool { !text.utf8.contains(0) && DistinguishedName(text) != nil }
}

extension DirectoryConfiguration.Condition {
    /// What a value says of a condition.
    enum Finding: Equatable {
        case holds, holdsNot
        /// It will hold from this time on.
        case holdsFrom(Date)
        /// The value is none that the condition can be asked of; what would be.
        case unclear(accepted: String)
    }

    /// Whether one of the values makes it hold.
    func holds(_ value: UnsafeBufferPointer<UInt8>) -> Bool { look(at: value, now: Date()) == .holds }

    func look(at value: UnsafeBufferPointer<UInt8>, now: Date) -> Finding {
        func text() -> String { String(decoding: value.trimmed, as: UTF8.self) }
        switch test {
        case .isPresent: return .holds
        case .isTrue:
            let text = text().lowercased()
            if ["true", "yes", "on"].contains(text) { return .holds }
            if ["false", "no", "off", ""].contains(text) { return .holdsNot }
            if let number = Int64(text) { return number != 0 ? .holds : .holdsNot }
            return .unclear(accepted: "true or false")
        case .equals(let other): return text().lowercased() == other.lowercased() ? .holds : .holdsNot
        case .hasBit(let bit):
            guard let number = Int64(text()) else { return .unclear(accepted: "a number") }
            return number & bit != 0 ? .holds : .holdsNot
        case .isPast:
            switch ExpiryDate(text()) {
            case .never: return .holdsNot
            case .date(let date): return date <= now ? .holds : .holdsFrom(date)
            case nil:
                return .unclear(accepted: "a date, as generalized time, a FILETIME, or seconds or days since 1970")
            }
        }
    }
}
