import CLDAP
import Foundation

/// A connection to a directory server with its root DSE (RFC 4512 section 5.1), and the searches, in pages, that all
/// methods of reading use.
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
        /// The name of this domain controller's own object.
        var serviceName: String?
        var highestCommittedUSN: String?
        /// Whether the domain controller says that it has received the changes of the others; nil for other servers.
        var isSynchronized: Bool?
    }

    /// The search references that the server has sent over this connection, each once.
    private(set) var references: Set<String> = []
    /// The most references that are kept, so that no server can fill the memory.
    private static let mostReferences = 10_000

    init(
        _ connection: LDAPConnection, _ configuration: DirectoryConfiguration, check: LDAPConnection.Check
    ) throws(LDAPError) {
        self.connection = connection
        self.configuration = configuration
        root = try Self.readRoot(connection, check)
        // MS-ADTS section 3.1.1.3.2.25: it hasn't heard from another domain controller yet since it was started or
        // restored.
        guard root.isSynchronized != false else {
            throw .search(
                LDAP_UNAVAILABLE,
                "the domain controller isn't synchronized with the others (isSynchronized: FALSE), so its list may be old; "
                    + "see repadmin /showrepl, or samba-tool drs showrepl, there")
        }
        if !configuration.bases.isEmpty {
            bases = configuration.bases
        } else if let context = root.defaultNamingContext, configuration.dialect == .activeDirectory {
            bases = [context]
        } else {
            // Sorted, as servers name them in different orders.
            bases = root.namingContexts.sorted()
        }
        guard !bases.isEmpty else {
            throw .search(LDAP_NO_SUCH_OBJECT, "the server doesn't show its naming contexts to this account; set bases")
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
            let message = try connection.receive(id, patience: connection.options.timeout, check: check)
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

    /// Makes a small search; throws if the connection is broken.
    func ping(_ check: LDAPConnection.Check) throws(LDAPError) {
        let id = try connection.search(
            base: "", scope: postern_ldap_scope_base, filter: "(objectClass=*)", attributes: ["1.1"])
        while try connection.receive(id, patience: patience, check: check).kind != .result {}
    }

    /// Calls the body with all entries of a search, in pages if the server has pages.
    ///
    /// An error ends the search, whatever has come before it. References to other servers are passed over, unless
    /// libldap follows them.
    ///
    /// - Parameter keepsReferences: whether references are kept in ``references``, as recipients may lie behind them.
    func forEachEntry(
        base: String, scope: Int32 = postern_ldap_scope_subtree, filter: String, attributes: [String],
        controls: [LDAPControl] = [], keepsReferences: Bool = false, check: LDAPConnection.Check,
        _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) {
        // Where libldap follows references, it joins the servers' results and loses the control with the next page's
        // cookie.
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
            let answer = try receive(id, base: base, keepsReferences: keepsReferences, check: check) {
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
                throw .malformed("a page without a control that says whether another one follows")
            }
            cookie = next
        } while !cookie.isEmpty
    }

    /// The most empty pages in a row. Empty pages are normal where the account may not see the entries, but no server
    /// may send them forever.
    private static let mostEmptyPages = 100_000

    /// Keeps the URIs of a search reference.
    func note(reference message: LDAPMessage) throws(LDAPError) {
        let addresses = try message.references()
        if configuration.followsReferrals {
            if connection.hasFollowed(addresses) { return }
            throw .search(
                LDAP_REFERRAL,
                "the server refers to \(addresses.map { escapedText($0) }.joined(separator: " or ")), and Postern can't follow the reference, so "
                    + "entries are missing")
        }
        for address in addresses where references.count < Self.mostReferences { references.insert(address) }
    }

    /// Compares the references with those of the last list.
    ///
    /// - Parameter isWhole: whether the whole list was read, rather than its changes.
    /// - Returns: the references to store with the list.
    /// - Throws: an error for a new reference: entries may have moved behind it.
    func checkReferences(
        _ request: ReadRequest, isWhole: Bool, _ remarks: inout [String]
    ) throws(LDAPError) -> [String] {
        let known = DirectoryCursor(request.previous?.cursor)?.references
        let accepts = request.acceptsNewReferences
        let new = references.subtracting(known ?? []).sorted()
        let next = (isWhole ? references : references.union(known ?? [])).sorted()
        guard !new.isEmpty else { return next }
        let shown = new.prefix(5).map { escapedText($0) }.joined(separator: ", ") + (new.count > 5 ? ", …" : "")
        guard known == nil || accepts else {
            throw .search(
                LDAP_REFERRAL,
                "the server sent a new search reference: \(shown); recipients may have moved there, where Postern doesn't read them. Add "
                    + "that server or base as a source, or set follow_referrals = true; if no recipient is missing, accept the reference: "
                    + "postern sync --accept-shrink"
            )
        }
        remarks.append(
            "the server refers to \(new.count == 1 ? "another server" : "\(new.count) other servers") for a part of the directory, "
                + "which Postern doesn't read: \(shown)")
        return next
    }

    /// Forgets the references of earlier searches, before the whole list is read.
    func forgetReferences() { references = [] }

    /// Calls the body with the entries of one search; returns the controls of its result.
    func receive(
        _ id: Int32, base: String, keepsReferences: Bool = false, check: LDAPConnection.Check,
        _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) -> [LDAPControl] {
        do throws(LDAPError) {
            while true {
                let message = try connection.receive(id, patience: patience, check: check)
                switch message.kind {
                case .entry: try body(message)
                case .result: return try message.success(.search)
                case .reference: if keepsReferences { try note(reference: message) }
                case .intermediate: break
                }
            }
        } catch {
            throw error.naming(base)
        }
    }

    /// A function that reads the remaining values of an attribute, in as many messages as needed (MS-ADTS section
    /// 3.1.1.3.1.3.3).
    func remainder(_ check: @escaping LDAPConnection.Check) -> DirectoryEntryReader.Remainder {
        { [self] (attribute, dn, first) throws(LDAPError) in
            var values: [[UInt8]] = []
            var next: Int? = first
            while let from = next {
                next = nil
                let id = try connection.search(
                    base: dn, scope: postern_ldap_scope_base, filter: "(objectClass=*)",
                    attributes: ["\(attribute);range=\(from)-*"])
                _ = try receive(id, base: dn, check: check) { message throws(LDAPError) in
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

    /// Reads all entries below all bases.
    func readAll(
        into entries: SourceEntries, report: inout SourceReport, check: @escaping LDAPConnection.Check
    ) throws(LDAPError) {
        entries.begin()
        let reader = DirectoryEntryReader(configuration, into: entries, report: report)
        let remainder = remainder(check)
        forgetReferences()
        for base in bases {
            try forEachEntry(
                base: base, filter: configuration.wholeFilter,
                attributes: DirectoryEntryReader.attributes(configuration), keepsReferences: true, check: check
            ) { message throws(LDAPError) in try reader.read(message, remainder: remainder) }
        }
        report = reader.report
    }
}
