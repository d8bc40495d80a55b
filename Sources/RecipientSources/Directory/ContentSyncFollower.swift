import CLDAP
import Foundation

/// Follows changes by the LDAP Content Synchronization Operation (RFC 4533): a refresh since a cookie, and then, if the
/// connection is kept, each change as the server reports it.
final class ContentSyncFollower: DirectoryFollower {
    static let name = "content synchronization (RFC 4533)"
    static let method = DirectoryCursor.Method.sync

    /// The search below one base.
    private struct Search {
        var id: Int32 = -1
        let base: String
        /// Tells its objects from those of the other bases: the server reports for each base which objects still exist
        /// there.
        let prefix: UInt8
        var cookie: [UInt8]?
    }

    let session: DirectorySession
    private(set) var cursor: Data?
    private var position: DirectoryCursor
    private let isComplete: Bool
    private var persists: Bool
    private var searches: [Search]
    /// The messages that have come since the last reading.
    private var reports: [LDAPMessage] = []

    /// The most messages that are kept; for more, a new refresh is as fast.
    private static let mostReports = 20_000

    init(_ session: DirectorySession, _ cursor: DirectoryCursor?, wantsReports: Bool) throws(LDAPError) {
        self.session = session
        persists = wantsReports
        guard session.bases.count <= 200 else {
            throw .search(LDAP_NOT_SUPPORTED, "it follows at most 200 bases, and there are more")
        }
        let known = cursor?.method == .sync ? cursor : nil
        searches = session.bases.enumerated().map { number, base in
            Search(
                base: base, prefix: UInt8(truncatingIfNeeded: number), cookie: known?.positions[base].map { Array($0) })
        }
        // Either all bases continue from a cookie, or all are read in full.
        isComplete = !searches.allSatisfy { $0.cookie != nil }
        if isComplete {
            for number in searches.indices { searches[number].cookie = nil }
        }
        position =
            isComplete
            ? DirectoryCursor(.sync, reconciled: Date()) : known ?? DirectoryCursor(.sync, reconciled: Date())
    }

    // MARK: The refresh

    func readFirst(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        let start = searches
        do throws(LDAPError) {
            return try refresh(request, into: entries, report: &report)
        } catch {
            guard persists, error.isRefusalOfMethod, error.code != LDAPError.syncRefreshRequired else { throw error }
            persists = false
            // A base that had been refreshed already is refreshed from the same cookie again.
            searches = start
            report = SourceReport(server: report.server, remarks: report.remarks)
            return try refresh(request, into: entries, report: &report)
        }
    }

    private func refresh(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        let batch = Batch(session, into: entries, report: report, isComplete: isComplete, check: request.check)
        if isComplete { session.forgetReferences() }
        for number in searches.indices { try refresh(number, into: batch, check: request.check) }
        report = batch.reader.report
        position.references = try session.checkReferences(request, isWhole: isComplete, &report.remarks)
        if isComplete || batch.hasChanges { position.serial &+= 1 }
        encodeCursor()
        if isComplete { return .full }
        return batch.hasChanges ? .changes : .unchanged
    }

    private func refresh(
        _ number: Int, into batch: Batch, check: @escaping LDAPConnection.Check
    ) throws(LDAPError) {
        let base = searches[number].base
        let id = try session.connection.search(
            base: base, filter: session.configuration.wholeFilter,
            attributes: DirectoryEntryReader.attributes(session.configuration, withID: false),
            controls: [.sync(cookie: searches[number].cookie, persists: persists)])
        searches[number].id = id
        var present: Set<ObjectID> = []
        // The server must say which objects still exist: an object's absence from a short answer doesn't mean that it
        // has gone.
        var reportsPresent = false
        var reportsAll = true
        let before = searches[number].cookie
        let readBefore = batch.reader.report.read
        do throws(LDAPError) {
            refresh: while true {
                let message = try session.connection.receive(
                    id, patience: session.connection.options.timeout, check: check)
                switch message.kind {
                case .entry:
                    if try process(message, of: number, into: batch, present: &present) == .present {
                        reportsPresent = true
                    }
                case .reference: try session.note(reference: message)
                case .result:
                    let controls = try message.success(.search)
                    searches[number].id = -1
                    // A server that ends the search although it was asked to go on doesn't report changes by itself.
                    guard let done = controls.syncDone else {
                        throw LDAPError.malformed("a refresh that ends without a Sync Done control")
                    }
                    if let cookie = done.cookie { searches[number].cookie = cookie }
                    reportsAll = reportsPresent || done.refreshDeletes
                    break refresh
                case .intermediate:
                    guard let info = try message.syncInfo() else { break }
                    switch info {
                    case .refreshPresent, .idSet(_, deletes: false, _): reportsPresent = true
                    default: break
                    }
                    if try process(info, of: number, into: batch, present: &present) { break refresh }
                }
            }
        } catch {
            throw error.naming(base)
        }
        guard !isComplete else { return }
        // For a cookie that it can't read, slapd sends all existing entries, no deletions, and no new cookie.
        guard searches[number].cookie != before || batch.reader.report.read == readBefore else {
            throw .search(LDAPError.syncRefreshRequired, "the server sent changes without a new cookie")
        }
        guard reportsAll else {
            throw .search(
                LDAPError.syncRefreshRequired,
                "the server reports neither which entries were deleted nor which still exist")
        }
        guard reportsPresent else { return }
        batch.keepOnly(present, prefix: searches[number].prefix)
    }

    /// Processes an entry of a search.
    ///
    /// - Parameter isStale: whether a later message of the batch supersedes this one.
    /// - Returns: the state of the entry that the message reports.
    @discardableResult
    private func process(
        _ message: LDAPMessage, of number: Int, into batch: Batch, present: inout Set<ObjectID>, isStale: Bool = false
    ) throws(LDAPError) -> ContentSyncState.State {
        let state = try Self.state(of: message)
        if let cookie = state.cookie { searches[number].cookie = cookie }
        if state.state != .delete, !isComplete, let id = ObjectID(state.uuid) { present.insert(id) }
        if isStale {
            batch.replace([searches[number].prefix] + state.uuid)
        } else {
            try batch.read(message, state, prefix: searches[number].prefix)
        }
        return state.state
    }

    private static func state(of message: LDAPMessage) throws(LDAPError) -> ContentSyncState {
        guard let state = message.entryControls.syncState else {
            throw LDAPError.malformed("an entry without a Sync State control")
        }
        return state
    }

    /// Processes a Sync Info message of a search; returns whether the refresh is done.
    private func process(
        _ info: ContentSyncInfo, of number: Int, into batch: Batch, present: inout Set<ObjectID>
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

    var canReadNext: Bool { persists && searches.allSatisfy { $0.id >= 0 } }

    func receiveReports() throws(LDAPError) -> Bool {
        while let message = try session.connection.poll(-1) {
            // Answers to earlier requests are passed over.
            guard searches.contains(where: { $0.id == message.id }) else { continue }
            reports.append(message)
            guard reports.count <= Self.mostReports else {
                reports.removeAll()
                throw .search(LDAP_LOCAL_ERROR, "the server sent more than \(Self.mostReports) changes at once")
            }
        }
        return !reports.isEmpty
    }

    func readNext(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceReport.Reading {
        if try !receiveReports() {
            // Silence may mean that nothing has changed, or that the connection is dead.
            try session.ping(request.check)
            _ = try receiveReports()
        }
        guard !reports.isEmpty else { return .unchanged }
        let batch = Batch(session, into: entries, report: report, isComplete: false, check: request.check)
        var present: Set<ObjectID> = []
        let last = try lastReports()
        for (place, message) in reports.enumerated() {
            guard let number = searches.firstIndex(where: { $0.id == message.id }) else { continue }
            switch message.kind {
            case .entry:
                let object = [searches[number].prefix] + (try Self.state(of: message).uuid)
                try process(message, of: number, into: batch, present: &present, isStale: last[object] != place)
            case .intermediate:
                if let info = try message.syncInfo() {
                    _ = try process(info, of: number, into: batch, present: &present)
                }
            case .reference: try session.note(reference: message)
            case .result:
                _ = try message.success(.search)
                throw .search(LDAP_SERVER_DOWN, "the server has ended the search that reports changes")
            }
        }
        reports.removeAll()
        report = batch.reader.report
        position.references = try session.checkReferences(request, isWhole: false, &report.remarks)
        position.serial &+= 1
        encodeCursor()
        return batch.hasChanges ? .changes : .unchanged
    }

    /// The place of the last message of each object: an object that has changed twice must not keep its state in
    /// between.
    private func lastReports() throws(LDAPError) -> [[UInt8]: Int] {
        var last: [[UInt8]: Int] = [:]
        for (place, message) in reports.enumerated() {
            guard let search = searches.first(where: { $0.id == message.id }) else { continue }
            if message.kind == .entry {
                last[[search.prefix] + (try Self.state(of: message).uuid)] = place
            } else if message.kind == .intermediate, case .idSet(_, true, let uuids) = try message.syncInfo() {
                for uuid in uuids { last[[search.prefix] + uuid] = place }
            }
        }
        return last
    }

    private func encodeCursor() {
        position.positions = [:]
        for search in searches { position.positions[search.base] = search.cookie.map { Data($0) } }
        cursor = position.encodedCursor
    }

    /// One reading: applies the messages of the server to the entries.
    private final class Batch {
        let reader: DirectoryEntryReader
        private(set) var hasChanges = false
        private let entries: SourceEntries
        private let remainder: DirectoryEntryReader.Remainder
        private let isComplete: Bool

        init(
            _ session: DirectorySession, into entries: SourceEntries, report: SourceReport, isComplete: Bool,
            check: @escaping LDAPConnection.Check
        ) {
            entries.begin(changesOnly: !isComplete)
            reader = DirectoryEntryReader(session.configuration, into: entries, report: report)
            self.entries = entries
            self.isComplete = isComplete
            remainder = session.remainder(check)
        }

        func read(_ message: LDAPMessage, _ state: ContentSyncState, prefix: UInt8) throws(LDAPError) {
            switch state.state {
            case .present: break
            case .delete: replace([prefix] + state.uuid)
            case .add, .modify:
                replace([prefix] + state.uuid)
                try reader.read(message, id: state.uuid, prefix: prefix, remainder: remainder)
            }
        }

        func replace(_ object: [UInt8]) {
            hasChanges = true
            if !isComplete { entries.replace(object) }
        }

        func keepOnly(_ present: Set<ObjectID>, prefix: UInt8) {
            hasChanges = true
            entries.keepOnly(present, prefix: prefix)
        }
    }
}
