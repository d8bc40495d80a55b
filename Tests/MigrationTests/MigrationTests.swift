import Foundation
import TestSupport
import Testing

@testable import Migration

@Suite struct MigrationTests {
    private static let abilities = MigrationAbilities(sourceTypes: ["file", "command", "active-directory", "openldap"])
    { _ in nil }

    private func settings(_ values: [String: String], folder: String, services: String = "", options: String = "")
        -> PostfixSettings
    {
        let all = [
            "mail_version": "3.7.11", "queue_directory": "/q", "compatibility_level": "3.6",
            "mynetworks": "127.0.0.0/8",
        ]
        .merging(values) { $1 }
        let text = all.map { "\($0.key) = \($0.value)\n" }.joined()
        return PostfixSettings(folder: folder, given: text, expanded: text, services: services, options: options)
    }

    private func migrate(_ values: [String: String], folder: String, services: String = "") throws
        -> MigratedConfiguration
    {
        var reader = try PostfixReader(
            settings(values, folder: folder, services: services), socket: nil, abilities: Self.abilities)
        return try reader.read()
    }

    @Test("a smtpd that is chrooted gets a socket below the queue's folder")
    func chroot() throws {
        let values = ["relay_domains": "example.com", "smtpd_milters": "inet:localhost:8891"]
        let chrooted = try migrate(values, folder: "/f", services: "smtp inet n - y - - smtpd\n")
        #expect(chrooted.socket == "unix:/q/postern/milter.sock")
        #expect(
            chrooted.change?.lines == [
                "smtpd_milters = { unix:postern/milter.sock, default_action=accept, connect_timeout=5s }, inet:localhost:8891"
            ])
        #expect(
            try migrate(values, folder: "/f", services: "smtp inet n - n - - smtpd\n").socket
                == "unix:/run/postern/milter.sock")
    }

    @Test("relay domains without a list of recipients accept everything, and are an open question")
    func withoutList() throws {
        let migrated = try migrate(["relay_domains": "example.com"], folder: "/f")
        #expect(migrated.domains.first?.catchAllReason?.contains("OPEN QUESTION") == true)
        #expect(migrated.questions.contains { $0.contains("relay_recipient_maps is empty") })
    }

    @Test("Postern is kept out of non_smtpd_milters")
    func localMail() throws {
        let migrated = try migrate(
            ["relay_domains": "example.com", "smtpd_milters": "inet:h:1", "non_smtpd_milters": "$smtpd_milters"],
            folder: "/f")
        #expect(migrated.change?.lines.last == "non_smtpd_milters = inet:h:1")
    }

    @Test("settings of a service in master.cf and restriction classes are open questions")
    func services() throws {
        var reader = try PostfixReader(
            settings(
                ["relay_domains": "example.com", "smtpd_restriction_classes": "strict"], folder: "/f",
                services: "smtp inet n - n - - smtpd\n", options: "smtp/inet/relay_recipient_maps = hash:/x\n"),
            socket: nil, abilities: Self.abilities)
        let questions = try reader.read().questions
        #expect(
            questions.contains {
                $0.hasPrefix("master.cf: the service smtp has values of its own for relay_recipient_maps;")
            })
        #expect(questions.contains { $0.hasPrefix("smtpd_restriction_classes (strict)") })
    }

    @Test("a table that doesn't exist ends the migration with its name")
    func missingTable() {
        let error = #expect(throws: MigrationError.self) {
            try migrate(["relay_domains": "example.com", "relay_recipient_maps": "hash:/nowhere/x"], folder: "/f")
        }
        #expect(error?.kind == .noInput)
        #expect(error?.description.contains("/nowhere/x") == true)
    }

    @Test("a password goes to a secret, and never into the text of the configuration")
    func secrets() throws {
        let folder = try TemporaryFolder()
        let table = try folder.write(
            "server_host = ldap://dc.example\nsearch_base = dc=example\nquery_filter = (proxyAddresses=smtp:%s)\n"
                + "result_attribute = mail\nbind_dn = cn=x\nbind_pw = topsecret\n", as: "ad.cf")
        let migrated = try migrate(
            ["relay_domains": "example.com", "relay_recipient_maps": "ldap:\(table)"], folder: folder.path)
        let output = folder.file("out/postern.toml")
        try FileManager.default.createDirectory(atPath: folder.file("out"), withIntermediateDirectories: false)
        let files = try MigrationOutput(file: output, secrets: nil, replaces: false).write(migrated)
        #expect(files == [folder.file("out/ad.secret")])
        #expect(try String(contentsOfFile: files[0], encoding: .utf8) == "topsecret\n")
        #expect(try FileManager.default.attributesOfItem(atPath: files[0])[.posixPermissions] as? Int == 0o600)
        #expect(try FileManager.default.attributesOfItem(atPath: output)[.posixPermissions] as? Int == 0o640)
        let text = try String(contentsOfFile: output, encoding: .utf8)
        #expect(!text.contains("topsecret"))
        #expect(text.contains("type = \"active-directory\""))
        #expect(!MigrationSummary(migrated, applyCommand: nil).text.contains("topsecret"))
        let error = #expect(throws: MigrationError.self) {
            try MigrationOutput(file: output, secrets: nil, replaces: false).write(migrated)
        }
        #expect(error?.kind == .cannotCreate)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.file("out")).count == 2)
    }

    @Test("getadsmtp without Postfix becomes a source that names the relay domains, and its additions count")
    func getadsmtp() throws {
        let script = try GetadsmtpScript(
            text: """
                use Net::LDAP;
                $dc1="pdc@corp.example"; $hqbase="dc=corp,dc=example"; $user="u\\@corp.example"; $passwd="topsecret";
                print VALID "user\\@example.com OK\\n";
                print VALID "left\\@example.com 550 User unknown.\\n";
                next if $mail =~ /[.]local$/;
                """, path: "/x.pl")
        let migrated = try script.migrate(postfix: nil, socket: nil, abilities: Self.abilities)
        #expect(migrated.patterns.map(\.match) == ["^user@example\\.com$"])
        #expect(migrated.blocked == ["left@example.com"])
        #expect(migrated.questions.contains { $0.contains("\"pdc@corp.example\"") })
        #expect(migrated.questions.contains { $0.contains("line 5") })
        let text = ConfigurationWriter(migrated, secretsFolder: "/s", writesSecrets: false).toml
        #expect(text.contains("uris = [\"ldap://pdc.corp.example\"]"))
        #expect(text.contains("accepted_domains = true"))
        #expect(text.contains("password_file = \"/s/active-directory.secret\""))
        #expect(!text.contains("topsecret"))
    }

    @Test("aliases that lead back to themselves are open questions")
    func aliasCycle() throws {
        var migrated = MigratedConfiguration(origin: "test")
        for name in ["a.example", "b.example"] { migrated.addDomain(name, origin: "test") }
        migrated.addAlias("a.example", of: "b.example", origin: "test")
        migrated.addAlias("b.example", of: "a.example", origin: "test")
        #expect(migrated.domains.map(\.aliasOf) == ["b.example", nil])
        #expect(migrated.questions.count == 1)
    }

    @Test("a change is taken back byte for byte, and not if others have changed the file")
    func revert() throws {
        let folder = try TemporaryFolder()
        let original = "dnl mine\nFEATURE(`x')dnl\nMAILER(`smtp')dnl"
        let file = try folder.write(original, as: "sendmail.mc")
        var change = MTAChange(file: file, reload: "")
        change.insertion = (["INPUT_MAIL_FILTER(`postern', `S=x')dnl"], "MAILER(`smtp')dnl")
        let revertible = RevertibleChange(file: file)
        #expect(try revertible.apply(change))
        let changed = try String(contentsOfFile: file, encoding: .utf8)
        #expect(changed == "dnl mine\nFEATURE(`x')dnl\nINPUT_MAIL_FILTER(`postern', `S=x')dnl\nMAILER(`smtp')dnl")
        #expect(try !revertible.apply(change))
        try folder.write(changed + "\ndnl other\n", as: "sendmail.mc")
        let error = #expect(throws: MigrationError.self) { try revertible.revert() }
        #expect(error?.description.contains("dnl other") == true)
        try folder.write(changed, as: "sendmail.mc")
        try revertible.revert()
        #expect(try String(contentsOfFile: file, encoding: .utf8) == original)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["sendmail.mc"])
    }

    @Test("a sendmail.mc and the sendmail.cf made from it have the same classes and maps")
    func sendmailSettings() {
        let source = SendmailSettings(
            mc: "dnl RELAY_DOMAIN(`no.example')\nRELAY_DOMAIN(`a.example b.example')dnl\nFEATURE(`access_db')dnl\n"
                + "FEATURE(`virtusertable', `hash -o /v')dnl\nFEATURE(`ldap_routing', , , `bounce')dnl\n"
                + "INPUT_MAIL_FILTER(`one', `S=unix:/x, F=T')dnl\n", folder: "/m")
        let compiled = SendmailSettings(
            cf:
                "V10/Berkeley\nC{R}a.example b.example\nFR-o /m/relay-domains\nKaccess hash /m/access\nKvirtuser hash -o /v\n"
                + "O InputMailFilters=one\nXone, S=unix:/x, F=T\n")
        for settings in [source, compiled] {
            #expect(settings.classes["R"] == ["a.example", "b.example"])
            #expect(settings.classFiles["R"] == [.init(path: "/m/relay-domains", isOptional: true)])
            #expect(settings.maps["access"]?.file == "/m/access")
            #expect(settings.maps["virtuser"]?.isOptional == true)
            #expect(settings.filters.map(\.name) == ["one"])
        }
        #expect(source.rejectsUnrouted)
        #expect(source.maps["ldapmra"]?.options["k"]?.contains("mailLocalAddress=%0") == true)
    }
}
