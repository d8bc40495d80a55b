import Foundation
import Testing

extension Directories {
    /// A source of a 389 Directory Server: read in full as `ldap`, and followed as `openldap`.
    @Suite(DirectoryRequirements.server389) struct Server389Tests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        @Test("additions, changes, moves and deletions are followed", arguments: ["ldap", "openldap"])
        func changes(type: String) throws {
            let server = try Server389Instance(in: workspace, people: 30)
            defer { server.stop() }
            let gateway = try DirectoryGateway(in: workspace, [.server389(server, type: type)])
            let first = try gateway.publish()
            #expect(first.recipients == 30)
            #expect(first.source?.method == (type == "ldap" ? "paged search" : "content synchronization (RFC 4533)"))
            #expect(first.notes == [])
            try server.add(Server389Instance.person("anna", mail: ["anna@example.com"]))
            try server.replace("mail", of: SlapdInstance.person(1), with: ["other@example.com"])
            try server.delete(SlapdInstance.person(2))
            try server.rename(SlapdInstance.person(3), to: "uid=renamed")
            let second = try gateway.publish()
            #expect(second.added.addresses == ["anna@example.com", "other@example.com"])
            #expect(second.removed.addresses == [SlapdInstance.address(1), SlapdInstance.address(2)])
            #expect(second.reading == "full")
            if type == "openldap" {
                // The server sends changed entries, but neither the deleted nor the remaining ones.
                #expect(second.notes.contains { $0.contains("can't go on from the last sync") }, "\(second.notes)")
            }
            #expect(try gateway.publish().added.count == 0)
            #expect(try gateway.listed([SlapdInstance.address(3)]).count == 1)
        }

        @Test("the server reports changes by itself")
        func push() throws {
            let server = try Server389Instance(in: workspace, people: 5)
            defer { server.stop() }
            let gateway = try DirectoryGateway(in: workspace, [.server389(server, type: "openldap")])
            try gateway.serve()
            #expect(try gateway.comesToList((0..<5).map(SlapdInstance.address)))
            try server.add(Server389Instance.person("anna", mail: ["anna@example.com"]))
            #expect(try gateway.comesToList(["anna@example.com"]))
            try server.replace("mail", of: "uid=anna,\(SlapdInstance.people)", with: ["anne@example.com"])
            #expect(try gateway.comesToList(["anne@example.com"], not: ["anna@example.com"]))
            // It is gone and comes back with the rest of its list.
            server.stop()
            #expect(try gateway.listed(["anne@example.com"]).count == 1)
            try server.start()
            try server.add(Server389Instance.person("bert", mail: ["bert@example.com"]))
            #expect(try gateway.comesToList(["anne@example.com", "bert@example.com"], within: 60))
            gateway.stop()
        }

        @Test("without the plugin, everything is read each time, and that is reported")
        func withoutPlugin() throws {
            let server = try Server389Instance(in: workspace, people: 3, tellsChanges: false)
            defer { server.stop() }
            let gateway = try DirectoryGateway(in: workspace, [.server389(server, type: "openldap")])
            let first = try gateway.publish()
            #expect(first.recipients == 3)
            #expect(first.source?.method == "paged search")
            #expect(first.notes.contains { $0.contains("content synchronization") }, "\(first.notes)")
        }
    }
}
