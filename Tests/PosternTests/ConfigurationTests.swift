import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog
import TestSupport
import Testing

@testable import postern

@Suite struct ConfigurationTests {
    @Test func everyFaultIsReportedWithLineAndKey() throws {
        let folder = try TemporaryFolder()
        let cases = try FaultCase.read()
        #expect(cases.count >= 25)
        for faulty in cases {
            let path = try folder.write(faulty.toml, as: "postern.toml")
            do {
                _ = try Configuration.load(path)
                Issue.record("\(faulty.name): accepted")
            } catch {
                let reported = error.description.components(separatedBy: "\n").map {
                    String($0.dropFirst(path.count + 1))
                }
                #expect(reported.count == faulty.expected.count, "\(faulty.name): \(reported.joined(separator: "\n"))")
                for (report, expected) in zip(reported, faulty.expected) {
                    // The column of a syntax error depends on the version of toml++.
                    let line = report.replacing(/^(\d+):\d+: not TOML/) { "\($0.1): not TOML" }
                    #expect(line != report || !line.contains("not TOML"), "\(faulty.name): \(report) has no column")
                    #expect(line.hasPrefix(expected.place), "\(faulty.name): \(line)")
                    #expect(line.contains(expected.part), "\(faulty.name): \(line)")
                }
            }
        }
    }

    /// All notations of a size give the same number of bytes.
    @Test(arguments: [
        ("\"64M\"", 64 << 20), ("\"64MiB\"", 64 << 20), ("\"65536K\"", 64 << 20), ("\"65536KiB\"", 64 << 20),
        ("\"67108864\"", 64 << 20), ("67108864", 64 << 20), ("\"4G\"", 4 << 30), ("\"4GiB\"", 4 << 30),
        ("\"1T\"", 1 << 40),
    ])
    func allNotationsOfASizeAreRead(text: String, size: Int) throws {
        let folder = try TemporaryFolder()
        let configuration = try Configuration.load(
            folder.write(
                """
                [relay]
                domains = ["example.com"]
                [log]
                max_size = \(text)
                [[source]]
                name = "a"
                type = "command"
                command = ["/bin/true"]
                max_size = \(text)
                """, as: "postern.toml"))
        #expect(configuration.log.maximumSize == size)
        guard case .command(let command) = configuration.sync.sources.first?.kind else {
            Issue.record("no command")
            return
        }
        #expect(command.maximumSize == size)
    }

    @Test func relayDomainsAreReadFromTransportAccessAndMailertable() throws {
        let folder = try TemporaryFolder()
        try folder.write("example.com smtp:[10.0.0.5]\njoe@other.example smtp:x\n", as: "transport")
        try folder.write("To:example.org RELAY\nConnect:10.0.0 RELAY\n", as: "access")
        try folder.write("example.net esmtp:[10.0.0.5]\n", as: "mailertable")
        try folder.write("example.edu\n", as: "plain:list")
        let configuration = try Configuration.load(
            folder.write(
                """
                [relay]
                domains_from = ["transport:transport", "access:\(folder.file("access"))", "mailertable:mailertable", "./plain:list"]
                """, as: "postern.toml"))
        #expect(configuration.domains.map(\.name) == ["example.com", "example.org", "example.net", "example.edu"])
        #expect(configuration.domains.first?.key == "relay.domains_from (transport:transport)")
        #expect(configuration.stamps.count == 5)
    }

    /// An alias domain that a source's table names has the effect of `alias_of` if both domains are relay domains.
    @Test func aliasDomainsOfTheIndexTakeEffect() throws {
        let folder = try TemporaryFolder()
        let configuration = try Configuration.load(
            folder.write(
                """
                [relay]
                domains = ["example.com", "one.example", "two.example", "three.example", "four.example"]
                [policy]
                mode = "observe"
                [[domain]]
                name = "example.com"
                mode = "enforce"
                [[domain]]
                name = "two.example"
                alias_of = "example.com"
                mode = "observe"
                """, as: "postern.toml"))
        let source = IndexSource(
            name: "virtual", type: "file", recipients: 1, asOf: Date(),
            aliasDomains: [
                .init(name: "one.example", target: "two.example"), .init(name: "two.example", target: "four.example"),
                .init(name: "three.example", target: "foreign.example"),
                .init(name: "foreign.example", target: "example.com"),
            ])
        let named = configuration.addingDomains(of: [source])
        #expect(named.domains.map(\.rules.aliasOf) == [nil, "two.example", "example.com", nil, nil])
        #expect(named.domains.map(\.aliasSource) == [nil, "virtual", nil, nil, nil])
        #expect(named.aliasChain(of: "one.example") == ["one.example", "two.example", "example.com"])
        let policy = named.compiledPolicy()
        let address = try RecipientAddress(path: "anna@one.example")
        #expect(policy.aliased(address)?.key == "anna@two.example")
        #expect(named.aliasCircles == [])
        // The mode is the target's, unless the alias has its own.
        #expect(policy.domains.map(\.settings.observe) == [false, false, true, true, true])
    }

    @Test func valuesOfEachSectionAreRead() throws {
        let folder = try TemporaryFolder()
        _ = try folder.write("example.net relay\n", as: "relay_domains")
        let path = try folder.write(
            """
            [milter]
            socket = "unix:/run/postern/milter.sock"
            socket_mode = "0600"
            reload = "auto"
            [relay]
            domains = ["Example.COM.", "xn--bcher-kva.example", ".below.example"]
            domains_from = ["relay_domains"]
            subdomains = true
            trusted_networks = ["192.0.2.0/24"]
            trust_authenticated = false
            [recipients]
            always = ["PostMaster"]
            blocked = ["Old@Example.com"]
            delimiter = "-"
            [[domain]]
            name = "bücher.example"
            mode = "observe"
            catch_all = true
            delimiter = "+"
            disabled = "reject"
            index_stale = "tempfail"
            [policy]
            index_missing = "accept"
            [harvest]
            tarpit = "5s"
            tarpit_limit = 9
            [index]
            path = "here.index"
            max_age = "0s"
            [sync]
            max_shrink = "2.5%"
            [[source]]
            name = "s"
            type = "file"
            format = "sendmail"
            path = "virtual"
            domains = ["bücher.example", "sub.example.com"]
            """, as: "postern.toml")
        let configuration = try Configuration.load(path)
        #expect("\(configuration.socket)" == "unix:/run/postern/milter.sock")
        #expect(configuration.socketMode == 0o600)
        #expect(configuration.reloadsByItself)
        #expect(configuration.stamps.map(\.path) == [path, folder.file("relay_domains")])
        #expect(
            configuration.domains.map(\.name) == [
                "example.com", "xn--bcher-kva.example", ".below.example", "example.net",
            ])
        #expect(configuration.policy.subdomains)
        #expect(!configuration.policy.trustAuthenticated)
        #expect(configuration.policy.always == ["postmaster"])
        #expect(configuration.policy.blocked == ["old@example.com"])
        #expect(configuration.policy.maximumIndexAge == nil)
        #expect(configuration.policy.indexExpected)
        #expect(configuration.policy.harvest.tarpit == 5_000 && configuration.policy.harvest.tarpitLimit == 9)
        let general = configuration.domains[0].rules
        #expect(general.delimiter == "-")
        #expect(general.indexMissing == .accepted)
        let special = configuration.domains[1].rules
        #expect(special.observe && special.catchAll && !special.hideDisabled)
        #expect(special.delimiter == "+")
        #expect(special.indexStale == .deferred)
        #expect(special.indexMissing == .accepted)
        #expect(configuration.index.path == folder.file("here.index"))
        #expect(configuration.sync.maximumShrink == 0.025)
        #expect(configuration.sync.sources.first?.domains == ["xn--bcher-kva.example", "sub.example.com"])
        #expect(configuration.sourceFaults.map(\.key) == ["source[0].path"])
    }

    @Test func domainTableOverridesAddressRules() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(
            """
            [relay]
            domains = ["example.com", "example.org", "bücher.example", ".below.example"]
            [recipients]
            batv = true
            patterns = [{ match = "^a", action = "accept" }, { match = "^B", action = "block" }]
            [replies]
            unknown = "550 5.1.1 general"
            [[domain]]
            name = "BÜCHER.example"
            subdomains = true
            srs = true
            batv = false
            blocked = ["Old", "jörg@xn--bcher-kva.example", "new@sub.bücher.example"]
            replies = { unknown = "550 5.1.1 own" }
            [[source]]
            name = "s"
            type = "file"
            format = "list"
            path = "list"
            domains = ["bücher.example", "example.org"]
            """, as: "postern.toml")
        let configuration = try Configuration.load(path)
        #expect(configuration.policy.patterns.map(\.text) == ["^a", "^B"])
        let general = configuration.domains[0].rules
        #expect(general.batv && !general.srs && general.subdomains == nil && general.replies.isEmpty)
        let special = configuration.domains[2].rules
        #expect(!special.batv && special.srs && special.subdomains == true)
        #expect(special.blocked == ["old", "jörg"])
        #expect(configuration.policy.blocked == ["new@sub.xn--bcher-kva.example"])
        #expect(special.replies[.unknown] == (try ReplyTemplate("550 5.1.1 own", for: .unknown)))
        // The sync may publish the sub-domains of those that have them.
        let sync = configuration.syncConfiguration
        #expect(
            sync.relayDomains == [
                "example.com", "example.org", "xn--bcher-kva.example", ".xn--bcher-kva.example", ".below.example",
            ])
        #expect(!sync.subdomains)
        #expect(
            sync.sources.first?.domains == ["xn--bcher-kva.example", ".xn--bcher-kva.example", "example.org"])
    }

    /// A setting that weakens the protection of a directory's password and answers is reported.
    @Test(arguments: [
        ("ldaps", "", []),
        ("ldaps", "verify_certificate = false", ["verify_certificate = false: Postern doesn't verify"]),
        ("ldap", "allow_plaintext = true", ["allow_plaintext = true: the password and the recipients cross"]),
        ("ldap", "allow_plaintext = true\nstarttls = true", ["allow_plaintext = true: no connection needs it"]),
        ("ldaps", "allow_plaintext = true", ["allow_plaintext = true: no connection needs it"]),
        (
            "ldap", "allow_plaintext = true\nverify_certificate = false",
            ["verify_certificate = false: ", "allow_plaintext = true: the password"]
        ),
    ])
    func disabledProtectionIsReported(scheme: String, keys: String, expected: [String]) throws {
        let folder = try TemporaryFolder()
        let password = try folder.write("secret\n", as: "password")
        #expect(chmod(password, 0o600) == 0)
        let path = try folder.write(
            """
            [relay]
            domains = ["example.com"]
            [[source]]
            name = "people"
            type = "openldap"
            uris = ["\(scheme)://ldap.example.com"]
            bases = ["dc=example,dc=com"]
            bind_dn = "cn=postern,dc=example,dc=com"
            password_file = "password"
            \(keys)
            """, as: "postern.toml")
        let notices = try Configuration.load(path).notices
        #expect(notices.count == expected.count, "\(notices)")
        for (notice, part) in zip(notices, expected) {
            #expect(notice.hasPrefix("source \"people\": \(part)") && notice.contains("; "), "\(notice)")
        }
    }

    @Test func missingFileAndFolderAreRejected() throws {
        let folder = try TemporaryFolder()
        for (name, part) in [("missing.toml", "No such file"), ("", "Is a directory")] {
            do {
                _ = try Configuration.load(name.isEmpty ? folder.path : folder.file(name))
                Issue.record("\(name): accepted")
            } catch {
                #expect(error.description.contains(part))
            }
        }
    }
}

/// One case of `configuration.cases`.
private struct FaultCase {
    let name: String
    var toml = ""
    var expected: [(place: String, part: String)] = []

    static func read(file: String = #filePath) throws -> [FaultCase] {
        let path = URL(fileURLWithPath: file).deletingLastPathComponent().appendingPathComponent("configuration.cases")
        var cases: [FaultCase] = []
        for line in try String(contentsOf: path, encoding: .utf8).components(separatedBy: "\n") {
            if line.hasPrefix("=== ") {
                cases.append(FaultCase(name: String(line.dropFirst(4))))
            } else if cases.isEmpty {
                continue
            } else if let match = line.firstMatch(of: /^--- (\d+(?::\d+)?: (?:[a-z_0-9.\[\]]+: )?)(.*)$/) {
                cases[cases.count - 1].expected.append((String(match.1), String(match.2)))
            } else {
                cases[cases.count - 1].toml += line + "\n"
            }
        }
        return cases.map { faulty in
            var faulty = faulty
            if !faulty.toml.contains("[relay]") { faulty.toml += "[relay]\ndomains = [\"example.com\"]\n" }
            return faulty
        }
    }
}
