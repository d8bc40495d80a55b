import Foundation
import Glibc
import SyncTestSupport
import Synchronization
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// A sync thread ends whatever its sources wait for. The limits here are for a thread that hangs: a source's own are
/// far longer.
@Suite struct SourceEndTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// The answers of a server before it is silent.
    static let silences: [(name: String, scheme: String, answers: [[UInt8]], requests: Int)] = [
        ("TLS handshake", "ldaps", [], 1),
        ("StartTLS", "ldap+starttls", [], 1),
        ("TLS handshake after StartTLS", "ldap+starttls", [SilentServer.success(1, 0x78)], 2),
        ("bind", "ldap", [], 1),
        ("search", "ldap", [SilentServer.success(1, 0x61)], 2),
        (
            "a message that has begun", "ldap",
            [
                SilentServer.success(1, 0x61), SilentServer.root(2),
                Array(SilentServer.entry(3, "cn=a", [("mail", [Array("a@example.com".utf8)])]).dropLast(9)),
            ], 3
        ),
    ]

    private func thread(
        _ scheme: String, _ server: SilentServer, _ report: @escaping @Sendable (SyncEvent) -> Void = { _ in }
    ) throws -> SyncThread {
        let uri = try #require(
            LDAPURI("\(scheme.prefix { $0 != "+" })://127.0.0.1:\(server.port)"))
        // A second server, which must not be tried after the stop.
        var directory = DirectoryConfiguration(.generic, servers: [uri, uri])
        directory.timeout = 600
        directory.startTLS = scheme.hasSuffix("starttls")
        directory.verifiesCertificate = false
        directory.allowsPlaintext = true
        directory.login = .simple(dn: "cn=postern", passwordFile: try folder.write("secret", "secret\n"))
        var configuration = folder.configuration([])
        configuration.sources = [SourceConfiguration(name: "people", kind: .directory(directory))]
        return SyncThread(try Synchronizer(configuration), onFileFailure: { _ in }, onEvent: report)
    }

    @Test(arguments: silences.indices) func aSyncThreadStopsWhileAServerIsSilent(_ number: Int) throws {
        let silence = Self.silences[number]
        let server = try SilentServer(silence.answers)
        defer { server.stop() }
        let events = Mutex(0)
        let thread = try thread(silence.scheme, server) { _ in events.withLock { $0 += 1 } }
        thread.start()
        #expect(eventually { server.requests >= silence.requests }, "\(silence.name)")
        #expect(thread.outlook.runningSince != nil)
        #expect(thread.stop(within: .seconds(60)), "\(silence.name)")
        #expect(events.withLock { $0 } == 0, "a stop is not reported as a failure")
        #expect(server.requests <= silence.requests + 1, "no other server is tried")
        #expect(thread.outlook.runningSince == nil)
        #expect(access(folder("recipients.index"), F_OK) != 0)
    }

    @Test func aSyncThreadStopsAlthoughAProgramIgnoresSignals() throws {
        let path = try folder.write(
            "#!/bin/sh\ntrap '' TERM INT HUP\ntouch \(folder("runs"))\nwhile :; do sleep 600; done\n", as: "users")
        chmod(path, 0o755)
        var configuration = folder.configuration([])
        configuration.sources = [
            SourceConfiguration(name: "people", kind: .command(CommandConfiguration(command: [path], timeout: 600)))
        ]
        let thread = SyncThread(try Synchronizer(configuration), onFileFailure: { _ in }) { _ in }
        thread.start()
        #expect(eventually { access(folder("runs"), F_OK) == 0 })
        #expect(thread.stop(within: .seconds(60)))
    }

    @Test func aNameLookupEndsWhenTheSyncIsStopped() throws {
        let asked = DispatchSemaphore(value: 0)
        let answer = DispatchSemaphore(value: 0)
        let name = "silent-\(UInt64.random(in: 0 ... .max)).example"
        let lookUp: HostResolver.LookUp = { _, _ in
            asked.signal()
            answer.wait()
            return .success([HostResolver.Address(family: AF_INET, bytes: [1])])
        }
        var checks = 0
        #expect {
            try HostResolver.addresses(of: name, port: 389, timeout: .seconds(600), lookUp: lookUp) {
                () throws(SourceError) in
                checks += 1
                if checks == 3 { throw SourceError(.cancelled, "enough") }
            }
        } throws: {
            ($0 as? LDAPError)?.cancellation?.kind == .cancelled
        }
        asked.wait()
        // A host isn't looked up twice at the same time.
        #expect {
            try HostResolver.addresses(of: name, port: 389, timeout: .milliseconds(300), lookUp: lookUp) {
                () throws(SourceError) in
            }
        } throws: {
            ($0 as? LDAPError)?.text.contains("the name \(name) can't be resolved: no answer within") == true
        }
        #expect(asked.wait(timeout: .now()) == .timedOut)
        answer.signal()
        answer.signal()
        let found = try HostResolver.addresses(of: name, port: 389, timeout: .seconds(60), lookUp: lookUp) {
            () throws(SourceError) in
        }
        #expect(found == [HostResolver.Address(family: AF_INET, bytes: [1])])
        #expect(
            try HostResolver.addresses(of: "::1", port: 389, timeout: .zero, lookUp: lookUp) { () throws(SourceError) in
            }
            .first?.family == AF_INET6)
    }

    @Test func connectingToABusySocketEndsWhenTheSyncIsStopped() throws {
        let path = folder("ldapi")
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        var held: [Int32] = []
        defer { held.forEach { close($0) } }
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                let size = socklen_t(MemoryLayout<sockaddr_un>.size)
                #expect(bind(listener, pointer, size) == 0 && listen(listener, 0) == 0)
                repeat {
                    held.append(socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0))
                } while connect(held.last ?? -1, pointer, size) == 0
            }
        }
        #expect(errno == EAGAIN)
        let uri = try #require(LDAPURI("ldapi://" + path.replacingOccurrences(of: "/", with: "%2F")))
        var checks = 0
        #expect {
            try LDAPSocket.connect(to: uri, timeout: .seconds(600)) { () throws(SourceError) in
                checks += 1
                if checks == 3 { throw SourceError(.cancelled, "enough") }
            }
        } throws: {
            ($0 as? LDAPError)?.cancellation?.kind == .cancelled
        }
    }
}
