import Foundation
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// Answers of a directory that are doubtful or incomplete.
@Suite struct DirectoryDoubtTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func run(
        _ answers: [[UInt8]], _ dialect: DirectoryConfiguration.Dialect = .activeDirectory,
        _ change: (inout DirectoryConfiguration) -> Void = { _ in }
    ) throws -> SyncReport {
        let server = try SilentServer(answers)
        defer { server.stop() }
        let uri = try #require(LDAPURI("ldap://127.0.0.1:\(server.port)"))
        var directory = DirectoryConfiguration(dialect, servers: [uri])
        directory.timeout = 20
        directory.bases = ["dc=example,dc=com"]
        directory.incremental = .off
        change(&directory)
        var configuration = folder.configuration([])
        configuration.sources = [SourceConfiguration(name: "people", kind: .directory(directory))]
        return try Synchronizer(configuration).run()
    }

    private func bytes(_ texts: String...) -> [[UInt8]] { texts.map { Array($0.utf8) } }

    private func root(_ attributes: (String, [[UInt8]])...) -> [UInt8] {
        SilentServer.entry(
            1, "",
            [
                ("namingContexts", bytes("dc=example,dc=com")), ("defaultNamingContext", bytes("dc=example,dc=com")),
                ("configurationNamingContext", bytes("cn=configuration,dc=example,dc=com")),
            ] + attributes) + SilentServer.success(1, 0x65)
    }

    private func person(_ number: UInt8, of id: Int32 = 2, _ attributes: (String, [[UInt8]])...) -> [UInt8] {
        SilentServer.entry(
            id, "cn=person\(number),dc=example,dc=com",
            [
                ("objectGUID", [[UInt8](repeating: number, count: 16)]),
                ("proxyAddresses", bytes("SMTP:person\(number)@example.com")),
            ] + attributes)
    }

    private let done = SilentServer.success(2, 0x65)

    @Test func anUnsynchronizedControllerIsNotRead() throws {
        let answer = person(1) + done
        let error = syncError { try run([root(("isSynchronized", bytes("FALSE"))), answer]) }
        #expect(error?.kind == .unreachable)
        #expect(error?.description.contains("isSynchronized: FALSE") == true)
        #expect(try run([root(("isSynchronized", bytes("TRUE"))), answer]).recipients == 1)
        #expect(try run([root(), answer]).recipients == 1, "a server without the attribute is read")
    }

    @Test func accountsWithoutUserAccountControlAreReported() throws {
        let user = bytes("top", "person", "organizationalPerson", "user")
        let report = try run(
            [
                root(),
                person(1, ("objectClass", user), ("userAccountControl", bytes("514")))
                    + person(2, ("objectClass", user), ("userAccountControl", bytes("512")))
                    + person(3, ("objectClass", user)) + person(4, ("objectClass", bytes("top", "contact")))
                    + person(5, ("objectClass", user), ("userAccountControl", bytes("many"))) + done,
            ]
        ) { $0.disabledTreatment = .exclude }
        #expect(
            report.added.addresses == [2, 3, 4, 5].map { "person\($0)@example.com" },
            "a disabled account is left out")
        let doubts = report.sources[0].report.doubts
        #expect(doubts.count == 2)
        let text = doubts.first.map { "\($0)" }.joined(separator: "\n")
        #expect(text.contains("cn=person3") && text.contains("userAccountControl"), "\(text)")
        #expect(text.contains("cn=person5") && text.contains("many"), "\(text)")
    }

    @Test func acceptedDomainsOfUnknownKindAcceptListedRecipientsOnly() throws {
        func domain(_ name: String, _ flags: String?) -> [UInt8] {
            SilentServer.entry(
                2, "cn=\(name),cn=configuration,dc=example,dc=com",
                [("msExchAcceptedDomainName", bytes(name))]
                    + (flags.map { [("msExchAcceptedDomainFlags", bytes($0))] } ?? []))
        }
        let report = try run(
            [
                root(),
                domain("all.example", "2") + domain("listed.example", "0") + domain("hidden.example", nil)
                    + domain("odd.example", "two") + domain(" spaced.example ", "0")
                    + domain("a.example,b.example", "0")
                    + done, person(1, of: 3) + SilentServer.success(3, 0x65),
            ]
        ) { $0.relayDomains = .acceptedDomains }
        let domains = try folder.snapshot().info.sources[0].relayDomains
        #expect(domains.filter(\.takesAll).map(\.name) == ["all.example"])
        #expect(
            domains.map(\.name).sorted()
                == ["all.example", "hidden.example", "listed.example", "odd.example", "spaced.example"])
        let text = (report.sources[0].report.doubts.first + report.sources[0].report.domainFaults.first).map { "\($0)" }
            .joined(
                separator: "\n")
        for word in [
            "hidden.example", "doesn't show msExchAcceptedDomainFlags", "\"two\", which is not a number",
            "a.example,b.example",
        ] {
            #expect(text.contains(word), "\(word) in \(text) \(report.notes)")
        }
    }

    @Test func aValueThatIsAWholeDomainIsACatchAll() throws {
        let entry = SilentServer.entry(
            2, "cn=a",
            [
                ("entryUUID", bytes("00000000-0000-0000-0000-000000000001")),
                ("mail", bytes("@example.org", "a@example.com", "@elsewhere.test")),
            ])
        _ = try run([root(), entry + done], .generic)
        #expect(try folder.snapshot().lookup("@example.org") == .catchAll)
        #expect(try folder.snapshot().info.catchAllDomains == 1)
    }
}
