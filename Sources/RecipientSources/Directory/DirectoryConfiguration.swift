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
    /// The search bases. If empty, Postern searches the naming contexts that the root DSE lists.
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

extension DirectoryConfiguration {
    /// A condition on an attribute of an entry: `nsAccountLock`, `status=inactive`, `status=*`, `userAccountControl&2`,
    /// `accountExpires<now`.
    public struct Condition: Sendable, Codable, Equatable {
        /// The test of the attribute's values.
        public enum Test: Sendable, Codable, Equatable {
            /// A value is `TRUE`, `yes`, `on` or a number other than 0.
            case isTrue
            /// A value equals this text, whatever its case.
            case equals(String)
            /// A value is a number with this bit set.
            case hasBit(Int64)
            /// There is a value.
            case isPresent
            /// A value is a date in the past: generalized time (RFC 4517), a FILETIME of Active Directory, seconds or
            /// days since 1970.
            case isPast
        }

        /// Attributes with a date, in lower case: without a test they mean a date in the past.
        private static let dates: Set<String> = [
            "accountexpires", "krbprincipalexpiration", "shadowexpire", "schacexpirydate", "pwdendtime",
        ]

        /// The attribute's name.
        public var attribute: String
        /// The test of its values.
        public var test: Test

        /// The condition that the configuration file writes in this form; nil if the text isn't a condition.
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
                // A pattern, as in a filter: no value would equal it.
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
}

extension DirectoryConfiguration.Condition {
    /// The result of the test for one value.
    enum Evaluation: Equatable {
        case holds, holdsNot
        /// The condition holds from this time on.
        case holdsFrom(Date)
        /// The value isn't of the kind that the test needs, which is named in words.
        case unclear(accepted: String)
    }

    /// Tests one value of the attribute.
    func evaluate(_ value: UnsafeBufferPointer<UInt8>, now: Date) -> Evaluation {
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

/// The time at which an account expires, in the forms that directories use.
enum ExpiryDate: Equatable {
    case never
    case date(Date)

    /// The date of a value: generalized time (RFC 4517 section 3.3.13: `20261130120000Z`), a FILETIME
    /// (`accountExpires`: 100 ns since 1601), seconds or days since 1970 (`shadowExpire`); nil for any other text.
    init?(_ text: String) {
        if let number = Int64(text), text.first != "+" {
            switch number {
            // Active Directory writes 0 or the largest number for an account that never expires.
            case ...0, Int64.max: self = .never
            case 1..<100_000: self = .date(Date(timeIntervalSince1970: Double(number) * 86_400))
            case 100_000_000..<100_000_000_000: self = .date(Date(timeIntervalSince1970: Double(number)))
            case 10_000_000_000_000_000...:
                self = .date(Date(timeIntervalSince1970: Double(number) / 10_000_000 - 11_644_473_600))
            default: return nil
            }
            return
        }
        guard let date = Self.generalizedTime(text) else { return nil }
        self = .date(date)
    }

    private static func generalizedTime(_ text: String) -> Date? {
        let digits = text.utf8.prefix { (0x30...0x39).contains($0) }
        guard [10, 12, 14].contains(digits.count) else { return nil }
        func number(_ range: Range<Int>) -> Int {
            Int(String(decoding: digits.dropFirst(range.lowerBound).prefix(range.count), as: UTF8.self)) ?? 0
        }
        var parts = DateComponents()
        parts.year = number(0..<4)
        parts.month = number(4..<6)
        parts.day = number(6..<8)
        parts.hour = number(8..<10)
        parts.minute = digits.count >= 12 ? number(10..<12) : 0
        parts.second = digits.count == 14 ? number(12..<14) : 0
        guard (1...12).contains(parts.month ?? 0), (1...31).contains(parts.day ?? 0),
            (0...23).contains(parts.hour ?? 99),
            (0...59).contains(parts.minute ?? 99), (0...60).contains(parts.second ?? 99)
        else { return nil }
        var rest = text.utf8.dropFirst(digits.count)
        if let first = rest.first, first == UInt8(ascii: ".") || first == UInt8(ascii: ",") {
            rest = rest.dropFirst().drop { (0x30...0x39).contains($0) }
        }
        guard let offset = offset(String(decoding: Array(rest), as: UTF8.self)) else { return nil }
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        return calendar.date(from: parts)?.addingTimeInterval(-offset)
    }

    /// The seconds east of Greenwich of `Z`, `+0100`, `-05`.
    private static func offset(_ text: String) -> Double? {
        if text == "Z" { return 0 }
        guard let sign = text.first, sign == "+" || sign == "-", [3, 5].contains(text.utf8.count),
            let hours = Int(text.dropFirst().prefix(2)), let minutes = text.utf8.count == 5 ? Int(text.suffix(2)) : 0,
            (0...23).contains(hours), (0...59).contains(minutes)
        else { return nil }
        let seconds = Double(hours * 3_600 + minutes * 60)
        return sign == "-" ? -seconds : seconds
    }
}
