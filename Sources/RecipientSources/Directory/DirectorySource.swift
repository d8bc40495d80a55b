import CLDAP
import Foundation
import Glibc
import Synchronization
import System

/// A source of type `active-directory`, `openldap` or `ldap`.
///
/// A pull follows the changes since the cursor in the state as the server allows it, and reads everything where it doesn't. With a
/// thread that goes on, the connection is kept, and the server tells of changes by itself.
final class DirectorySource: RecipientSource {
    let configuration: SourceConfiguration
    private let directory: DirectoryConfiguration
    /// Its place among the sources of the configuration.
    private let index: Int
    /// The sockets of all its connections.
    private let sockets = OpenSockets()
    /// When a refused password is tried again.
    private let rest = Mutex<ContinuousClock.Instant?>(nil)
    /// Syncs of one synchronizer come one after the other; should they not, they wait here.
    private let turn = Mutex(())

    // What follows is only touched in one's turn.
    private var servers: ServerList
    /// The follower of the last pull, with its open connection.
    private var follower: (any DirectoryFollower)?
    /// A connection that was made for the relay domains and is good for the pull that comes next.
    private var spare: DirectorySession?
    /// What was wrong with the relay domains when they were last read.
    private var domainFaults = EntryFaults()
    /// A password that a server refused: not tried again for a while, lest the account be locked.
    private var refusal: RefusedPassword? {
        didSet { rest.withLock { $0 = refusal?.until } }
    }

    private struct RefusedPassword {
        var stamp: FileStamp?
        var until: ContinuousClock.Instant
        var error: SourceError
    }

    /// How long a refused password isn't tried again unless its file changes; well above what locks an account in common
    /// policies (ten failures in half an hour).
    private static let pauseAfterRefusal = Duration.seconds(600)

    init(_ configuration: SourceConfiguration, _ directory: DirectoryConfiguration, index: Int) {
        self.configuration = configuration
        self.directory = directory
        self.index = index
        servers = ServerList(directory.servers)
    }

    // MARK: RecipientSource

    func relayDomains(_ request: PullRequest) throws(SourceError) -> [RelayDomain]? {
        guard let source = directory.relayDomains else { return nil }
        return try inTurn { () throws(SourceError) in
            var ignored = SourceReport()
            return try withServers(request, &ignored) { session, _ throws(LDAPError) in
                let reader = RelayDomainReader(session, source, before: request.previous?.domains ?? [])
                let domains = try reader.read(request.check)
                domainFaults = reader.faults
                spare = session
                return domains
            }
        }
    }

    func pull(
        _ request: PullRequest, into intake: EntryIntake, report: inout SourceReport
    ) throws(SourceError) -> Pull {
        try inTurn { () throws(SourceError) in
            let old = follower
            follower = nil
            defer {
                spare = nil
                report.domainFaults = domainFaults
            }
            if let old, request.isStaying, !request.readsAll, let previous = request.previous,
                previous.cursor == old.cursor
            {
                do throws(LDAPError) {
                    var fresh = report
                    let pull = try goOn(old, request, intake, &fresh)
                    report = fresh
                    return pull
                } catch {
                    if let cancellation = error.cancellation { throw cancellation }
                    intake.void(source: index)
                    report.remarks.append("the connection to \(old.session.connection.uri) was lost: \(error.text)")
                }
            }
            if let left = request.previous?.cursor, DirectoryCursor(left) == nil {
                report.remarks.append("what the last sync left in the state can't be understood, so all is read again")
            }
            return try withServers(request, &report) { session, report throws(LDAPError) in
                do throws(LDAPError) {
                    return try pull(session, request, intake, &report)
                } catch {
                    // The next server may have nothing new to tell.
                    intake.void(source: index)
                    throw error
                }
            }
        }
    }

    func isReconciliationDue(_ record: PreviousReading, now: Date) -> Bool {
        guard let cursor = DirectoryCursor(record.cursor), cursor.method != .full else { return false }
        // That a date passes is no change that a directory tells.
        if let expiry = record.report?.nextExpiry, expiry <= now { return true }
        return abs(now.timeIntervalSince(cursor.reconciled)) >= Double(directory.reconcileInterval)
    }

    var newsDescriptor: Int32? {
        turn.withLock { _ in follower.map { $0.session.connection.descriptor }.flatMap { $0 >= 0 ? $0 : nil } }
    }

    func hasNews() -> Bool {
        turn.withLock { _ in
            guard let follower else { return false }
            return withoutBrokenPipeSignal {
                do throws(LDAPError) { return try follower.takeNews() } catch {
                    // What was told may be lost with the connection: the pull begins from the state on another one.
                    self.follower = nil
                    return true
                }
            }
        }
    }

    func hangUp() {
        turn.withLock { _ in
            withoutBrokenPipeSignal {
                follower = nil
                spare = nil
            }
        }
    }

    func interrupt() { sockets.shutDown() }

    var restsUntil: ContinuousClock.Instant? { rest.withLock { $0 } }

    // MARK: Reading

    private func goOn(
        _ follower: any DirectoryFollower, _ request: PullRequest, _ intake: EntryIntake, _ report: inout SourceReport
    ) throws(LDAPError) -> Pull {
        let began = Date()
        report.server = "\(follower.session.connection.uri)"
        let reading = try follower.goOn(request, intake, index, &report)
        self.follower = follower
        try checkIntake(intake)
        return Pull(reading: reading, asOf: began, cursor: follower.cursor)
    }

    private func pull(
        _ session: DirectorySession, _ request: PullRequest, _ intake: EntryIntake, _ report: inout SourceReport
    ) throws(LDAPError) -> Pull {
        let began = Date()
        let cursor = request.readsAll ? nil : DirectoryCursor(request.previous?.cursor)
        let isKnown = DirectoryCursor(request.previous?.cursor)?.method == .full
        let followers = followers(session) { if !isKnown { report.remarks.append($0) } }
        for (kind, start) in followers.flatMap({ kind in
            cursor == nil ? [(kind, nil)] : [(kind, cursor), (kind, nil)]
        }) {
            do throws(LDAPError) {
                let follower = try kind.init(session, start, stays: request.isStaying && directory.push)
                let reading = try follower.begin(request, intake, index, &report)
                try checkIntake(intake)
                if request.isStaying, follower.canGoOn { self.follower = follower }
                report.method = kind.name
                let before = DirectoryCursor(request.previous?.cursor)
                if let before, before.method != kind.method {
                    report.remarks.append("now follows changes by \(kind.name)")
                }
                if !follower.tellsOfDeletions, before?.server != DirectoryCursor(follower.cursor)?.server {
                    report.remarks.append(
                        "the account may not see deleted objects, so all is read at every interval, and only what is new or changed "
                            + "comes sooner; the right \"Replicating Directory Changes\" on the domain, or to read CN=Deleted Objects, "
                            + "would change that")
                }
                return Pull(reading: reading, asOf: began, cursor: follower.cursor)
            } catch {
                // An answer of the server that it can't be done so; anything else is for another server.
                guard error.isRefusalOfMethod else { throw error }
                intake.void(source: index)
                report = SourceReport(server: report.server, remarks: report.remarks)
                if start?.method == kind.method {
                    report.remarks.append(
                        "\(kind.name) can't go on from the last sync, so all is read again: \(error.text)")
                } else if start == nil, !isKnown {
                    report.remarks.append("\(kind.name) isn't to be had: \(error.text)")
                }
            }
        }
        let tag = intake.begin(source: index)
        try session.readAll(into: intake, index: index, tag: tag, report: &report, check: request.check)
        try checkIntake(intake)
        report.method = "paged search"
        var position = DirectoryCursor(.full, reconciled: began)
        position.references = try session.checkReferences(request, isWhole: true, &report.remarks)
        return Pull(reading: .full, asOf: began, cursor: position.encoded)
    }

    /// The ways to follow changes, the best first.
    ///
    /// - Parameter why: told why there is none where there might be one.
    private func followers(_ session: DirectorySession, _ why: (String) -> Void) -> [any DirectoryFollower.Type] {
        switch directory.incremental {
        case .off: return []
        case .sync: return [ContentSynchronization.self]
        case .dirSync: return [DirSyncFollower.self]
        case .usn: return [USNFollower.self]
        case .auto: break
        }
        guard directory.dialect != .generic else { return [] }
        guard !directory.followsReferrals else {
            why("with follow_referrals everything is read each time: no server tells what changes on another one")
            return []
        }
        guard directory.dialect == .openLDAP else { return [DirSyncFollower.self, USNFollower.self] }
        guard session.root.supportedControls.contains(LDAPControl.OID.syncRequest) else {
            why("\(ContentSynchronization.name) isn't to be had: the server doesn't know it (overlay syncprov)")
            return []
        }
        return [ContentSynchronization.self]
    }

    private func checkIntake(_ intake: EntryIntake) throws(LDAPError) {
        if let failure = intake.failure { throw .cancelled(failure) }
    }

    // MARK: Servers

    /// Has work done with a connection to the first server that lets it be done.
    private func withServers<Value>(
        _ request: PullRequest, _ report: inout SourceReport,
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
                        LDAPConnection(server, options, credentials, check: request.check), directory,
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
        throw remember(failed, request.isStaying)
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
            guard !password.isEmpty else { throw failure("password_file \(path) holds no password in its first line") }
            return .simple(dn: dn, password: Array(password))
        }
    }

    /// The failures of all servers in one error.
    private func remember(_ failed: [(server: LDAPURI, error: LDAPError)], _ isStaying: Bool) -> SourceError {
        // In the order of the configuration, so that the same failures have the same words.
        let inOrder = directory.servers.compactMap { server in failed.first { $0.server == server } }
        let reasons = inOrder.map { "\($0.server): \($0.error.operation.rawValue): \($0.error.text)" }
        var error = failure(reasons.joined(separator: "\nsource \"\(configuration.name)\": "))
        if case .simple(_, let path) = directory.login,
            failed.contains(where: { $0.error.operation == .bind && $0.error.code == LDAP_INVALID_CREDENTIALS })
        {
            refusal = RefusedPassword(
                stamp: FileStamp(path: path), until: .now + Self.pauseAfterRefusal,
                error: error)
            if isStaying {
                error = failure(
                    reasons.joined(separator: "\nsource \"\(configuration.name)\": ")
                        + "\nsource \"\(configuration.name)\": lest the account be locked, the next try is in 10 minutes, or "
                        + "when \(path) has changed")
                refusal?.error = error
            }
        }
        return error
    }

    private func failure(_ text: String) -> SourceError {
        SourceError(.unreachable, "source \"\(configuration.name)\": \(text)", source: configuration.name)
    }

    private func inTurn<Value>(_ work: () throws(SourceError) -> Value) throws(SourceError) -> Value {
        var result: Result<Value, SourceError>?
        turn.withLock { _ in
            result = Result { () throws(SourceError) in try withoutBrokenPipeSignal(work) }
        }
        guard let result else { throw SourceError(.cancelled, "the source was not read") }
        return try result.get()
    }
}

// All that changes in it is guarded by `turn`.
extension DirectorySource: @unchecked Sendable {}

extension DirectorySession {
    /// Reads all entries below all bases.
    func readAll(
        into intake: EntryIntake, index: Int, tag: Int, report: inout SourceReport,
        check: @escaping LDAPConnection.Check
    ) throws(LDAPError) {
        let reader = DirectoryEntryReader(configuration, index: index, into: intake, counts: report)
        let rest = rest(check)
        forgetReferences()
        for base in bases {
            try forEachEntry(
                base: base, filter: configuration.wholeFilter,
                attributes: DirectoryEntryReader.attributes(configuration), keepsReferences: true, check: check
            ) { message throws(LDAPError) in try reader.read(message, tag: tag, rest: rest) }
        }
        report = reader.counts
    }
}
