import CLDAP
import Foundation

/// Follows changes by uSNChanged and tombstones on one domain controller, as each has numbers of its own.
final class USNFollower: ActiveDirectoryFollower, DirectoryFollower {
    static let name = "uSNChanged"
    static let method = DirectoryCursor.Method.usn

    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, wantsReports: Bool) throws(LDAPError) {
        try super.init(session, cursor, method: Self.method, wantsReports: wantsReports)
    }

    override func readNext(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        report.method = Self.name
        return try super.readNext(request, into: entries, report: &report)
    }

    override func findPosition(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        let root = try DirectorySession.readRoot(session.connection, check)
        guard let identity = try identity(check), let number = root.highestCommittedUSN else {
            throw LDAPError(
                .search, code: LDAP_NOT_SUPPORTED, "the server doesn't show its invocationId and highestCommittedUSN")
        }
        for context in contexts {
            // Without tombstones, deletions would never be seen.
            guard try seesTombstones(context, check) else {
                throw LDAPError(
                    .search, code: LDAP_INSUFFICIENT_ACCESS, "the account may not read CN=Deleted Objects,\(context)")
            }
            setPosition(context, Data(number.utf8))
        }
        setServer(identity)
    }

    override func findChanges(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> ChangedObjects {
        guard let identity = try identity(check), identity == position.server else {
            throw LDAPError(
                .search, code: LDAPError.syncRefreshRequired,
                "the last sync read another domain controller, which has numbers of its own")
        }
        let now = try DirectorySession.readRoot(session.connection, check).highestCommittedUSN
        guard let now, let highest = Int64(now) else {
            throw LDAPError(.search, code: LDAP_NOT_SUPPORTED, "the server doesn't show its highestCommittedUSN")
        }
        var changed = ChangedObjects()
        for context in contexts {
            guard let last = position.positions[context].flatMap({ Int64(String(decoding: $0, as: UTF8.self)) }),
                last < Int64.max, last <= highest
            else {
                throw LDAPError(
                    .search, code: LDAPError.syncRefreshRequired,
                    "the domain controller was restored to an earlier state")
            }
            let filter = "(uSNChanged>=\(last + 1))"
            try session.forEachEntry(base: context, filter: filter, attributes: ["objectGUID"], check: check) {
                message throws(LDAPError) in
                for value in try message.bytes("objectGUID") where value.count == 16 {
                    changed.all.insert(value)
                    changed.named.insert(value)
                }
            }
            try session.forEachEntry(
                base: context, filter: "(&(isDeleted=TRUE)\(filter))", attributes: ["objectGUID"],
                controls: [.showDeleted], check: check
            ) { message throws(LDAPError) in
                for value in try message.bytes("objectGUID") where value.count == 16 { changed.all.insert(value) }
            }
            setPosition(context, Data(now.utf8))
        }
        return changed
    }

    /// The identity of this copy of the domain controller's database, which changes when it is restored from a backup.
    private func identity(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> String? {
        guard let name = session.root.serviceName else { return nil }
        var identity: String?
        try session.forEachEntry(
            base: name, scope: postern_ldap_scope_base, filter: "(objectClass=*)", attributes: ["invocationId"],
            check: check
        ) { message throws(LDAPError) in
            identity = try message.bytes("invocationId").first.map { LDAPFilter.equals("invocationId", $0) }
        }
        return identity
    }
}
