import Foundation
import Glibc
import Testing

extension Directories {
    @Suite(DirectoryRequirements.slapd) struct SlapdInstanceTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        @Test("only the authenticated service account may read")
        func simpleBind() throws {
            let slapd = try SlapdInstance(in: workspace)
            try slapd.addPerson("anna", mail: ["anna@example.com", "a@example.com"])
            try slapd.modify(
                "uid=anna,\(SlapdInstance.people)",
                """
                add: mailLocalAddress
                mailLocalAddress: local@example.com
                -
                add: mailAlternateAddress
                mailAlternateAddress: other@example.com
                -
                add: posternInternalOnly
                posternInternalOnly: TRUE
                """)
            let found = try slapd.client().search("(mailLocalAddress=*)", base: SlapdInstance.base)
            #expect(found.code == 0)
            let anna = try #require(found.entries.first)
            #expect(anna["mail"] == ["anna@example.com", "a@example.com"])
            #expect(anna["mailAlternateAddress"] == ["other@example.com"])
            #expect(anna["posternInternalOnly"] == ["TRUE"])

            var stranger = slapd.client()
            stranger.credentials = .anonymous
            // The server doesn't even show other accounts that the entry exists.
            #expect(try stranger.search(base: SlapdInstance.base).code == 32)
            stranger.credentials = .simple(dn: SlapdInstance.bindDN, password: "wrong")
            #expect(try stranger.search(base: SlapdInstance.base).code == 49)
        }

        @Test("entries are changed, renamed, moved and deleted")
        func operations() throws {
            let slapd = try SlapdInstance(in: workspace)
            let dn = "uid=anna,\(SlapdInstance.people)"
            try slapd.addPerson("anna", mail: ["anna@example.com"])
            try slapd.replace("mail", of: dn, with: ["new@example.com"])
            try slapd.rename(dn, to: "uid=anne")
            try slapd.add("dn: ou=sales,\(SlapdInstance.base)\nobjectClass: organizationalUnit\n")
            try slapd.move("uid=anne,\(SlapdInstance.people)", below: "ou=sales,\(SlapdInstance.base)")
            var found = try slapd.client().search("(mail=*)", base: SlapdInstance.base)
            #expect(found.entries.map(\.dn) == ["uid=anne,ou=sales,\(SlapdInstance.base)"])
            #expect(found.entries.first?["mail"] == ["new@example.com"])
            try slapd.delete("uid=anne,ou=sales,\(SlapdInstance.base)")
            found = try slapd.client().search("(mail=*)", base: SlapdInstance.base)
            #expect(found.entries.isEmpty)
        }

        @Test("ldaps and StartTLS work for clients that trust the authority")
        func tls() throws {
            let authority = try TestAuthority(in: workspace)
            let other = try TestAuthority(in: workspace, name: "other")
            var options = SlapdOptions()
            options.certificate = try authority.issue()
            let slapd = try SlapdInstance(in: workspace, options)
            for uri in [slapd.ldapsURI, slapd.uri] {
                var client = slapd.client(over: uri)
                client.startTLS = uri == slapd.uri
                let found = try client.search(base: SlapdInstance.base, scope: "base")
                #expect(found.entries.count == 1, "\(uri): \(found.error)")
                client.authorityFile = other.certificateFile
                let refused = try client.search(base: SlapdInstance.base, scope: "base")
                #expect(refused.code == (client.startTLS ? 1 : 255), "\(refused.error)")
            }
        }

        @Test("bad certificates are refused, and a good one works after a restart")
        func badCertificates() throws {
            let authority = try TestAuthority(in: workspace)
            var options = SlapdOptions()
            options.certificate = try authority.issue("expired", validity: .expired)
            let slapd = try SlapdInstance(in: workspace, options)
            let client = slapd.client(over: slapd.ldapsURI)
            #expect(try client.search(base: SlapdInstance.base, scope: "base").code == 255)
            for (name, certificate) in [
                ("early", try authority.issue("early", validity: .notYet)),
                ("elsewhere", try authority.issue("elsewhere", hosts: ["ldap.example.net"], addresses: ["127.9.9.9"])),
            ] {
                slapd.options.certificate = certificate
                try slapd.restart()
                #expect(try client.search(base: SlapdInstance.base, scope: "base").code == 255, "\(name)")
            }
            slapd.options.certificate = try authority.issue()
            try slapd.restart()
            #expect(try client.search(base: SlapdInstance.base, scope: "base").code == 0)
        }

        @Test("over ldapi, the process's user is the service account")
        func external() throws {
            let slapd = try SlapdInstance(in: workspace)
            var client = slapd.client(over: slapd.ldapiURI)
            client.credentials = .external
            #expect(try client.run("ldapwhoami", []).output == "dn:\(SlapdInstance.bindDN)\n")
            slapd.options.external = .nobody
            try slapd.restart()
            #expect(try client.search(base: SlapdInstance.base).code == 32)
        }

        @Test("content synchronization gives cookies and the changes since")
        func contentSync() throws {
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 100)
            options.people = 3
            let slapd = try SlapdInstance(in: workspace, options)
            func refresh(_ cookie: String = "") throws -> DirectoryClient.Answer {
                try slapd.client().search("(mail=*)", base: SlapdInstance.base, extensions: ["!sync=ro\(cookie)"])
            }
            func cookie(_ answer: DirectoryClient.Answer) throws -> String {
                try #require(answer.output.firstMatch(of: /rid=[^\s]+/)).output.description
            }
            var answer = try refresh()
            #expect(answer.entries.count == 3)
            try slapd.replace("mail", of: SlapdInstance.person(1), with: ["new@example.com"])
            try slapd.delete(SlapdInstance.person(2))
            answer = try refresh("/" + cookie(answer))
            #expect(answer.entries.map(\.dn) == [SlapdInstance.person(1)])
        }

        @Test("without the overlay, the server doesn't support content synchronization")
        func noContentSync() throws {
            let slapd = try SlapdInstance(in: workspace)
            #expect(try slapd.client().search(base: SlapdInstance.base, extensions: ["!sync=ro"]).code == 12)
        }

        @Test("a size limit ends a search with code 4, paged results or not")
        func sizeLimit() throws {
            var options = SlapdOptions()
            options.sizeLimit = 10
            options.people = 50
            let slapd = try SlapdInstance(in: workspace, options)
            let plain = try slapd.client().search("(mail=*)", base: SlapdInstance.base)
            #expect(plain.code == 4)
            #expect(plain.entries.count == 10)
            #expect(
                try slapd.client().search(
                    "(mail=*)", base: SlapdInstance.base, extensions: ["pr=5/noprompt"]
                ).code == 4)
            slapd.options.sizeLimit = nil
            try slapd.restart()
            #expect(try slapd.client().search("(mail=*)", base: SlapdInstance.base).entries.count == 50)
        }

        @Test("the data survive kill -9, and the ports stay the same")
        func killed() throws {
            let slapd = try SlapdInstance(in: workspace)
            try slapd.addPerson("anna", mail: ["anna@example.com"])
            let uri = slapd.uri
            let pid = try #require(slapd.pid)
            #expect(Workspace.processes(in: workspace.path) == [pid])
            #expect(slapd.kill() == .killed(signal: SIGKILL))
            #expect(try slapd.client().search(base: SlapdInstance.base).code == 255)
            try slapd.start()
            #expect(slapd.uri == uri)
            #expect(try slapd.client().search("(mail=anna@example.com)", base: SlapdInstance.base).entries.count == 1)
            #expect(slapd.stop() == .exited(0))
        }

        @Test("a paused server accepts connections and doesn't answer")
        func paused() throws {
            let slapd = try SlapdInstance(in: workspace)
            slapd.pause()
            #expect(Ports.answers(slapd.port))
            var client = slapd.client()
            client.patience = 1
            #expect(try client.search(base: SlapdInstance.base, scope: "base").code == 124)
            slapd.resume()
            #expect(try slapd.client().search(base: SlapdInstance.base, scope: "base").code == 0)
        }

        @Test("through a proxy, a search is cut in the middle of an entry, or held between two pages")
        func faults() throws {
            var options = SlapdOptions()
            options.people = 30
            let slapd = try SlapdInstance(in: workspace, options)
            let proxy = try FaultProxy(to: slapd.port)
            var client = slapd.client(over: "ldap://127.0.0.1:\(proxy.port)")
            func search() throws -> DirectoryClient.Answer {
                try client.search("(mail=*)", base: SlapdInstance.base, extensions: ["pr=10/noprompt"])
            }
            proxy.cutWhen(serverSends: SlapdInstance.address(15), once: true)
            let cut = try search()
            #expect(cut.code == 255)
            #expect(cut.entries.count == 15)

            let paged = Array("1.2.840.113556.1.4.319".utf8)
            // The answer to a page ends with this control.
            proxy.set(.cutWhen(.server, sends: paged, forwarding: true))
            #expect(try search().entries.count == 10)
            proxy.set(.stallAfter(.ofConnection(1200)))
            client.patience = 1
            #expect(try search().code == 124)
            proxy.set(.pass)
            #expect(try search().entries.count == 30)
        }

        @Test("a directory can start with many people")
        func people() throws {
            var options = SlapdOptions()
            options.people = Int(ProcessInfo.processInfo.environment["POSTERN_TEST_PEOPLE"] ?? "") ?? 10_000
            let start = ContinuousClock.now
            let slapd = try SlapdInstance(in: workspace, options)
            print("slapd with \(options.people) people: \(ContinuousClock.now - start)")
            let last = SlapdInstance.address(options.people - 1)
            #expect(try slapd.client().search("(mail=\(last))", base: SlapdInstance.base).entries.count == 1)
        }
    }
}
