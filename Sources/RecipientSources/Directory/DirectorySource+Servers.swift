import CLDAP
import Foundation
import Glibc
import System

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

    private func failure(_ text: String) -> SourceError {
        SourceError(.unreachable, "source \"\(configuration.name)\": \(text)", source: configuration.name)
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
