import CLDAP
import Foundation

/// Follows changes by the LDAP Content Synchronization Operation (RFC 4533): a refresh since a cookie, and then, where a thread goes
/// on, each change as the server tells it.
final class ContentSynchronization: DirectoryFollower {
    static let name = "content synchronization (RFC 4533)"
    static let method = DirectoryCursor.Method.sync

    /// The search below one base.
    private struct Search {
        var id: Int32 = -1
        let base: String
        /// Tells its objects from those of the other bases: the server tells of each base by itself what is still there.
        let prefix: UInt8
        var cookie: [UInt8]?
    }

    let session: DirectorySession
    private(set) var cursor: Data?
    private var position: DirectoryCursor
    private let isComplete: Bool
    private var persists: Bool
    private var searches: [Search]
    /// What has come since the last pull.
    private var news: [LDAPMessage] = []

    /// How many messages wait here; beyond, a new refresh is as good.
    private static let mostNews = 20_000

    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, stays: Bool) throws(LDAPError) {
        self.session = session
        persists = stays
        guard session.bases.count <= 200 else {
            throw LDAPError(.search, LDAP_NOT_SUPPORTED, "more than 200 bases can't be followed so")
        }
        let known = cursor?.method == .sync ? cursor : nil
        searches = session.bases.enumerated().map { number, base in
            Search(
                base: base, prefix: UInt8(truncatingIfNeeded: number), cookie: known?.positions[base].map { Array($0) })
        }
        // Either all bases go on from a cookie, or all are read anew.
        isComplete = !searches.allSatisfy { $0.cookie != nil }
        if isComplete {
            for number in searches.indices { searches[number].cookie = nil }
        }
        position =
            isComplete
            ? DirectoryCursor(.sync, reconciled: Date()) : known ?? DirectoryCursor(.sync, reconciled: Date())
    }

    // MARK: The refresh

    func begin(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        let start = searches
        do throws(LDAPError) {
            return try refresh(request, intake, index, &report)
        } catch {
            guard persists, error.isRefusalOfMethod, error.code != LDAPError.syncRefreshRequired else { throw error }
            persists = false
            // A base that had been refreshed already is asked for the same again.
            searches = start
            report = SourceReport(server: report.server, remarks: report.remarks)
            return try refresh(request, intake, index, &report)
        }
    }

    private func refresh(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        let batch = Batch(
            session, intake, index, tag: intake.begin(source: index, changes: !isComplete), report, request.check,
            isComplete: isComplete)
        if isComplete { session.forgetReferences() }
        for number in searches.indices { try refresh(number, batch, request.check) }
        report = batch.reader.counts
        position.references = try session.checkReferences(request, isWhole: isComplete, &report.remarks)
        if isComplete || batch.hasChanges { position.serial &+= 1 }
        encodeCursor()
        if isComplete { return .full }
        return batch.hasChanges ? .changes : .unchanged
    }

    private func refresh(_ number: Int, _ batch: Batch, _ check: @escaping LDAPConnection.Check) throws(LDAPError) {
        let base = searches[number].base
        let id = try session.connection.search(
            base: base, filter: session.configuration.wholeFilter,
            attributes: DirectoryEntryReader.attributes(session.configuration, names: false),
            controls: [.sync(cookie: searches[number].cookie, persists: persists)])
        searches[number].id = id
        var present: Set<ObjectID> = []
        // What is still there must have been told in words: its mere absence from a short answer makes nothing go.
        var tellsPresent = false
        var tellsAll = true
        let before = searches[number].cookie
        let readBefore = batch.reader.counts.read
        do throws(LDAPError) {
            refresh: while true {
                let message = try session.connection.receive(
                    id, patience: session.connection.options.timeout, .search, check)
                switch message.kind {
                case .entry:
                    if try take(message, number, batch, &present) == .present { tellsPresent = true }
                case .reference: try session.note(reference: message)
                case .result:
                    let controls = try message.success(.search)
                    searches[number].id = -1
                    // A server that was asked to go on and ends the search doesn't tell of changes by itself.
                    guard let done = controls.syncDone else {
                        throw LDAPError.malformed("a refresh that ends without a Sync Done control")
                    }
                    if let cookie = done.cookie { searches[number].cookie = cookie }
                    tellsAll = tellsPresent || done.refreshDeletes
                    break refresh
                case .intermediate:
                    guard let info = try message.syncInfo() else { break }
                    switch info {
                    case .refreshPresent, .idSet(_, deletes: false, _): tellsPresent = true
                    default: break
                    }
                    if try take(info, number, batch, &present) { break refresh }
                }
            }
        } catch {
            guard error.code > 0, error.cancellation == nil else { throw error }
            throw LDAPError(error.operation, error.code, "\(printable(base.utf8)): \(error.text)")
        }
        guard !isComplete else { return }
        // A cookie that slapd can't read gets everything that is there, nothing of what has gone, and no new cookie.
        guard searches[number].cookie != before || batch.reader.counts.read == readBefore else {
            throw LDAPError(
                .search, LDAPError.syncRefreshRequired, "the server doesn't say where it is after its changes")
        }
        guard tellsAll else {
            throw LDAPError(
                .search, LDAPError.syncRefreshRequired, "the server tells neither what has gone nor what is still there"
            )
        }
        guard tellsPresent else { return }
        batch.keepOnly(present, prefix: searches[number].prefix)
    }

    /// - Parameter isStale: whether a later message of the batch says otherwise of the entry.
    /// - Returns: what the message says of its entry.
    @discardableResult
    private func take(
        _ message: LDAPMessage, _ number: Int, _ batch: Batch, _ present: inout Set<ObjectID>, isStale: Bool = false
    ) throws(LDAPError) -> SyncState4533.State {
        let state = try Self.state(of: message)
        if let cookie = state.cookie { searches[number].cookie = cookie }
        if state.state != .delete, !isComplete, let id = ObjectID(state.uuid) { present.insert(id) }
        if isStale {
            batch.replace([searches[number].prefix] + state.uuid)
        } else {
            try batch.take(message, state, prefix: searches[number].prefix)
        }
        return state.state
    }

    private static func state(of message: LDAPMessage) throws(LDAPError) -> SyncState4533 {
        guard let state = message.entryControls.syncState else {
            throw LDAPError.malformed("an entry without a Sync State control")
        }
        return state
    }

    /// The place of the last message of each entry: one that has changed twice must not leave what it was in between.
    private func lastNews() throws(LDAPError) -> [[UInt8]: Int] {
        var last: [[UInt8]: Int] = [:]
        for (place, message) in news.enumerated() {
            guard let search = searches.first(where: { $0.id == message.id }) else { continue }
            if message.kind == .entry {
                last[[search.prefix] + (try Self.state(of: message).uuid)] = place
            } else if message.kind == .intermediate, case .idSet(_, true, let uuids) = try message.syncInfo() {
                for uuid in uuids { last[[search.prefix] + uuid] = place }
            }
        }
        return last
    }

    /// Returns whether the refresh is done.
    private func take(
        _ info: SyncInfo, _ number: Int, _ batch: Batch, _ present: inout Set<ObjectID>
    ) throws(LDAPError) -> Bool {
        let prefix = searches[number].prefix
        switch info {
        case .newCookie(let cookie):
            searches[number].cookie = cookie
            return false
        case .refreshDelete(let cookie, let isDone), .refreshPresent(let cookie, let isDone):
            if let cookie { searches[number].cookie = cookie }
            return isDone
        case .idSet(let cookie, let deletes, let uuids):
            if let cookie { searches[number].cookie = cookie }
            for uuid in uuids {
                if deletes {
                    batch.replace([prefix] + uuid)
                } else if !isComplete, let id = ObjectID(uuid) {
                    present.insert(id)
                }
            }
            return false
        }
    }

    // MARK: Changes as they come

    var canGoOn: Bool { persists && searches.allSatisfy { $0.id >= 0 } }

    func takeNews() throws(LDAPError) -> Bool {
        while let message = try session.connection.poll(-1) {
            // An answer to nothing that is asked any more.
            guard searches.contains(where: { $0.id == message.id }) else { continue }
            news.append(message)
            guard news.count <= Self.mostNews else {
                news.removeAll()
                throw LDAPError(.search, LDAP_LOCAL_ERROR, "more changes at once than are kept")
            }
        }
        return !news.isEmpty
    }

    func goOn(
        _ request: PullRequest, _ intake: EntryIntake, _ index: Int, _ report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        if try !takeNews() {
            // Silence may mean that nothing changes, or that nobody is there any more.
            try session.ping(request.check)
            _ = try takeNews()
        }
        report.method = Self.name
        guard !news.isEmpty else { return .unchanged }
        let batch = Batch(
            session, intake, index, tag: intake.begin(source: index, changes: true), report, request.check,
            isComplete: false)
        var present: Set<ObjectID> = []
        let last = try lastNews()
        for (place, message) in news.enumerated() {
            guard let number = searches.firstIndex(where: { $0.id == message.id }) else { continue }
            switch message.kind {
            case .entry:
                let name = [searches[number].prefix] + (try Self.state(of: message).uuid)
                try take(message, number, batch, &present, isStale: last[name] != place)
            case .intermediate:
                if let info = try message.syncInfo() { _ = try take(info, number, batch, &present) }
            case .reference: try session.note(reference: message)
            case .result:
                _ = try message.success(.search)
                throw LDAPError(.search, LDAP_SERVER_DOWN, "the server has ended the search that tells of changes")
            }
        }
        news.removeAll()
        report = batch.reader.counts
        position.references = try session.checkReferences(request, isWhole: false, &report.remarks)
        position.serial &+= 1
        encodeCursor()
        return batch.hasChanges ? .changes : .unchanged
    }

    private func encodeCursor() {
        position.positions = [:]
        for search in searches { position.positions[search.base] = search.cookie.map { Data($0) } }
        cursor = position.encoded
    }

    /// The entries of one pull on their way into the intake.
    private final class Batch {
        let reader: DirectoryEntryReader
        private(set) var hasChanges = false
        private let intake: EntryIntake
        private let index: Int
        private let tag: Int
        private let rest: DirectoryEntryReader.Rest
        private let isComplete: Bool

        init(
            _ session: DirectorySession, _ intake: EntryIntake, _ index: Int, tag: Int, _ report: SourceReport,
            _ check: @escaping LDAPConnection.Check, isComplete: Bool
        ) {
            reader = DirectoryEntryReader(session.configuration, index: index, into: intake, counts: report)
            self.intake = intake
            self.index = index
            self.tag = tag
            self.isComplete = isComplete
            rest = session.rest(check)
        }

        func take(_ message: LDAPMessage, _ state: SyncState4533, prefix: UInt8) throws(LDAPError) {
            switch state.state {
            case .present: break
            case .delete: replace([prefix] + state.uuid)
            case .add, .modify:
                replace([prefix] + state.uuid)
                try reader.read(message, id: state.uuid, prefix: prefix, tag: tag, rest: rest)
            }
        }

        func replace(_ object: [UInt8]) {
            hasChanges = true
            if !isComplete { intake.replace(object, source: index) }
        }

        func keepOnly(_ present: Set<ObjectID>, prefix: UInt8) {
            hasChanges = true
            intake.keepOnly(present, prefix: prefix, source: index)
        }
    }
}
