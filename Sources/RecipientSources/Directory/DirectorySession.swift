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
        /// Whether a domain controller says that it has all that the others have; nil for servers that don't speak of it.
        var isSynchronized: Bool?
    }

    /// The search references of this connection's searches, each once.
    private(set) var references: Set<String> = []
    /// More references than a directory has; without a limit, a server could fill the memory.
    private static let mostReferences = 10_000

    init(
        _ connection: LDAPConnection, _ configuration: DirectoryConfiguration, check: LDAPConnection.Check
    ) throws(LDAPError) {
        self.connection = connection
        self.configuration = configuration
        root = try Self.readRoot(connection, check)
        // MS-ADTS section 3.1.1.3.2.25: it has not yet heard from another one since it was started or restored.
        guard root.isSynchronized != false else {
            throw LDAPError(
                .search, LDAP_UNAVAILABLE,
                "the domain controller says that it isn't synchronized with the others (isSynchronized: FALSE), so its list may be old; "
                    + "see repadmin /showrepl, or samba-tool drs showrepl, there")
        }
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
            "highestCommittedUSN", "isSynchronized",
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
                root.isSynchronized = try message.texts("isSynchronized").first.map { $0.uppercased() != "FALSE" }
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
    /// over, unless libldap follows them.
    ///
    /// - Parameter keepsReferences: whether references are kept in ``references``, as recipients may lie behind them.
    func forEachEntry(
        base: String, scope: Int32 = postern_ldap_scope_subtree, filter: String, attributes: [String],
        controls: [LDAPControl] = [], keepsReferences: Bool = false, check: LDAPConnection.Check,
        _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) {
        // libldap joins the results of servers that it follows references to, and loses the control that tells of the next page.
        let isPaged =
            root.supportedControls.contains(LDAPControl.OID.pagedResults) && !configuration.followsReferrals
        var extra = controls
        if !configuration.followsReferrals, !keepsReferences,
            root.supportedControls.contains(LDAPControl.OID.domainScope)
        {
            extra.append(.domainScope)
        }
        var cookie: [UInt8] = []
        var emptyPages = 0
        repeat {
            let page = isPaged ? [LDAPControl.paged(size: Int32(clamping: configuration.pageSize), cookie: cookie)] : []
            let id = try connection.search(
                base: base, scope: scope, filter: filter, attributes: attributes, controls: page + extra)
            var isEmpty = true
            let answer = try receive(id, base: base, keepsReferences: keepsReferences, check) {
                message throws(LDAPError) in
                isEmpty = false
                try body(message)
            }
            emptyPages = isEmpty ? emptyPages + 1 : 0
            guard emptyPages < Self.mostEmptyPages else {
                throw .malformed("\(emptyPages) pages without an entry, one after the other")
            }
            guard isPaged else { return }
            guard let next = answer.nextPage else {
                throw .malformed("a page without the control that tells whether another one follows")
            }
            cookie = next
        } while !cookie.isEmpty
    }

    /// Pages without an entry come where an account may not see what lies there; without a limit, a server could give them for ever.
    private static let mostEmptyPages = 100_000

    /// Keeps the addresses of a search reference.
    func note(reference message: LDAPMessage) throws(LDAPError) {
        let addresses = try message.references()
        if configuration.followsReferrals {
            if connection.hasFollowed(addresses) { return }
            throw LDAPError(
                .search, LDAP_REFERRAL,
                "the server refers to \(addresses.map { legible($0) }.joined(separator: " or ")), which can't be followed, so entries are "
                    + "missing")
        }
        for address in addresses where references.count < Self.mostReferences { references.insert(address) }
    }

    /// Compares the references with those that the last list was read with.
    ///
    /// - Parameter isWhole: whether all of the list was read, rather than what has changed in it.
    /// - Returns: those to compare the next ones with.
    /// - Throws: for a reference that is new: entries may have moved behind it.
    func checkReferences(
        _ request: PullRequest, isWhole: Bool, _ remarks: inout [String]
    ) throws(LDAPError) -> [String] {
        let known = DirectoryCursor(request.previous?.cursor)?.references
        let accepts = request.acceptsReferences
        let new = references.subtracting(known ?? []).sorted()
        let next = (isWhole ? references : references.union(known ?? [])).sorted()
        guard !new.isEmpty else { return next }
        let shown = new.prefix(5).map { legible($0) }.joined(separator: ", ") + (new.count > 5 ? ", …" : "")
        guard known == nil || accepts else {
            throw LDAPError(
                .search, LDAP_REFERRAL,
                "a search reference is new: \(shown); recipients may have moved there, where Postern doesn't read them. Add that server "
                    + "or base as a source, or set follow_referrals = true; if none is missing, accept it: postern sync --accept-shrink"
            )
        }
        remarks.append(
            "the server refers to \(new.count == 1 ? "another place" : "\(new.count) other places") for a part of the directory, "
                + "which Postern doesn't read: \(shown)")
        return next
    }

    /// Begins to read all of the list, on a connection that may have read a part of it before.
    func forgetReferences() { references = [] }

    /// The entries of one search; returns the controls of its result.
    func receive(
        _ id: Int32, base: String, keepsReferences: Bool = false, _ check: LDAPConnection.Check,
        _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) -> [LDAPControl] {
        do throws(LDAPError) {
            while true {
                let message = try connection.receive(id, patience: patience, .search, check)
                switch message.kind {
                case .entry: try body(message)
                case .result: return try message.success(.search)
                case .reference: if keepsReferences { try note(reference: message) }
                case .intermediate: break
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
