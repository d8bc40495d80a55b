import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import Synchronization
import System
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct LDAPFuzzTests {
    /// Whatever a server sends, the sync ends with a list or an error.
    @Test(arguments: [DirectoryConfiguration.Dialect.openLDAP, .activeDirectory, .generic])
    func anyAnswerOfAServerGivesAListOrAnError(dialect: DirectoryConfiguration.Dialect) throws {
        let folder = try TemporaryFolder()
        let server = try RandomServer(path: folder("ldapi"))
        let uri = try #require(LDAPURI("ldapi://" + folder("ldapi").replacing("/", with: "%2F")))
        var directory = DirectoryConfiguration(dialect, servers: [uri])
        directory.timeout = 2
        directory.push = false
        let configuration = SyncConfiguration(
            statePath: folder("state.sqlite"), indexPath: folder("recipients.index"), relayDomains: ["example.com"],
            sources: [SourceConfiguration(name: "people", kind: .directory(directory))])
        // First without a change.
        _ = try Synchronizer(configuration).run()
        #expect(try folder.snapshot().lookup("u1@example.com") != nil)
        var refused = 0
        try Effort.forEachSeed { seed in
            for run in 0..<60 as Range<UInt64> {
                server.change(seed: seed &* 1_000 &+ run)
                if syncError({ try Synchronizer(configuration).run(acceptShrink: true, readsAll: run % 2 == 0) }) != nil
                {
                    refused += 1
                }
                _ = try folder.snapshot()
            }
        }
        #expect(refused > 10, "\(refused)")
        server.stop()
    }
}

/// A directory server of a few entries on a unix socket, which changes one of its answers on each connection at random.
private final class RandomServer: Sendable {
    private let listener: Int32
    private let seed = Mutex<UInt64?>(nil)

    init(path: String) throws {
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard status == 0, listen(listener, 16) == 0 else { throw TestFailure("no socket at \(path)") }
        NamedThread.start("server") { [self] in
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { return }
                serve(client)
                close(client)
            }
        }
    }

    func change(seed given: UInt64) { seed.withLock { $0 = given } }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    private func serve(_ client: Int32) {
        let seed = seed.withLock { $0 }
        // The answer that is changed, by its number.
        let victim = seed.map { Int($0 % 5) }
        var number = 0
        var pending: [UInt8] = []
        while true {
            guard let request = Self.message(&pending) else {
                // A client that waits for the rest of a changed answer has waited long enough.
                var ready = pollfd(fd: client, events: Int16(POLLIN), revents: 0)
                guard poll(&ready, 1, victim.map { number > $0 } == true ? 50 : 2_000) > 0 else { return }
                var buffer = [UInt8](repeating: 0, count: 4096)
                let count = recv(client, &buffer, buffer.count, 0)
                guard count > 0 else { return }
                pending += buffer[..<count]
                continue
            }
            var answer = Self.answer(request)
            if let seed, number == victim {
                let words = ["\u{30}\u{0}", "mail", "1.3.6.1.4.1.4203.1.9.1.2", "\u{4}\u{7f}"]
                var mutation = Mutation(seed: seed, samples: [answer], words: words)
                answer = mutation.next()
            }
            number += 1
            guard Glibc.send(client, answer, answer.count, Int32(MSG_NOSIGNAL)) == answer.count else { return }
        }
    }

    /// Removes the first message from the received bytes, if it is complete.
    private static func message(_ bytes: inout [UInt8]) -> (id: [UInt8], operation: UInt8, content: [UInt8])? {
        var reader = BERReader(bytes)
        guard let whole = reader.read(BER.sequence) else { return nil }
        bytes.removeFirst(whole.endIndex)
        var content = BERReader(whole)
        guard let id = content.read(BER.integer), let operation = content.tag, let rest = content.read(operation) else {
            return nil
        }
        return (Array(id), operation, Array(rest))
    }

    private static func answer(_ request: (id: [UInt8], operation: UInt8, content: [UInt8])) -> [UInt8] {
        func message(_ operation: UInt8, _ content: [UInt8], controls: [UInt8] = []) -> [UInt8] {
            BER.sequence(
                BER.element(BER.integer, request.id), BER.element(operation, content),
                controls.isEmpty ? [] : BER.element(0xa0, controls))
        }
        func entry(_ name: String, _ attributes: [(String, [String])], controls: [UInt8] = []) -> [UInt8] {
            let list = attributes.flatMap { name, values in
                BER.sequence(BER.octets(name.utf8), BER.element(BER.set, values.flatMap { BER.octets($0.utf8) }))
            }
            return message(0x64, BER.octets(name.utf8) + BER.element(BER.sequence, list), controls: controls)
        }
        func control(_ oid: String, _ value: [UInt8]) -> [UInt8] {
            BER.sequence(BER.octets(oid.utf8), BER.octets(value))
        }
        let success = BER.enumerated(0) + BER.octets([]) + BER.octets([])
        switch request.operation {
        case 0x60: return message(0x61, success)
        case 0x63:
            var reader = BERReader(request.content)
            let base = reader.optionalOctets() ?? []
            if base.isEmpty {
                return entry(
                    "",
                    [
                        ("namingContexts", ["dc=example,dc=com"]), ("defaultNamingContext", ["dc=example,dc=com"]),
                        ("supportedControl", [LDAPControl.OID.syncRequest, LDAPControl.OID.pagedResults]),
                        ("dsServiceName", ["cn=s,dc=example,dc=com"]), ("highestCommittedUSN", ["42"]),
                    ]) + message(0x65, success)
            }
            let entries = (0..<8).flatMap { number in
                let uuid = [UInt8](repeating: UInt8(number + 1), count: 16)
                return entry(
                    "uid=u\(number),dc=example,dc=com",
                    [
                        ("mail", ["u\(number)@example.com"]),
                        ("proxyAddresses", ["SMTP:u\(number)@example.com", "x500:a"]),
                        ("entryUUID", [String(repeating: "u", count: 16)]), ("userAccountControl", ["512"]),
                        ("objectGUID", [String(decoding: uuid, as: UTF8.self)]), ("uSNChanged", ["\(number)"]),
                    ],
                    controls: control(
                        LDAPControl.OID.syncState,
                        BER.sequence(BER.enumerated(1), BER.octets(uuid), BER.octets("c".utf8))))
            }
            let done = control(LDAPControl.OID.syncDone, BER.sequence(BER.octets("cookie".utf8), BER.boolean(true)))
            let paged = control(LDAPControl.OID.pagedResults, BER.sequence(BER.integer(0), BER.octets([])))
            return entries + message(0x65, success, controls: done + paged)
        default: return message(0x78, success)
        }
    }
}
