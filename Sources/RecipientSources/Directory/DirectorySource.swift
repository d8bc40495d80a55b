import CLDAP
import Foundation
import Glibc
import RecipientIndex
import Synchronization
import System

/// A source of type `active-directory`, `openldap` or `ldap`.
///
/// A reading follows the changes since the stored cursor by the best method that the server offers, and reads
/// everything if the server offers none. If more readings follow, the connection is kept, and the server reports
/// changes over it.
final class DirectorySource: RecipientSource {
    let configuration: SourceConfiguration
    let directory: DirectoryConfiguration
    /// The sockets of all its connections.
    let sockets = OpenSockets()
    /// The time before which a rejected password isn't sent again; nil if it wasn't rejected.
    private let passwordRetry = Mutex<ContinuousClock.Instant?>(nil)
    /// Held during a reading. A synchronizer makes one reading at a time; others would wait here.
    private let turn = Mutex(())

    // The following properties are used only while `turn` is held.

    var servers: ServerList
    /// The follower of the last reading, with its open connection.
    private var follower: (any DirectoryFollower)?
    /// A connection that was made for the relay domains, to be used by the reading that follows.
    var spare: DirectorySession?
    /// The faults of the relay domains when they were last read.
    private var domainFaults = EntryFaults()
    /// A password that a server refused. It isn't tried again for a while, so that the account isn't locked.
    var refusal: RefusedPassword? {
        didSet { passwordRetry.withLock { $0 = refusal?.until } }
    }

    init(_ configuration: SourceConfiguration, _ directory: DirectoryConfiguration) {
        self.configuration = configuration
        self.directory = directory
        servers = ServerList(directory.servers)
    }

    // MARK: RecipientSource

    func relayDomains(_ request: ReadRequest) throws(SourceError) -> [RelayDomain]? {
        guard let source = directory.relayDomains else { return nil }
        return try inTurn { () throws(SourceError) in
            var ignored = SourceReport()
            return try withServers(request, report: &ignored) { session, _ throws(LDAPError) in
                let reader = RelayDomainReader(session, source, before: request.previous?.domains ?? [])
                let domains = try reader.read(request.check)
                domainFaults = reader.faults
                spare = session
                return domains
            }
        }
    }

    func read(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(SourceError) -> SourceResult {
        try inTurn { () throws(SourceError) in
            let kept = follower
            follower = nil
            defer {
                spare = nil
                report.domainFaults = domainFaults
            }
            if let kept, request.keepsConnections, !request.readsAll, let previous = request.previous,
                previous.cursor == kept.cursor
            {
                do throws(LDAPError) {
                    var fresh = report
                    let result = try readNext(kept, request, into: entries, report: &fresh)
                    report = fresh
                    return result
                } catch {
                    if let cancellation = error.cancellation { throw cancellation }
                    entries.discard()
                    report.remarks.append("the connection to \(kept.session.connection.uri) was lost: \(error.text)")
                }
            }
            if let stored = request.previous?.cursor, DirectoryCursor(stored) == nil {
                report.remarks.append(
                    "the position that the last sync stored can't be read, so Postern reads the whole directory again")
            }
            return try withServers(request, report: &report) { session, report throws(LDAPError) in
                do throws(LDAPError) {
                    return try read(session, request, into: entries, report: &report)
                } catch {
                    // The next server may report that nothing has changed.
                    entries.discard()
                    throw error
                }
            }
        }
    }

    func isReconciliationDue(_ previous: PreviousReading, now: Date) -> Bool {
        guard let cursor = DirectoryCursor(previous.cursor), cursor.method != .full else { return false }
        // A directory doesn't report that an expiry date has passed.
        if let expiry = previous.report?.nextExpiry, expiry <= now { return true }
        return abs(now.timeIntervalSince(cursor.reconciled)) >= Double(directory.reconcileInterval)
    }

    var changeDescriptor: Int32? {
        turn.withLock { _ in follower.map { $0.session.connection.descriptor }.flatMap { $0 >= 0 ? $0 : nil } }
    }

    func hasReportedChanges() -> Bool {
        turn.withLock { _ in
            guard let follower else { return false }
            return withoutBrokenPipeSignal {
                do throws(LDAPError) { return try follower.receiveReports() } catch {
                    // Reports may be lost with the connection: the next reading goes on from the stored cursor over
                    // another one.
                    self.follower = nil
                    return true
                }
            }
        }
    }

    func closeConnections() {
        turn.withLock { _ in
            withoutBrokenPipeSignal {
                follower = nil
                spare = nil
            }
        }
    }

    func interrupt() { sockets.shutDown() }

    /// The entry's identifier as a directory's tools write it: `entryUUID 6f1c…`, `objectGUID 6f1c…`.
    func origin(of key: String, object: Data) -> String? {
        let bytes = Array(object.dropFirst())
        guard bytes.count == 16 else { return nil }
        // The first three parts of a GUID are little-endian (MS-DTYP section 2.3.4.2).
        let isGUID = directory.dialect == .activeDirectory
        let order = isGUID ? [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] : Array(0..<16)
        var text = isGUID ? "objectGUID " : "entryUUID "
        for (position, index) in order.enumerated() {
            if [4, 6, 8, 10].contains(position) { text += "-" }
            text += hexadecimal(bytes[index])
        }
        return text
    }

    var earliestRetry: ContinuousClock.Instant? { passwordRetry.withLock { $0 } }

    private func inTurn<Value>(_ work: () throws(SourceError) -> Value) throws(SourceError) -> Value {
        var result: Result<Value, SourceError>?
        turn.withLock { _ in
            result = Result { () throws(SourceError) in try withoutBrokenPipeSignal(work) }
        }
        guard let result else { throw SourceError(.cancelled, "the source was not read") }
        return try result.get()
    }

    // MARK: Reading

    private func readNext(
        _ follower: any DirectoryFollower, _ request: ReadRequest, into entries: SourceEntries,
        report: inout SourceReport
    ) throws(LDAPError) -> SourceResult {
        let began = Date()
        report.server = "\(follower.session.connection.uri)"
        report.method = type(of: follower).name
        let reading = try follower.readNext(request, into: entries, report: &report)
        self.follower = follower
        try checkStorage(entries)
        return SourceResult(reading: reading, asOf: began, cursor: follower.cursor)
    }

    /// Reads by the first method that the server allows: each continues from the cursor, or else reads everything.
    private func read(
        _ session: DirectorySession, _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(LDAPError) -> SourceResult {
        let began = Date()
        let previous = DirectoryCursor(request.previous?.cursor)
        let cursor = request.readsAll ? nil : previous
        // A remark that stood in the last report isn't made again.
        let isKnown = previous?.method == .full
        let followers = followers(session) { if !isKnown { report.remarks.append($0) } }
        for (kind, start) in followers.flatMap({ kind in
            cursor == nil ? [(kind, nil)] : [(kind, cursor), (kind, nil)]
        }) {
            do throws(LDAPError) {
                let follower = try kind.init(session, start, wantsReports: request.keepsConnections && directory.push)
                let reading = try follower.readFirst(request, into: entries, report: &report)
                try checkStorage(entries)
                if request.keepsConnections, follower.canReadNext { self.follower = follower }
                report.method = kind.name
                if let previous, previous.method != kind.method {
                    report.remarks.append("Postern now follows changes by \(kind.name)")
                }
                if !follower.reportsDeletions, previous?.server != DirectoryCursor(follower.cursor)?.server {
                    report.remarks.append(
                        "the server doesn't report deletions to this account, so everything is read at every interval, and only new "
                            + "and changed entries come sooner; to change that, grant the right \"Replicating Directory Changes\" on "
                            + "the domain, or the right to read CN=Deleted Objects")
                }
                return SourceResult(reading: reading, asOf: began, cursor: follower.cursor)
            } catch {
                // The server refuses this method. Any other error sends the reading to the next server.
                guard error.isRefusalOfMethod else { throw error }
                entries.discard()
                report = SourceReport(server: report.server, remarks: report.remarks)
                if start?.method == kind.method {
                    report.remarks.append(
                        "\(kind.name) can't go on from the last sync, so Postern reads the whole directory again: \(error.text)"
                    )
                } else if start == nil, !isKnown {
                    report.remarks.append("\(kind.name) is unavailable: \(error.text)")
                }
            }
        }
        try session.readAll(into: entries, report: &report, check: request.check)
        try checkStorage(entries)
        report.method = "paged search"
        var position = DirectoryCursor(.full, reconciled: began)
        position.references = try session.checkReferences(request, isWhole: true, &report.remarks)
        return SourceResult(reading: .full, asOf: began, cursor: position.encodedCursor)
    }

    /// The methods to follow changes, the best first.
    ///
    /// - Parameter explain: called with the reason if this server has no method, unlike others of its kind.
    private func followers(_ session: DirectorySession, _ explain: (String) -> Void) -> [any DirectoryFollower.Type] {
        switch directory.incremental {
        case .off: return []
        case .sync: return [ContentSyncFollower.self]
        case .dirSync: return [DirSyncFollower.self]
        case .usn: return [USNFollower.self]
        case .auto: break
        }
        guard directory.dialect != .generic else { return [] }
        guard !directory.followsReferrals else {
            explain(
                "with follow_referrals everything is read each time, as no server reports the changes of another one")
            return []
        }
        guard directory.dialect == .openLDAP else { return [DirSyncFollower.self, USNFollower.self] }
        guard session.root.supportedControls.contains(LDAPControl.OID.syncRequest) else {
            explain(
                "the server doesn't support \(ContentSyncFollower.name), so everything is read at each interval; OpenLDAP's overlay "
                    + "syncprov adds it")
            return []
        }
        return [ContentSyncFollower.self]
    }

    /// Throws the error of a temporary file that entries could not be written to.
    private func checkStorage(_ entries: SourceEntries) throws(LDAPError) {
        if let failure = entries.failure { throw .cancelled(failure) }
    }
}

// All that changes in it is used only while `turn` is held.
extension DirectorySource: @unchecked Sendable {}

extension DirectorySource {
    /// A password that a server refused.
    struct RefusedPassword {
        /// The password's file, which may hold another password by now.
        var stamp: FileStamp?
        var until: ContinuousClock.Instant
        var error: SourceError
    }

    /// How long a refused password isn't tried again unless its file changes. Common policies lock an account after ten
    /// failures in half an hour, which isn't reached.
    private static let pauseAfterRefusal = Duration.seconds(600)

    /// Does work with a session on the first server that lets it be done.
    ///
    /// - Throws: the failures of all servers in one error.
    func withServers<Value>(
        _ request: ReadRequest, report: inout SourceReport,
        _ work: (DirectorySession, inout SourceReport) throws(LDAPError) -> Value
    ) throws(SourceError) -> Value {
        let credentials = try credentials()
        var failed: [(server: LDAPURI, error: LDAPError)] = []
        var ready = spare
        spare = nil
        for server in servers.ordered(at: .now) {
            var fresh = SourceReport(server: "\(server)", remarks: report.remarks)
            do throws(LDAPError) {
                let session: DirectorySession
                if let made = ready, made.connection.uri == server {
                    session = made
                    ready = nil
                } else {
                    session = try DirectorySession(
                        LDAPConnection(server, options, credentials: credentials, check: request.check), directory,
                        check: request.check)
                }
                let value = try work(session, &fresh)
                servers.succeeded(server)
                report = fresh
                refusal = nil
                return value
            } catch {
                if let cancellation = error.cancellation { throw cancellation }
                servers.failed(server, at: .now)
                failed.append((server, error))
            }
        }
        throw failureOfAll(failed, request.keepsConnections)
    }

    private var options: LDAPOptions {
        LDAPOptions(
            startTLS: directory.startTLS, caFile: directory.caFile, verifiesCertificate: directory.verifiesCertificate,
            timeout: .seconds(directory.timeout), followsReferrals: directory.followsReferrals,
            allowsPlaintext: directory.allowsPlaintext, sockets: sockets)
    }

    private func credentials() throws(SourceError) -> LDAPCredentials {
        switch directory.login {
        case .anonymous: return .anonymous
        case .external: return .external
        case .gssapi: return .gssapi
        case .simple(let dn, let path):
            if let refusal, refusal.stamp == FileStamp(path: path), ContinuousClock.now < refusal.until {
                throw refusal.error
            }
            let file = try TableFile(path, source: configuration.name)
            var bytes = [UInt8](repeating: 0, count: 4_096)
            let count = pread(file.descriptor, &bytes, bytes.count, 0)
            guard count >= 0, count < bytes.count else {
                throw failure("password_file \(path) can't be read: \(count < 0 ? systemMessage() : "it is too long")")
            }
            let password = bytes.prefix(count).prefix { $0 != 0x0a && $0 != 0x0d }
            guard !password.isEmpty else { throw failure("password_file \(path) has no password in its first line") }
            return .simple(dn: dn, password: Array(password))
        }
    }

    /// The failures of all servers in one error. A refused password is kept.
    private func failureOfAll(_ failed: [(server: LDAPURI, error: LDAPError)], _ keepsConnections: Bool) -> SourceError
    {
        // In the order of the configuration, so that the same failures have the same words.
        let inOrder = directory.servers.compactMap { server in failed.first { $0.server == server } }
        let reasons = inOrder.map { "\($0.server): \($0.error.operation.rawValue): \($0.error.text)" }
        let separator = "\nsource \"\(configuration.name)\": "
        var error = failure(reasons.joined(separator: separator))
        guard case .simple(_, let path) = directory.login,
            failed.contains(where: { $0.error.operation == .bind && $0.error.code == LDAP_INVALID_CREDENTIALS })
        else { return error }
        if keepsConnections {
            let pause =
                "to keep the account from being locked, the next try is in 10 minutes, or when \(path) has changed"
            error = failure((reasons + [pause]).joined(separator: separator))
        }
        refusal = RefusedPassword(stamp: FileStamp(path: path), until: .now + Self.pauseAfterRefusal, error: error)
        return error
    }
}

/// The servers of a source in the order in which they are tried: that of the configuration, but servers that have
/// failed lately come last.
struct ServerList {
    private struct Failure {
        var count: Int
        var until: ContinuousClock.Instant
    }

    private let servers: [LDAPURI]
    private var failures: [LDAPURI: Failure] = [:]

    init(_ servers: [LDAPURI]) { self.servers = servers }

    func ordered(at now: ContinuousClock.Instant) -> [LDAPURI] {
        func hasFailedLately(_ server: LDAPURI) -> Bool { failures[server].map { now < $0.until } ?? false }
        return servers.filter { !hasFailedLately($0) } + servers.filter(hasFailedLately)
    }

    mutating func succeeded(_ server: LDAPURI) { failures[server] = nil }

    /// Puts a server last for 10 s, 20 s, 40 s … 5 minutes.
    mutating func failed(_ server: LDAPURI, at now: ContinuousClock.Instant) {
        let count = (failures[server]?.count ?? 0) + 1
        failures[server] = Failure(count: count, until: now + .seconds(min(300, 10 << min(count - 1, 5))))
    }
}
