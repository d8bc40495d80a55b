import DirectorySync
import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex
import RejectionLog
import TestSupport
import Testing

@testable import postern

@Suite struct ConfigurationTests {
    @Test func everyFaultIsToldAtItsPlace() throws {
        let folder = try TemporaryFolder()
        let cases = try FaultCase.read()
        #expect(cases.count >= 25)
        for faulty in cases {
            let path = try folder.write(faulty.toml, as: "postern.toml")
            do {
                _ = try Configuration.load(path)
                Issue.record("\(faulty.name): accepted")
            } catch {
                let told = error.description.components(separatedBy: "\n").map { String($0.dropFirst(path.count + 1)) }
                #expect(told.count == faulty.expected.count, "\(faulty.name): \(told.joined(separator: "\n"))")
                for (line, expected) in zip(told, faulty.expected) {
                    #expect(line.hasPrefix(expected.place), "\(faulty.name): \(line)")
                    #expect(line.contains(expected.part), "\(faulty.name): \(line)")
                }
            }
        }
    }

    /// Every way to write a size means the same for every key.
    @Test(arguments: [
        ("\"64M\"", 64 << 20), ("\"64MiB\"", 64 << 20), ("\"65536K\"", 64 << 20), ("\"65536KiB\"", 64 << 20),
        ("\"67108864\"", 64 << 20), ("67108864", 64 << 20), ("\"4G\"", 4 << 30), ("\"4GiB\"", 4 << 30),
        ("\"1T\"", 1 << 40),
    ])
    func sizes(text: String, size: Int) throws {
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

    @Test func relayDomainsOfTransportAndAccess() throws {
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

    /// An alias that a source's table names counts like one of the configuration, where both are relay domains.
    @Test func aliasDomainsOfTheIndex() throws {
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
        let named = configuration.naming([source])
        #expect(named.domains.map(\.rules.aliasOf) == [nil, "two.example", "example.com", nil, nil])
        #expect(named.domains.map(\.aliasSource) == [nil, "virtual", nil, nil, nil])
        #expect(named.aliasChain(of: "one.example") == ["one.example", "two.example", "example.com"])
        let policy = named.compiledPolicy()
        let address = try RecipientAddress(path: "anna@one.example")
        #expect(policy.aliased(address)?.key == "anna@two.example")
        #expect(named.aliasCircles == [])
        // The mode is the target's, unless the alias has its own.
        #expect(policy.domains.map(\.rules.observe) == [false, false, true, true, true])
    }

    @Test func theSampleIsSound() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write(ConfigurationSample.text, as: "postern.toml")
        let configuration = try Configuration.load(path)
        #expect(configuration.domains.map(\.name) == ["example.com", "example.org"])
        #expect(configuration.sync.sources.map(\.name) == ["recipients"])
    }

    /// Every key of the sample, its comment sign taken away, is known and has the default that the sample says.
    @Test func theSampleTellsTheDefaults() throws {
        let folder = try TemporaryFolder()
        // The further sources are another test's.
        let sample = ConfigurationSample.text.components(separatedBy: "\n")
        let start = try #require(sample.firstIndex { $0.hasPrefix("# A program's standard output") })
        let end = try #require(sample.firstIndex { $0.hasPrefix("[log]") })
        let all = (sample[..<start] + sample[end...]).joined(separator: "\n").components(separatedBy: "\n").map {
            line in
            line.firstMatch(of: /^# ([a-z_0-9]+ = .*|\[\[domain\]\])/).map { String($0.1) } ?? line
        }
        let set = all.filter {
            !$0.hasPrefix("domains_from") && !$0.hasPrefix("blocked") && !$0.hasPrefix("canaries")
                && !$0.hasPrefix("name = \"example.") && !$0.hasPrefix("[[domain]]")
                && !$0.hasPrefix("catch_all") && !$0.hasPrefix("alias_of") && !$0.hasPrefix("mode = \"observe\"")
                && !$0.hasPrefix("subdomains = true") && !$0.hasPrefix("replies = ") && !$0.hasPrefix("patterns")
        }
        #expect(set.filter { $0.contains(" = ") && !$0.hasPrefix("#") }.count > 25)
        let given = try Configuration.load(folder.write(set.joined(separator: "\n"), as: "all.toml"))
        let plain = try Configuration.load(folder.write(ConfigurationSample.text, as: "plain.toml"))
        #expect(given.rules == plain.rules)
        #expect(given.socketMode == plain.socketMode)
        #expect(given.reloadsByItself == plain.reloadsByItself)
        #expect(given.policy.always == plain.policy.always)
        #expect(given.policy.trustedNetworks == plain.policy.trustedNetworks)
        #expect(given.policy.harvest == plain.policy.harvest)
        #expect(given.index.path == plain.index.path)
        #expect(given.index.maximumAge == plain.index.maximumAge)
        #expect(given.sync.state == plain.sync.state)
        #expect(given.sync.interval == plain.sync.interval)
        #expect(given.sync.maximumShrink == plain.sync.maximumShrink)
        #expect(given.sync.minimum == plain.sync.minimum)
        #expect(given.log.database == plain.log.database)
        #expect(given.log.retention == plain.log.retention)
        #expect(given.log.lines == plain.log.lines)
        #expect(given.log.redact == plain.log.redact)
        // The examples that aren't defaults are known keys too; only the table of domains isn't there.
        let error = #expect(throws: ConfigurationError.self) {
            try Configuration.load(folder.write(all.joined(separator: "\n"), as: "all.toml"))
        }
        #expect(error?.faults.map(\.key) == ["relay.domains_from[0]"])
    }

    /// Every key of the sample's further sources, their comment signs taken away, is known; what stands there for a choice is told.
    @Test func theSampleTellsTheKeysOfSources() throws {
        let folder = try TemporaryFolder()
        let text = ConfigurationSample.text.components(separatedBy: "\n").map { line in
            line.firstMatch(of: /^# ((type|name|command|uris|[a-z_]+) = .*|\[\[source\]\])/).map { String($0.1) }
                ?? line
        }
        let start = try #require(text.firstIndex { $0.hasPrefix("# A program's standard output") })
        let end = try #require(text.firstIndex { $0.hasPrefix("[log]") })
        let sources = (["[relay]", "domains = [\"example.com\"]"] + text[start..<end]).joined(separator: "\n")
        let error = #expect(throws: ConfigurationError.self) {
            try Configuration.load(folder.write(sources, as: "sources.toml"))
        }
        #expect(error?.faults.map(\.key) == ["source[1].sasl"])
        let chosen = sources.replacing(/\nsasl = [^\n]*/, with: "")
        let configuration = try Configuration.load(folder.write(chosen, as: "chosen.toml"))
        #expect(configuration.sync.sources.map(\.type) == ["command", "active-directory"])
        guard case .directory(let directory) = configuration.sync.sources[1].kind else {
            Issue.record("the second source is no directory")
            return
        }
        // What the sample says of the defaults is so.
        let plain = DirectoryConfiguration(.activeDirectory, servers: directory.servers)
        #expect(directory.attributes == plain.attributes)
        #expect(directory.internalOnly == plain.internalOnly)
        #expect(directory.disabled == plain.disabled)
        #expect(directory.disabledTreatment == plain.disabledTreatment)
        #expect(directory.incremental == plain.incremental)
        #expect(directory.timeout == plain.timeout && directory.pageSize == plain.pageSize)
        #expect(directory.reconcileInterval == plain.reconcileInterval && directory.push == plain.push)
        #expect(directory.startTLS == plain.startTLS && directory.verifiesCertificate == plain.verifiesCertificate)
    }

    @Test func valuesArriveWhereTheyBelong() throws {
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

    @Test func addressRulesByDomain() throws {
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

    /// What protects a directory's password and answers isn't turned off without a word.
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
    func protectionThatIsTurnedOffIsNamed(scheme: String, keys: String, expected: [String]) throws {
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

    @Test func missingAndUnreadableFiles() throws {
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
            } else if let match = line.firstMatch(of: /^--- (\d+: (?:[a-z_0-9.\[\]]+: )?)(.*)$/) {
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
