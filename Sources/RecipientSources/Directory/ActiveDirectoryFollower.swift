import CLDAP
import Foundation

/// The base class of both ways to follow an Active Directory. They find the objects that have changed, and read these
/// again: an object that has moved out of the bases or the filter, or into them, is followed, too.
class ActiveDirectoryFollower {
    let session: DirectorySession
    private(set) var cursor: Data?
    var position: DirectoryCursor
    let isComplete: Bool
    /// The naming contexts that the bases lie in.
    let contexts: [String]
    /// The searches that the server answers at every change; empty if it isn't asked to report changes.
    private var notifications: [Int32] = []
    private let wantsReports: Bool
    private var hasReportedChange = false

    /// How many changed objects are read one by one; beyond, reading everything is cheaper.
    private static let mostObjects = 20_000
    private static let objectsAtOnce = 50

    init(
        _ session: DirectorySession, _ cursor: DirectoryCursor?, method: DirectoryCursor.Method, wantsReports: Bool
    ) throws(LDAPError) {
        self.session = session
        self.wantsReports = wantsReports
        let bases = try session.bases.map { base throws(LDAPError) in
            guard let name = DistinguishedName(base) else {
                throw .search(LDAP_INVALID_DN_SYNTAX, "the base \(base) is not a distinguished name")
            }
            return name
        }
        let known = session.root.namingContexts.compactMap { text in DistinguishedName(text).map { (text, $0) } }
            .sorted { $0.1.depth > $1.1.depth }
        var contexts: [String] = []
        for base in bases {
            guard let context = known.first(where: { base.isWithin($0.1) })?.0 else {
                throw .search(LDAP_NOT_SUPPORTED, "the server has no naming context for one of the bases")
            }
            if !contexts.contains(context) { contexts.append(context) }
        }
        self.contexts = contexts
        if let cursor, cursor.method == method, contexts.allSatisfy({ cursor.positions[$0] != nil }) {
            position = cursor
            isComplete = false
        } else {
            position = DirectoryCursor(method, reconciled: Date())
            isComplete = true
        }
    }

    // MARK: Overridden by the methods

    /// Sets the position to the directory's present state, before all of it is read.
    func findPosition(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {}

    /// Whether the server reports deletions. If it doesn't, only the changes that it reports by itself are followed,
    /// and everything is read at each interval.
    var reportsDeletions: Bool { true }

    /// Finds the objects that have changed since the position, and advances the position.
    func findChanges(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> ChangedObjects { ChangedObjects() }

    /// The objects that have changed, by the sixteen bytes of their GUIDs.
    struct ChangedObjects {
        var all: Set<[UInt8]> = []
        /// The objects that were made, renamed or moved; they may be folders.
        var named: Set<[UInt8]> = []
    }

    // MARK: Reading

    func readFirst(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        if wantsReports { requestReports() }
        if isComplete { return try readAll(request, into: entries, report: &report) }
        return try readChanges(request, into: entries, report: &report)
    }

    func readNext(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        hasReportedChange = false
        return try readChanges(request, into: entries, report: &report)
    }

    private func readAll(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        try findPosition(request.check)
        try session.readAll(into: entries, report: &report, check: request.check)
        position.references = try session.checkReferences(request, isWhole: true, &report.remarks)
        position.reconciled = Date()
        advance()
        return .full
    }

    private func readChanges(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        guard reportsDeletions || request.hasReportedChange else {
            return try readAll(request, into: entries, report: &report)
        }
        let changed = try findChanges(request.check)
        guard !changed.all.isEmpty else {
            // The older position in the state is as good, and each new one would cost a write.
            if cursor == nil { advance() }
            return .unchanged
        }
        if changed.all.count > Self.mostObjects {
            report.remarks.append(
                "\(changed.all.count) objects have changed, more than \(Self.mostObjects): Postern reads the whole directory again"
            )
            return try readAll(request, into: entries, report: &report)
        }
        if try hasMovedFolder(changed.named, request.check) {
            report.remarks.append(
                "a folder of the directory was moved, renamed or created: Postern reads the whole directory again")
            return try readAll(request, into: entries, report: &report)
        }
        if try hasChangedGroup(changed.all, request.check) {
            report.remarks.append(
                "a group was changed, and the filter asks for the members of groups: Postern reads the whole directory again"
            )
            return try readAll(request, into: entries, report: &report)
        }
        entries.begin(changesOnly: true)
        let reader = DirectoryEntryReader(session.configuration, into: entries, report: report)
        for object in changed.all { entries.replace([0] + object) }
        try forEach(
            changed.all, also: session.configuration.wholeFilter, bases: session.bases, check: request.check,
            keepsReferences: true
        ) { message throws(LDAPError) in
            try reader.read(message, remainder: session.remainder(request.check))
        }
        report = reader.report
        report.read = changed.all.count
        position.references = try session.checkReferences(request, isWhole: false, &report.remarks)
        advance()
        return .changes
    }

    private func advance() {
        position.serial &+= 1
        cursor = position.encodedCursor
    }

    /// Reads objects by their GUIDs, in portions.
    private func forEach(
        _ objects: Set<[UInt8]>, also filter: String, bases: [String], check: @escaping LDAPConnection.Check,
        attributes: [String]? = nil, controls: [LDAPControl] = [], keepsReferences: Bool = false,
        _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) {
        let list = Array(objects)
        for start in stride(from: 0, to: list.count, by: Self.objectsAtOnce) {
            let portion = list[start..<min(start + Self.objectsAtOnce, list.count)]
            let wanted = LDAPFilter.any(portion.map { LDAPFilter.equals("objectGUID", $0) })
            for base in bases {
                try session.forEachEntry(
                    base: base, filter: LDAPFilter.all([wanted, filter]),
                    attributes: attributes ?? DirectoryEntryReader.attributes(session.configuration),
                    controls: controls, keepsReferences: keepsReferences, check: check, body)
            }
        }
    }

    /// Whether a folder (an organizational unit or container) has moved into the bases or out of them: no message names
    /// the objects below it, which have moved with it.
    private func hasMovedFolder(
        _ objects: Set<[UInt8]>, _ check: @escaping LDAPConnection.Check
    ) throws(LDAPError) -> Bool {
        let isWhole = session.configuration.excludedBases.isEmpty && session.bases == contexts
        guard !isWhole, !objects.isEmpty else { return false }
        var found = false
        try forEach(
            objects, also: "(|(objectClass=organizationalUnit)(objectClass=container))", bases: contexts, check: check,
            attributes: ["1.1"]
        ) { _ throws(LDAPError) in found = true }
        return found
    }

    /// Whether the filters ask for the groups that an object is a member of. Members are stored with the group: the
    /// server doesn't report the objects that join or leave it.
    var asksForMembers: Bool {
        LDAPFilter.attributes(session.configuration.wholeFilter).contains { $0.lowercased() == "memberof" }
    }

    /// Whether a group is among the objects, even a deleted one, and the filters ask for members.
    private func hasChangedGroup(
        _ objects: Set<[UInt8]>, _ check: @escaping LDAPConnection.Check
    ) throws(LDAPError) -> Bool {
        guard asksForMembers else { return false }
        var found = false
        try forEach(
            objects, also: "(objectClass=group)", bases: contexts, check: check, attributes: ["1.1"],
            controls: [.showDeleted]
        ) { _ throws(LDAPError) in found = true }
        return found
    }

    /// Whether this account may see deleted objects; by default only administrators may. Samba shows the name of their
    /// container to everybody, but its content only to accounts that may read the container.
    func seesTombstones(_ context: String, _ check: @escaping LDAPConnection.Check) throws(LDAPError) -> Bool {
        var isSeen = false
        do throws(LDAPError) {
            try session.forEachEntry(
                base: "CN=Deleted Objects,\(context)", scope: postern_ldap_scope_base, filter: "(objectClass=*)",
                attributes: ["isDeleted"], controls: [.showDeleted], check: check
            ) { message throws(LDAPError) in isSeen = try !message.texts("isDeleted").isEmpty }
        } catch {
            guard error.code == LDAP_NO_SUCH_OBJECT || error.code == LDAP_INSUFFICIENT_ACCESS else { throw error }
        }
        return isSeen
    }

    // MARK: Notifications

    /// Asks the server to report every change (MS-ADTS section 3.1.1.3.4.1.9), deletions included by the second
    /// control. A server that doesn't know the control is polled.
    private func requestReports() {
        guard session.root.supportedControls.contains(LDAPControl.OID.notification) else { return }
        for context in contexts {
            let id = try? session.connection.search(
                base: context, filter: "(objectClass=*)", attributes: ["objectGUID"],
                controls: [.notification, .showDeleted])
            if let id { notifications.append(id) }
        }
    }

    func receiveReports() throws(LDAPError) -> Bool {
        while let message = try session.connection.poll(-1) {
            guard notifications.contains(message.id) else { continue }
            if message.kind == .result {
                notifications.removeAll { $0 == message.id }
            } else {
                hasReportedChange = true
            }
        }
        return hasReportedChange
    }
}

/// Follows changes by uSNChanged and tombstones on one domain controller, as each has numbers of its own.
final class USNFollower: ActiveDirectoryFollower, DirectoryFollower {
    static let name = "uSNChanged"
    static let method = DirectoryCursor.Method.usn

    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, wantsReports: Bool) throws(LDAPError) {
        try super.init(session, cursor, method: Self.method, wantsReports: wantsReports)
    }

    override func findPosition(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        let root = try DirectorySession.readRoot(session.connection, check)
        guard let identity = try identity(check), let number = root.highestCommittedUSN else {
            throw .search(LDAP_NOT_SUPPORTED, "the server doesn't show its invocationId and highestCommittedUSN")
        }
        for context in contexts {
            // Without tombstones, deletions would never be seen.
            guard try seesTombstones(context, check) else {
                throw .search(LDAP_INSUFFICIENT_ACCESS, "the account may not read CN=Deleted Objects,\(context)")
            }
            position.positions[context] = Data(number.utf8)
        }
        position.server = identity
    }

    override func findChanges(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> ChangedObjects {
        guard let identity = try identity(check), identity == position.server else {
            throw .search(
                LDAPError.syncRefreshRequired,
                "the last sync read another domain controller, which has numbers of its own")
        }
        let now = try DirectorySession.readRoot(session.connection, check).highestCommittedUSN
        guard let now, let highest = Int64(now) else {
            throw .search(LDAP_NOT_SUPPORTED, "the server doesn't show its highestCommittedUSN")
        }
        var changed = ChangedObjects()
        for context in contexts {
            guard let last = position.positions[context].flatMap({ Int64(String(decoding: $0, as: UTF8.self)) }),
                last < Int64.max, last <= highest
            else {
                throw .search(LDAPError.syncRefreshRequired, "the domain controller was restored to an earlier state")
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
            position.positions[context] = Data(now.utf8)
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
