import CLDAP
import Foundation

/// Follows changes by DirSync (MS-ADTS section 3.1.1.3.4.1.3), whose cookies are valid on every domain controller.
final class DirSyncFollower: ActiveDirectoryFollower, DirectoryFollower {
    static let name = "DirSync"
    static let method = DirectoryCursor.Method.dirSync

    /// The account's limits, stored in the cursor: without the right to replicate, it sees only what it may read; it
    /// isn't shown deletions.
    private static let withObjectSecurity = "object security"
    private static let withoutTombstones = "no tombstones"

    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, wantsReports: Bool) throws(LDAPError) {
        try super.init(session, cursor, method: Self.method, wantsReports: wantsReports)
    }

    private var objectSecurity: Bool { position.server?.hasPrefix(Self.withObjectSecurity) == true }

    override var reportsDeletions: Bool { position.server?.hasSuffix(Self.withoutTombstones) != true }

    override func findPosition(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        // The account's rights may have changed.
        position.server = nil
        do throws(LDAPError) {
            try findPositions(check)
        } catch {
            guard error.code == LDAP_INSUFFICIENT_ACCESS else { throw error }
            position.server = Self.withObjectSecurity
            try findPositions(check)
        }
    }

    /// Reads the tombstones only. If the server shows the account none, it won't report deletions to it either.
    private func findPositions(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        var isBlind = false
        for context in contexts {
            var isAny = false
            try read(context, from: [], filter: "(isDeleted=TRUE)", attributes: ["isDeleted"], check: check) {
                _ throws(LDAPError) in
                isAny = true
            }
            isBlind = isBlind || !isAny
        }
        if isBlind {
            position.server =
                objectSecurity ? "\(Self.withObjectSecurity), \(Self.withoutTombstones)" : Self.withoutTombstones
        }
    }

    override func findChanges(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> ChangedObjects {
        var changed = ChangedObjects()
        for context in contexts {
            let cookie = position.positions[context].map { Array($0) } ?? []
            // With a narrower filter the server wouldn't report an object that has left it.
            try read(context, from: cookie, filter: "(objectClass=*)", attributes: watched, check: check) {
                message throws(LDAPError) in
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

    /// The attributes whose changes matter: those that are read, and those in the filters.
    private var watched: [String] {
        let configuration = session.configuration
        var names = DirectoryEntryReader.attributes(configuration).map { String($0.prefix { $0 != ";" }) }
        names += LDAPFilter.attributes(configuration.wholeFilter)
        names += ["objectClass", "name", "isDeleted"]
        if asksForMembers { names.append("member") }
        var seen: Set<String> = []
        return names.filter { seen.insert($0.lowercased()).inserted }
    }

    /// Reads the changes since a cookie, and keeps the new cookie.
    private func read(
        _ context: String, from cookie: [UInt8], filter: String, attributes: [String],
        check: @escaping LDAPConnection.Check, _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) {
        var cookie = cookie
        while true {
            let id = try session.connection.search(
                base: context, filter: filter, attributes: attributes,
                controls: [.dirSync(cookie: cookie, objectSecurity: objectSecurity)])
            guard let answer = try session.receive(id, base: context, check: check, body).dirSync else {
                throw .search(LDAP_NOT_SUPPORTED, "the server's answer has no DirSync control")
            }
            cookie = answer.cookie
            if !answer.hasMore { break }
        }
        position.positions[context] = Data(cookie)
    }
}
