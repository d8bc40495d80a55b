import Foundation
import Glibc
import Testing

extension Directories {
    @Suite(DirectoryRequirements.samba) struct SambaInstanceTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        /// The answer of DirSync since a cookie.
        private func dirSync(
            _ client: DirectoryClient, flags: Int = 1, since cookie: String = ""
        ) throws -> (answer: DirectoryClient.Answer, cookie: String) {
            let answer = try client.search(
                base: SambaInstance.base, attributes: ["proxyAddresses", "isDeleted"],
                extensions: ["!dirSync=\(flags)/0\(cookie.isEmpty ? "" : "/\(cookie)")"])
            let found = answer.output.firstMatch(of: /# cookie:: (\S+)/)?.output.1
            return (answer, found.map { "\($0)" } ?? "")
        }

        @Test("the service account reads over ldaps, all kinds of recipients with Exchange's attributes")
        func reads() throws {
            let samba = try SambaInstance(in: workspace)
            let exchange = [("mailNickname", "x"), ("msExchRequireAuthToSendTo", "TRUE")]
            for kind in [SambaInstance.Kind.user, .group, .contact, .dynamicGroup, .publicFolder] {
                try samba.add(kind, "\(kind)", ["SMTP:\(kind)@example.com", "X400:c=us"], exchange)
            }
            let found = try samba.client().search("(mailNickname=x)", base: SambaInstance.base)
            #expect(found.code == 0)
            #expect(found.entries.count == 5)
            #expect(found.entries.allSatisfy { $0["msExchRequireAuthToSendTo"] == ["TRUE"] })
            let user = found.entries.first { $0.dn == "CN=user,\(SambaInstance.people)" }
            #expect(user?["proxyAddresses"].sorted() == ["SMTP:user@example.com", "X400:c=us"])
            // A search at the domain's root gives references too.
            #expect(found.output.contains("ref: ldaps://corp.example.com/"))

            try samba.addAcceptedDomain("example.com")
            try samba.addAcceptedDomain("example.net", flags: 2)
            let domains = try samba.client().search(
                "(objectClass=msExchAcceptedDomain)", base: SambaInstance.configurationBase)
            #expect(domains.entries.map { $0["msExchAcceptedDomainFlags"] }.sorted { $0[0] < $1[0] } == [["0"], ["2"]])
        }

        @Test("the controller refuses passwords without TLS and wrong ones; clients must trust its authority")
        func refuses() throws {
            let samba = try SambaInstance(in: workspace)
            let base = SambaInstance.base
            #expect(try samba.client().search(base: base, scope: "base").code == 0)
            #expect(try samba.client(over: samba.catalogueURI).search(base: base, scope: "base").code == 0)
            // strongAuthRequired
            #expect(try samba.client(over: samba.uri).search(base: base, scope: "base").code == 8)
            var client = samba.client(over: samba.uri)
            client.startTLS = true
            #expect(try client.search(base: base, scope: "base").code == 0)
            client = samba.client()
            client.credentials = .simple(dn: SambaInstance.bindDN, password: "wrong")
            #expect(try client.search(base: base, scope: "base").code == 49)
            client.authorityFile = try TestAuthority(in: workspace, name: "other").certificateFile
            #expect(try client.search(base: base, scope: "base").code == 255)
        }

        @Test("DirSync by the service account: the rights for each flag and for deletions")
        func dirSync() throws {
            let samba = try SambaInstance(in: workspace)
            let client = samba.client()
            // insufficientAccessRights
            #expect(try dirSync(client, flags: 0).answer.code == 50)
            let anna = try samba.add(.user, "anna", ["SMTP:anna@example.com"])
            let bob = try samba.add(.contact, "bob", ["SMTP:bob@example.com"])
            var (answer, cookie) = try dirSync(client)
            #expect(answer.code == 0)
            #expect(Set(answer.entries.map(\.dn)).isSuperset(of: [anna, bob]))

            try samba.replace("proxyAddresses", of: anna, with: ["SMTP:a@example.com"])
            (answer, cookie) = try dirSync(client, since: cookie)
            #expect(answer.entries.map(\.dn) == [anna])
            #expect(answer.entries.first?["proxyAddresses"] == ["SMTP:a@example.com"])

            try samba.delete(bob)
            #expect(try dirSync(client, since: cookie).answer.entries.isEmpty)
            try samba.grant(.replication)
            #expect(try dirSync(client, flags: 0, since: cookie).answer.entries.isEmpty)
            try samba.grant(.deletedObjects)
            for flags in [0, 1] {
                answer = try dirSync(client, flags: flags, since: cookie).answer
                #expect(answer.entries.map { $0["isDeleted"] } == [["TRUE"]])
            }
            try samba.revoke(.replication)
            #expect(try dirSync(client, flags: 0, since: cookie).answer.code == 50)
        }

        @Test("objects are moved, renamed, disabled, deleted and restored")
        func operations() throws {
            let samba = try SambaInstance(in: workspace)
            var dn = try samba.add(.user, "anna", ["SMTP:anna@example.com"])
            func anna() throws -> LDIFEntry {
                try #require(
                    try samba.client().search("(sAMAccountName=anna)", base: SambaInstance.base).entries.first)
            }
            let guid = try anna()["objectGUID"]
            let unit = try samba.addUnit("Sales")
            try samba.move(dn, below: unit)
            #expect(try anna().dn == "CN=anna,\(unit)")
            try samba.rename("CN=anna,\(unit)", to: "CN=anne")
            dn = "CN=anne,\(unit)"
            try samba.setDisabled(true, dn)
            #expect(try anna().dn == dn)
            #expect(try anna()["userAccountControl"] == ["546"])
            try samba.delete(dn)
            let deleted = try samba.administrator.search(
                "(sAMAccountName=anna)", base: SambaInstance.base, extensions: ["!showDeleted"])
            #expect(deleted.entries.first?["isDeleted"] == ["TRUE"])
            #expect(deleted.entries.first?["objectGUID"] == guid)
            try samba.restore(dn)
            #expect(try anna().dn == dn)
            #expect(try anna()["objectGUID"] == guid)
            #expect(try anna()["proxyAddresses"].isEmpty)
        }

        @Test("more objects than a page holds, and a controller with another identity")
        func bulk() throws {
            var options = SambaOptions()
            options.bulk = (.group, 1100)
            options.hasOwnIdentity = true
            let samba = try SambaInstance(in: workspace, options)
            let found = try samba.client().search(
                "(proxyAddresses=*)", base: SambaInstance.base, attributes: ["1.1"], extensions: ["pr=1000/noprompt"])
            #expect(found.entries.count == 1100)
            let other = try SambaInstance(in: workspace, name: "other")
            let identities = try [samba, other].map { controller in
                try controller.client().search(
                    "(objectClass=nTDSDSA)", base: SambaInstance.configurationBase, attributes: ["invocationId"]
                ).entries.first?["invocationId"]
            }
            #expect(identities[0] != nil && identities[0] != identities[1])
        }

        @Test("a controller that is stopped, killed or paused starts again at the same address with the same data")
        func ends() throws {
            let samba = try SambaInstance(in: workspace)
            let anna = try samba.add(.user, "anna", ["SMTP:anna@example.com"])
            #expect(samba.stop() != nil)
            #expect(!Ports.answers(636, at: samba.address))
            try samba.start()
            try samba.delete(anna)
            #expect(samba.kill() == .killed(signal: SIGKILL))
            #expect(Workspace.processes(in: workspace.path).isEmpty)
            #expect(!Ports.answers(636, at: samba.address))
            try samba.start()
            #expect(try samba.client().search("(cn=anna)", base: SambaInstance.base).entries.isEmpty)
            let pid = try #require(samba.pid)
            #expect(Workspace.processes(in: workspace.path) == [pid])
            samba.pause()
            var client = samba.client()
            client.patience = 1
            #expect(try client.search(base: SambaInstance.base, scope: "base").code == 124)
            samba.resume()
            #expect(try client.search(base: SambaInstance.base, scope: "base").code == 0)
        }
    }
}
