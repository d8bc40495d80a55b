import CLDAP
import Foundation

/// A connection to a directory server with what its root DSE says (RFC 4512 section 5.1), and the searches that every way of
/// reading is made of.
final class DirectorySession {
    let connection: LDAPConnection
    let configuration: DirectoryConfiguration
    let root: RootDSE
    /// Where the searches begin.
    let bases: [String]

    struct RootDSE {
        var namingContexts: [String] = []
        var defaultNamingContext: String?
        var configurationNamingContext: String?
        var supportedControls: Set<String> = []
        /// The object that stands for this domain controller.
        var serviceName: String?
        var highestCommittedUSN: String?
    }

    init(
        _ connection: LDAPConnection, _ configuration: DirectoryConfiguration, check: LDAPConnection.Check
    ) throws(LDAPError) {
        self.connection = connection
        self.configuration = configuration
        root = try Self.readRoot(connection, check)
        if !configuration.bases.isEmpty {
            bases = configuration.bases
        } else if let context = root.defaultNamingContext, configuration.dialect == .activeDirectory {
            bases = [context]
        } else {
            // Another server may name them in another order.
            bases = root.namingContexts.sorted()
        }
        guard !bases.isEmpty else {
            throw LDAPError(
                .search, LDAP_NO_SUCH_OBJECT,
                "the server doesn't say which bases it has, or not to this account: set bases")
        }
    }

    private var patience: Duration { connection.options.timeout }

    static func readRoot(_ connection: LDAPConnection, _ check: LDAPConnection.Check) throws(LDAPError) -> RootDSE {
        let names = [
            "namingContexts", "defaultNamingContext", "configurationNamingContext", "supportedControl", "dsServiceName",
            "highestCommittedUSN",
        ]
        let id = try connection.search(
            base: "", scope: postern_ldap_scope_base, filter: "(objectClass=*)", attributes: names)
        var root = RootDSE()
        while true {
            let message = try connection.receive(id, patience: connection.options.timeout, .search, check)
            switch message.kind {
            case .entry:
                root.namingContexts = try message.texts("namingContexts").filter { !$0.isEmpty }
                root.defaultNamingContext = try message.texts("defaultNamingContext").first
                root.configurationNamingContext = try message.texts("configurationNamingContext").first
                root.supportedControls = Set(try message.texts("supportedControl"))
                root.serviceName = try message.texts("dsServiceName").first
                root.highestCommittedUSN = try message.texts("highestCommittedUSN").first
            case .result:
                _ = try message.success(.search)
                return root
            case .reference, .intermediate: break
            }
        }
    }

    /// Asks something small, to learn whether the connection still stands.
    func ping(_ check: LDAPConnection.Check) throws(LDAPError) {
        let id = try connection.search(
            base: "", scope: postern_ldap_scope_base, filter: "(objectClass=*)", attributes: ["1.1"])
        while try connection.receive(id, patience: patience, .search, check).kind != .result {}
    }

    /// All entries of a search, in pages where the server has pages.
    ///
    /// An error ends it, whatever has come before; so does a server that ends it early. References to other servers are passed
    /// over unless libldap follows them.
    func forEachEntry(
        base: String, scope: Int32 = postern_ldap_scope_subtree, filter: String, attributes: [String],
        controls: [LDAPControl] = [], check: LDAPConnection.Check,
        _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) {
        // libldap joins the results of servers that it follows references to, and loses the control that tells of the next page.
        let isPaged =
            root.supportedControls.contains(LDAPControl.OID.pagedResults) && !configuration.followsReferrals
        var extra = controls
        if !configuration.followsReferrals, root.supportedControls.contains(LDAPControl.OID.domainScope) {
            extra.append(.domainScope)
        }
        var cookie: [UInt8] = []
        repeat {
            let page = isPaged ? [LDAPControl.paged(size: Int32(clamping: configuration.pageSize), cookie: cookie)] : []
            let id = try connection.search(
                base: base, scope: scope, filter: filter, attributes: attributes, controls: page + extra)
            let answer = try receive(id, base: base, check, body)
            guard isPaged else { return }
            guard let next = answer.nextPage else {
                throw .malformed("a page without the control that tells whether another one follows")
            }
            cookie = next
        } while !cookie.isEmpty
    }

    /// The entries of one search; returns the controls of its result.
    func receive(
        _ id: Int32, base: String, _ check: LDAPConnection.Check, _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) -> [LDAPControl] {
        do throws(LDAPError) {
            while true {
                let message = try connection.receive(id, patience: patience, .search, check)
                switch message.kind {
                case .entry: try body(message)
                case .result: return try message.success(.search)
                case .reference, .intermediate: break
                }
            }
        } catch {
            guard error.code > 0, error.cancellation == nil, !base.isEmpty else { throw error }
            throw LDAPError(error.operation, error.code, "\(printable(base.utf8)): \(error.text)")
        }
    }

    /// The values of an attribute from a number on, for as many messages as it takes (MS-ADTS section 3.1.1.3.1.3.3).
    func rest(_ check: @escaping LDAPConnection.Check) -> DirectoryEntryReader.Rest {
        { [self] (attribute, dn, first) throws(LDAPError) in
            var values: [[UInt8]] = []
            var next: Int? = first
            while let from = next {
                next = nil
                let id = try connection.search(
                    base: dn, scope: postern_ldap_scope_base, filter: "(objectClass=*)",
                    attributes: ["\(attribute);range=\(from)-*"])
                _ = try receive(id, base: dn, check) { message throws(LDAPError) in
                    var isTooMuch = false
                    try message.forEachAttribute { name, found in
                        guard String(decoding: name, as: UTF8.self).lowercased().hasPrefix("\(attribute.lowercased());")
                        else { return }
                        values += found.map { Array($0) }
                        isTooMuch = isTooMuch || values.count > LDAPMessage.mostValues
                        next = DirectoryEntryReader.range(name)?.next
                    }
                    if isTooMuch { throw LDAPMessage.tooManyValues }
                }
            }
            return values
        }
    }
}
