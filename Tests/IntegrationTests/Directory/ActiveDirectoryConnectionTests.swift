import Foundation
import Testing

extension Directories {
    /// How Postern connects and authenticates to a domain controller.
    @Suite(DirectoryRequirements.samba) struct ActiveDirectoryConnectionTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        @Test("ldaps and StartTLS work with the right authority only")
        func encrypted() throws {
            let samba = try SharedController.instance()
            let unit = try samba.addUnit("Encrypted")
            try samba.add(.contact, "anna", ["SMTP:anna@example.com"], below: unit)
            let startTLS = SourceTable.samba(samba, uris: [samba.uri], bases: [unit], ["starttls": "true"])
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, bases: [unit]))
            #expect(try gateway.publish().source?.server == samba.ldapsURI)
            try gateway.configure([startTLS])
            #expect(try gateway.publish().source?.server == samba.uri)
            #expect(try gateway.listed(["anna@example.com"]).count == 1)

            let other = try TestAuthority(in: workspace, name: "other").certificateFile
            for source in [startTLS, .samba(samba, bases: [unit])] {
                try gateway.configure([source.with(["ca_file": "\"\(other)\""])])
                let run = try gateway.sync()
                #expect(run.status == 75)
                #expect(run.error.contains("TLS: the server's certificate is not accepted: "), "\(run.error)")
            }
            let clear = SourceTable.samba(samba, uris: [samba.uri], bases: [unit])
            try gateway.configure([clear])
            #expect(try gateway.sync().error.contains("would carry the password unencrypted"))
            try gateway.configure([clear.with(["allow_plaintext": "true"])])
            let run = try gateway.sync()
            #expect(run.status == 75)
            #expect(run.error.contains("the server requires an encrypted connection; use ldaps://"), "\(run.error)")
            #expect(try gateway.listed(["anna@example.com"]).count == 1)
        }

        @Test("the reason why an account may not log on is reported")
        func refused() throws {
            let samba = try SambaInstance(in: workspace)
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba))
            let account = SambaInstance.bindDN
            func isSaid(_ words: String, location: SourceLocation = #_sourceLocation) throws {
                let run = try gateway.sync()
                #expect(run.status == 75, sourceLocation: location)
                #expect(run.messages.count == 1, "\(run.error)", sourceLocation: location)
                #expect(run.error.contains("bind: \(words)"), "\(run.error)", sourceLocation: location)
            }
            let secret = SourceTable.Account.service.secret
            try gateway.write(secret: "wrong", to: secret)
            try isSaid("the password is wrong")
            try gateway.write(secret: SambaInstance.password, to: secret)
            try gateway.configure([.samba(samba, ["bind_dn": "\"nobody@\(SambaInstance.realm)\""])])
            try isSaid("the password is wrong, or there is no such account")
            try gateway.configure([.samba(samba, ["bind_dn": nil, "password_file": nil])])
            var run = try gateway.sync()
            #expect(run.status == 75)
            #expect(run.error.contains("the server requires a bind; set bind_dn and password_file"), "\(run.error)")
            try gateway.configure([.samba(samba, bases: ["OU=Nowhere,\(SambaInstance.base)"])])
            run = try gateway.sync()
            #expect(run.status == 75)
            #expect(
                run.error.contains("the base doesn't exist on this server, or the account may not see it"),
                "\(run.error)")
            try gateway.configure([.samba(samba)])
            try samba.replace("userAccountControl", of: account, with: ["66050"])
            try isSaid("the account is disabled")
            try samba.replace("userAccountControl", of: account, with: ["66048"])
            try samba.replace("accountExpires", of: account, with: ["130000000000000000"])
            try isSaid("the account has expired")
            try samba.replace("accountExpires", of: account, with: ["0"])
            try samba.replace("userAccountControl", of: account, with: ["512"])
            try samba.replace("pwdLastSet", of: account, with: ["0"])
            try isSaid("the account must change its password first")
            try samba.replace("pwdLastSet", of: account, with: ["-1"])
            try samba.replace("userAccountControl", of: account, with: ["66048"])

            try samba.replace("lockoutThreshold", of: SambaInstance.base, with: ["2"])
            try gateway.write(secret: "wrong", to: secret)
            for _ in 0..<3 { try gateway.sync() }
            try gateway.write(secret: SambaInstance.password, to: secret)
            try isSaid("the account is locked")
            try samba.replace("lockoutTime", of: account, with: ["0"])
            try samba.add(.contact, "anna", ["SMTP:anna@example.com"])
            #expect(try gateway.publish().recipients == 1)
        }

        @Test("a keytab works over a connection that Kerberos encrypts")
        func kerberos() throws {
            var options = SambaOptions()
            options.hasKDC = true
            let samba = try SambaInstance(in: workspace, options)
            let realm = try KerberosRealm(of: samba)
            try samba.add(.contact, "anna", ["SMTP:anna@example.com"])
            let kerberos: [String: String?] = [
                "bind_dn": nil, "password_file": nil, "ca_file": nil, "sasl": "\"gssapi\"",
                "keytab": "\"\(realm.keytab)\"",
            ]
            let gateway = try DirectoryGateway(
                in: workspace, of: .samba(samba, uris: [samba.uri], kerberos))
            func sync(_ environment: [String: String]) throws -> SyncRun {
                SyncRun(
                    try workspace.run(
                        PosternProcess.executable,
                        ["sync", "--once", "--format", "json", "--config", workspace.file("postern.toml")],
                        environment: environment))
            }
            let environment = ["KRB5_CONFIG": realm.configuration]
            var run = try sync(environment)
            #expect(run.status == 0, "\(run.error)")
            #expect(run.report?.recipients == 1)
            #expect(run.report?.source?.method == "DirSync")

            // Within TLS, newer versions accept Kerberos without its own encryption; older ones accept no Kerberos.
            try gateway.configure([.samba(samba, kerberos.merging(["ca_file": "\"\(samba.authorityFile)\""]) { $1 })])
            run = try sync(environment)
            if SambaInstance.takesKerberosOverTLS {
                #expect(run.status == 0, "\(run.error)")
                #expect(run.report?.source?.server == samba.ldapsURI)
            } else {
                #expect(run.status == 75)
                #expect(
                    run.error.contains("bind: the server accepts Kerberos only if Kerberos encrypts"), "\(run.error)")
            }

            // Without a keytab, with the ticket of the environment.
            try gateway.configure([.samba(samba, uris: [samba.uri], kerberos.merging(["keytab": nil]) { $1 })])
            run = try sync(realm.environment)
            #expect(run.status == 75)
            #expect(run.error.contains(": bind: "), "\(run.error)")
            try realm.obtainTicket()
            run = try sync(realm.environment)
            #expect(run.status == 0, "\(run.error)")

            // A keytab with old keys of the account.
            try gateway.configure([.samba(samba, uris: [samba.uri], kerberos)])
            try samba.tool(["user", "setpassword", SambaInstance.account, "--newpassword=Pass of postern 2"])
            run = try sync(environment)
            #expect(run.status == 75)
            #expect(run.error.contains("bind: "), "\(run.error)")
            #expect(try gateway.index()?.recipients == 1)
        }

        @Test("Kerberos without encryption is refused")
        func unprotected() throws {
            var options = SambaOptions()
            options.hasKDC = true
            let samba = try SambaInstance(in: workspace, options)
            let realm = try KerberosRealm(of: samba)
            var server = SlapdOptions()
            server.people = 3
            server.environment = [
                "KRB5_CONFIG": realm.configuration, "KRB5_KTNAME": "FILE:\(try realm.serverKeytab())",
            ]
            server.globalLines = [
                "sasl-host 127.0.0.1", "sasl-realm \(SambaInstance.realm)",
                "authz-regexp \"^uid=\(SambaInstance.account),.*cn=auth$\" \"\(SlapdInstance.bindDN)\"",
            ]
            let slapd = try SlapdInstance(in: workspace, server)
            let kerberos: [String: String?] = [
                "bind_dn": nil, "password_file": nil, "allow_plaintext": nil, "sasl": "\"gssapi\"",
                "keytab": "\"\(realm.keytab)\"",
            ]
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, kerberos)])
            func sync() throws -> SyncRun {
                SyncRun(
                    try workspace.run(
                        PosternProcess.executable,
                        ["sync", "--once", "--full", "--format", "json", "--config", workspace.file("postern.toml")],
                        environment: ["KRB5_CONFIG": realm.configuration]))
            }
            var run = try sync()
            #expect(run.status == 0, "\(run.error) \(slapd.log.suffix(2_000))")
            #expect(run.report?.recipients == 3)
            // Integrity alone is no encryption.
            for most in [0, 1] {
                slapd.options.globalLines = server.globalLines + ["sasl-secprops none,maxssf=\(most)"]
                try slapd.restart()
                run = try sync()
                #expect(run.status == 75, "\(most): \(run.output)")
                #expect(
                    run.error.contains("\(slapd.uri): bind: Kerberos doesn't encrypt this connection"),
                    "\(most): \(run.error)")
                #expect(try gateway.index()?.recipients == 3)
            }
        }

        @Test("rights that are granted or revoked later take effect and are reported")
        func rights() throws {
            let samba = try SambaInstance(in: workspace)
            for name in ["anna", "bert", "carl"] { try samba.add(.contact, name, ["SMTP:\(name)@example.com"]) }
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba))
            let blind = "the server doesn't report deletions to this account"
            #expect(try gateway.publish().notes.filter { $0.contains(blind) }.count == 1)
            try samba.grant(.replication)
            var report = try gateway.publish()
            #expect(report.reading == "full")
            try samba.grant(.deletedObjects)
            // Found at the next time that all is read, which for want of the right is each time.
            try gateway.publish()
            try samba.delete("CN=anna,\(SambaInstance.people)")
            report = try gateway.publish()
            #expect(report.reading == "changes", "\(report.notes)")
            #expect(report.source?.method == "DirSync")
            #expect(report.removed.addresses == ["anna@example.com"])

            try gateway.configure([.samba(samba, ["incremental": "\"usn\""])])
            #expect(try gateway.publish().source?.method == "uSNChanged")
            try samba.delete("CN=bert,\(SambaInstance.people)")
            report = try gateway.publish()
            #expect(report.reading == "changes")
            #expect(report.removed.addresses == ["bert@example.com"])

            try gateway.configure([.samba(samba)])
            try gateway.publish()
            try samba.revoke(.replication)
            try samba.delete("CN=carl,\(SambaInstance.people)")
            try samba.add(.contact, "dora", ["SMTP:dora@example.com"])
            report = try gateway.publish()
            #expect(report.added.addresses == ["dora@example.com"])
            #expect(report.removed.addresses == ["carl@example.com"])
        }

        @Test("another controller continues from the cookie, or everything is read", arguments: ["dirsync", "usn"])
        func takesOver(way: String) throws {
            let samba = try SambaInstance(in: workspace)
            for name in ["anna", "bert"] { try samba.add(.contact, name, ["SMTP:\(name)@example.com"]) }
            // The first of the servers is away.
            let away = "ldaps://127.0.0.1:\(try Ports.unused())"
            let gateway = try DirectoryGateway(
                in: workspace,
                of: .samba(
                    samba, as: .administrator, uris: [away, samba.ldapsURI], ["incremental": "\"\(way)\""]))
            #expect(try gateway.publish().source?.server == samba.ldapsURI)
            // The same objects in another controller's database, as after a replication.
            samba.stop()
            try samba.control(["identity", "CONF"])
            try samba.start()
            try samba.delete("CN=bert,\(SambaInstance.people)")
            try samba.add(.contact, "carl", ["SMTP:carl@example.com"])
            let report = try gateway.publish()
            #expect(report.removed.addresses == ["bert@example.com"])
            #expect(report.added.addresses == ["carl@example.com"])
            if way == "usn" {
                #expect(report.reading == "full")
                #expect(report.notes.count == 1)
                #expect(
                    report.notes.first?.contains("the last sync read another domain controller") == true,
                    "\(report.notes)")
            }
            try samba.delete("CN=carl,\(SambaInstance.people)")
            let next = try gateway.publish()
            #expect(next.reading == "changes", "\(next.notes)")
            #expect(next.removed.addresses == ["carl@example.com"])
        }
    }
}
