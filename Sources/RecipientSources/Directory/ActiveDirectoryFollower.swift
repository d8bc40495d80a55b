import CLDAP
import Foundation

/// What both ways to follow an Active Directory have in common: they tell which objects have changed, and these are read again, so that
/// whatever moved them out of the bases or the filter, or into them, is followed too.
class ActiveDirectoryFollower {
    let session: DirectorySession
    private(set) var cursor: Data?
    private(set) var position: DirectoryCursor
    let isComplete: Bool
    /// The naming contexts that the bases lie in.
    let contexts: [String]
    /// The searches that the server answers at every change; empty where it isn't asked to tell.
    private var notifications: [Int32] = []
    private let stays: Bool
    private var hasHeard = false

    /// How many changed objects are read one by one; beyond, reading everything is cheaper.
    private static let mostObjects = 20_000
    private static let objectsAtOnce = 50

    init(
        _ session: DirectorySession, _ cursor: DirectoryCursor?, _ method: DirectoryCursor.Method, stays: Bool
    ) throws(LDAPError) {
        self.session = session
        self.stays = stays
        let bases = try session.bases.map { base throws(LDAPError) in
            guard let name = DistinguishedName(base) else {
                throw LDAPError(.search, LDAP_INVALID_DN_SYNTAX, "\(base) is no name")
            }
            return name
        }
        let known = session.root.namingContexts.compactMap { text in DistinguishedName(text).map { (text, $0) } }
            .sorted { $0.1.depth > $1.1.depth }
        var contexts: [String] = []
        for base in bases {
            guard let context = known.first(where: { base.isWithin($0.1) })?.0 else {
                throw LDAPError(.search, LDAP_NOT_SUPPORTED, "a base lies in no naming context of the server")
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

    // MARK: What a method does by itself

    /// Finds out where the directory is now, before all of it is read.
    func start(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {}

    /// Whether deleted objects are told of. Where they aren't, changes are followed as they come, and everything is read when the
    /// time has come.
    var tellsOfDeletions: Bool { true }

    /// Collects the objects that have changed since, and moves the position on.
    func collect(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> ChangedObjects { ChangedObjects() }

    /// The objects that have changed, by their sixteen octets.
    struct ChangedObjects {
        var all: Set<[UInt8]> = []
        /// Those that were named or moved, which may be folders.
        var named: Set<[UInt8]> = []
    }

    func setPosition(_ context: String, _ value: Data) { position.positions[context] = value }

    func setServer(_ identity: String?) { position.server = identity }

    // MARK: Pulls

    func begin(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        if stays { askForNews() }
        if isComplete { return try readAll(request, intake, index, &report) }
        return try readChanges(request, intake, index, &report)
    }

    func goOn(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        hasHeard = false
        return try readChanges(request, intake, index, &report)
    }

    private func readAll(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        try start(request.check)
        try session.readAll(
            into: intake, index: index, tag: intake.begin(source: index), report: &report, check: request.check)
        position.references = try session.checkReferences(request, isWhole: true, &report.remarks)
        position.reconciled = Date()
        advance()
        return .full
    }

    private func readChanges(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        guard tellsOfDeletions || request.isNews else { return try readAll(request, intake, index, &report) }
        let changed = try collect(request.check)
        guard !changed.all.isEmpty else {
            // The state keeps its older position, from which nothing more would be told; to store each new one isn't worth a write.
            if cursor == nil { advance() }
            return .unchanged
        }
        if changed.all.count > Self.mostObjects {
            report.remarks.append("\(changed.all.count) objects have changed: everything is read again")
            return try readAll(request, intake, index, &report)
        }
        if try hasMovedFolder(changed.named, request.check) {
            report.remarks.append("a folder of the directory was moved, renamed or made: everything is read again")
            return try readAll(request, intake, index, &report)
        }
        if try hasChangedGroup(changed.all, request.check) {
            report.remarks.append(
                "a group was changed, and the filter asks for the members of groups: everything is read again")
            return try readAll(request, intake, index, &report)
        }
        let tag = intake.begin(source: index, changes: true)
        let reader = DirectoryEntryReader(session.configuration, index: index, into: intake, counts: report)
        for object in changed.all { intake.replace([0] + object, source: index) }
        try forEach(
            changed.all, also: session.configuration.wholeFilter, bases: session.bases, request.check,
            keepsReferences: true
        ) { message throws(LDAPError) in
            try reader.read(message, tag: tag, rest: session.rest(request.check))
        }
        report = reader.counts
        report.read = changed.all.count
        position.references = try session.checkReferences(request, isWhole: false, &report.remarks)
        advance()
        return .changes
    }

    private func advance() {
        position.serial &+= 1
        cursor = position.encoded
    }

    /// Reads some objects by their octets, in portions.
    private func forEach(
        _ objects: Set<[UInt8]>, also filter: String, bases: [String], _ check: @escaping LDAPConnection.Check,
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

    /// Whether an organizational unit or container is among the objects, and the bases make it matter: the objects below it have moved
    /// with it, and no message says so.
    private func hasMovedFolder(
        _ objects: Set<[UInt8]>, _ check: @escaping LDAPConnection.Check
    ) throws(LDAPError) -> Bool {
        let isWhole = session.configuration.excludedBases.isEmpty && session.bases == contexts
        guard !isWhole, !objects.isEmpty else { return false }
        var found = false
        try forEach(
            objects, also: "(|(objectClass=organizationalUnit)(objectClass=container))", bases: contexts, check,
            attributes: ["1.1"]
        ) { _ throws(LDAPError) in found = true }
        return found
    }

    /// Whether the filters ask for the groups that an object is a member of. That stands with the group: an object that comes into it
    /// or leaves it isn't told of.
    var asksForMembers: Bool {
        LDAPFilter.attributes(session.configuration.wholeFilter).contains { $0.lowercased() == "memberof" }
    }

    /// Whether a group is among the objects, be it gone, and the filters make it matter.
    private func hasChangedGroup(
        _ objects: Set<[UInt8]>, _ check: @escaping LDAPConnection.Check
    ) throws(LDAPError) -> Bool {
        guard asksForMembers else { return false }
        var found = false
        try forEach(
            objects, also: "(objectClass=group)", bases: contexts, check, attributes: ["1.1"], controls: [.showDeleted]
        ) { _ throws(LDAPError) in found = true }
        return found
    }

    /// Whether this account learns of deletions; by default none but administrators may look at deleted objects. Samba shows the name
    /// of their container to all, but what it holds only to those who may read the container too.
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

    /// Asks to be told of every change (MS-ADTS section 3.1.1.3.4.1.9), which only with the second control includes deletions; a server
    /// that doesn't is polled.
    private func askForNews() {
        guard session.root.supportedControls.contains(LDAPControl.OID.notification) else { return }
        for context in contexts {
            let id = try? session.connection.search(
                base: context, filter: "(objectClass=*)", attributes: ["objectGUID"],
                controls: [.notification, .showDeleted])
            if let id { notifications.append(id) }
        }
    }

    func takeNews() throws(LDAPError) -> Bool {
        while let message = try session.connection.poll(-1) {
            guard notifications.contains(message.id) else { continue }
            if message.kind == .result {
                notifications.removeAll { $0 == message.id }
            } else {
                hasHeard = true
            }
        }
        return hasHeard
    }
}
