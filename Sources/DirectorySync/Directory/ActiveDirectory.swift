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
        try forEach(changed.all, also: session.configuration.wholeFilter, bases: session.bases, request.check) {
            message throws(LDAPError) in
            try reader.read(message, tag: tag, rest: session.rest(request.check))
        }
        report = reader.counts
        report.read = changed.all.count
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
        attributes: [String]? = nil, controls: [LDAPControl] = [], _ body: (LDAPMessage) throws(LDAPError) -> Void
    ) throws(LDAPError) {
        let list = Array(objects)
        for start in stride(from: 0, to: list.count, by: Self.objectsAtOnce) {
            let portion = list[start..<min(start + Self.objectsAtOnce, list.count)]
            let wanted = LDAPFilter.any(portion.map { LDAPFilter.equals("objectGUID", $0) })
            for base in bases {
                try session.forEachEntry(
                    base: base, filter: LDAPFilter.all([wanted, filter]),
                    attributes: attributes ?? DirectoryEntryReader.attributes(session.configuration),
                    controls: controls, check: check, body)
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

/// Follows changes by uSNChanged and tombstones, on one domain controller: its numbers mean nothing to the others.
final class USNFollower: ActiveDirectoryFollower, DirectoryFollower {
    static let name = "uSNChanged"
    static let method = DirectoryCursor.Method.usn

    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, stays: Bool) throws(LDAPError) {
        try super.init(session, cursor, Self.method, stays: stays)
    }

    override func goOn(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        report.method = Self.name
        return try super.goOn(request, intake, index, &report)
    }

    override func start(_ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        let root = try DirectorySession.readRoot(session.connection, check)
        guard let identity = try identity(check), let number = root.highestCommittedUSN else {
            throw LDAPError(
                .search, LDAP_NOT_SUPPORTED, "the server doesn't tell its invocationId and highestCommittedUSN")
        }
        for context in contexts {
            // Who can't see tombstones would never learn that an object has gone.
            guard try seesTombstones(context, check) else {
                throw LDAPError(
                    .search, LDAP_INSUFFICIENT_ACCESS, "the account may not read CN=Deleted Objects,\(context)")
            }
            setPosition(context, Data(number.utf8))
        }
        setServer(identity)
    }

    override func collect(_ check: @escaping LDAPConnection.Check) throws(LDAPError) -> ChangedObjects {
        guard let identity = try identity(check), identity == position.server else {
            throw LDAPError(
                .search, LDAPError.syncRefreshRequired, "the numbers of the last sync are another domain controller's")
        }
        let now = try DirectorySession.readRoot(session.connection, check).highestCommittedUSN
        guard let now, let highest = Int64(now) else {
            throw LDAPError(.search, LDAP_NOT_SUPPORTED, "the server doesn't tell its highestCommittedUSN")
        }
        var changed = ChangedObjects()
        for context in contexts {
            guard let last = position.positions[context].flatMap({ Int64(String(decoding: $0, as: UTF8.self)) }),
                last < Int64.max, last <= highest
            else {
                throw LDAPError(
                    .search, LDAPError.syncRefreshRequired, "the domain controller has gone back to an earlier state")
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

    /// What names this copy of the domain controller's database; another one after it was restored from a backup.
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
