import CLDAP
import Foundation

/// Follows changes by DirSync (MS-ADTS section 3.1.1.3.4.1.3); its cookies hold on every domain controller.
final class DirSyncFollower: ActiveDirectoryFollower, DirectoryFollower {
    static let name = "DirSync"
    static let method = DirectoryCursor.Method.dirSync

    /// Stand in the cursor: an account without the right to replicate sees what it may read; deleted objects aren't told of.
    private static let withObjectSecurity = "object security"
    private static let withoutTombstones = "no tombstones"

    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, stays: Bool) throws(LDAPError) {
        try super.init(session, cursor, Self.method, stays: stays)
    }

    private var objectSecurity: Bool { position.server?.hasPrefix(Self.withObjectSecurity) == true }

    override var tellsOfDeletions: Bool { position.server?.hasSuffix(Self.withoutTombstones) != true }

    override func goOn(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        report.method = Self.name
        return try super.goOn(request, intake, index, &report)
    }

    override func start(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        // Rights may have been given or taken since.
        setServer(nil)
        do throws(LDAPError) {
            try findPositions(check)
        } catch {
            guard error.code == LDAP_INSUFFICIENT_ACCESS else { throw error }
            setServer(Self.withObjectSecurity)
            try findPositions(check)
        }
    }

    /// Reads no more than the tombstones: who is shown none, not even the folder that they lie in, isn't told of deletions.
    private func findPositions(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        var isBlind = false
        for context in contexts {
            var isAny = false
            try read(context, from: [], filter: "(isDeleted=TRUE)", ["isDeleted"], check) { _ throws(LDAPError) in
                isAny = true
            }
            isBlind = isBlind || !isAny
        }
        if isBlind {
            setServer(objectSecurity ? "\(Self.withObjectSecurity), \(Self.withoutTombstones)" : Self.withoutTombstones)
        }
    }

    override func collect(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> ChangedObjects {
        var changed = ChangedObjects()
        for context in contexts {
            let cookie = position.positions[context].map { Array($0) } ?? []
            // A narrower filter would not tell of an object that has left it.
            try read(context, from: cookie, filter: "(objectClass=*)", watched, check) { message throws(LDAPError) in
                var id: [UInt8]?
                var isNamed = false
                try message.forEachAttribute { name, values in
                    if name.equalsIgnoringCase("objectguid") {
                        id = values.first { _ in true }.flatMap(DirectoryEntryReader.id)
                    } else if name.equalsIgnoringCase("name") || name.equalsIgnoringCase("parentguid") {
                        isNamed = true
                    }
                }
                guard let id else { return }
                changed.all.insert(id)
                if isNamed { changed.named.insert(id) }
            }
        }
        return changed
    }

    /// The attributes whose change is of interest: those that are read, and those that the filters look at.
    private var watched: [String] {
        let configuration = session.configuration
        var names = DirectoryEntryReader.attributes(configuration).map { String($0.prefix { $0 != ";" }) }
        names += LDAPFilter.attributes(configuration.wholeFilter)
        names += ["objectClass", "name", "isDeleted"]
        if asksForMembers { names.append("member") }
        var seen: Set<String> = []
        return names.filter { seen.insert($0.lowercased()).inserted }
    }

    /// Reads from a cookie to where the directory is now, and keeps the new cookie.
    private func read(
        _ context: String, from cookie: [UInt8], filter: String, _ attributes: [String],
        _ check: @escaping LDAPConnection.Check, _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) {
        var cookie = cookie
        while true {
            let id = try session.connection.search(
                base: context, filter: filter, attributes: attributes,
                controls: [.dirSync(cookie: cookie, objectSecurity: objectSecurity)])
            guard let answer = try session.receive(id, base: context, check, body).dirSync else {
                throw LDAPError(.search, LDAP_NOT_SUPPORTED, "the server answers without a DirSync control")
            }
            cookie = answer.cookie
            if !answer.hasMore { break }
        }
        setPosition(context, Data(cookie))
    }
}
