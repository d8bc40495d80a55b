import Foundation
import Testing

extension Directories {
    /// The recipients that an Active Directory source lists by its configuration, for an account without special
    /// rights.
    @Suite(DirectoryRequirements.samba) struct ActiveDirectorySourceTests {
        private let workspace: Workspace
        private let samba: SambaInstance

        init() throws {
            workspace = try Workspace()
            samba = try SharedController.instance()
        }

        @Test("all kinds of recipients are listed, whatever the prefix; other values are counted and shown")
        func kinds() throws {
            let unit = try samba.addUnit("Kinds")
            for kind in [SambaInstance.Kind.user, .group, .contact, .dynamicGroup, .publicFolder] {
                try samba.add(kind, "kind \(kind)", ["SMTP:\(kind)@example.com"], below: unit)
            }
            let shared = try samba.add(.user, "kind shared", ["smtp:shared@example.com"], below: unit)
            try samba.setDisabled(true, shared)
            try samba.add(
                .contact, "kind many",
                [
                    "SMTP:One@Example.COM", "smtp:two@example.org", "sMtP:three@example.net", "plain@example.com",
                    "X400:c=us;a= ;p=Example;o=Exchange;s=Many", "x500:/o=Example/ou=First/cn=many",
                    "SIP:many@example.com", "EUM:7000;phone-context=plan.example.com", "smtp:", "SMTP:a b@example.com",
                    "smtp:no-domain", "smtp:many@", "SMTP:many@elsewhere.test", "smtp:many@corp.local",
                ], below: unit)
            // A mail attribute alone makes no recipient.
            try samba.add(.user, "kind other", [], below: unit, [("mail", "other@example.com")])

            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, bases: [unit]))
            let shown = try gateway.text(["--dry-run"])
            #expect(shown.contains("2 recipients left out: the source may not list"), "\(shown)")
            #expect(shown.contains("many@elsewhere.test (CN=kind many,\(unit))"), "\(shown)")
            #expect(shown.contains("4 addresses of other kinds than SMTP"), "\(shown)")
            #expect(shown.contains("+ one@example.com"), "\(shown)")
            #expect(try gateway.index() == nil)
            #expect(!FileManager.default.fileExists(atPath: workspace.file("sync.sqlite")))

            // A first list of which much is faulty is shown, and accepted by a person.
            let refused = try gateway.sync()
            #expect(refused.status == 1)
            #expect(
                refused.error.contains("lists for the first time are malformed or can't be reached"), "\(refused.error)"
            )
            let report = try gateway.publish(["--accept-shrink"])
            let source = try #require(report.source)
            #expect(source.reading == "full")
            #expect(source.read == 7)
            #expect(source.foreign.count == 2)
            #expect(source.skipped["other_protocols"] == 4)
            #expect(source.skipped["malformed"] == 3)
            #expect(source.skipped["without_domain"] == 1)
            let wanted =
                [
                    "user", "group", "contact", "dynamicGroup", "publicFolder", "shared", "one", "plain",
                ].map { "\($0)@example.com" } + ["two@example.org", "three@example.net"]
            let others = ["other@example.com", "many@example.com", "many@elsewhere.test"]
            #expect(try gateway.listed(wanted + others) == Set(wanted))
            #expect(report.recipients == wanted.count)
            #expect(try gateway.verdict("many@elsewhere.test") == "reject relay")
        }

        @Test("disabled accounts are listed, left out or marked; internal-only recipients are for trusted clients")
        func flags() throws {
            let unit = try samba.addUnit("Flags")
            let requires = "msExchRequireAuthToSendTo"
            let left = try samba.add(.user, "flag left", ["SMTP:left@example.com"], below: unit)
            try samba.setDisabled(true, left)
            let board = try samba.add(
                .group, "flag board", ["SMTP:board@example.com"], below: unit, [(requires, "TRUE")])
            let sales = try samba.add(
                .group, "flag sales", ["SMTP:sales@example.com"], below: unit, [(requires, "FALSE")])
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, bases: [unit])) {
                $0.values["policy.disabled"] = "\"reject\""
            }
            try gateway.publish()
            #expect(try gateway.verdict("left@example.com") == "accept listed")
            #expect(try gateway.verdict("board@example.com") == "reject internal")
            #expect(try gateway.verdict("board@example.com", client: Gateway.trusted) == "accept listed")
            #expect(try gateway.verdict("sales@example.com") == "accept listed")

            try gateway.configure([.samba(samba, bases: [unit], ["include_disabled": "false"])])
            var report = try gateway.publish()
            #expect(report.source?.skipped["disabled"] == 1)
            #expect(report.removed.addresses == ["left@example.com"])
            #expect(try gateway.verdict("left@example.com") == "reject unknown")

            try gateway.configure([.samba(samba, bases: [unit], ["include_disabled": "\"mark\""])])
            try gateway.publish()
            #expect(try gateway.verdict("left@example.com") == "reject disabled")
            #expect(try gateway.verdict("left@example.com", client: Gateway.trusted) == "reject disabled")

            try samba.replace(requires, of: board, with: [])
            try samba.replace(requires, of: sales, with: ["TRUE"])
            try samba.setDisabled(false, left)
            report = try gateway.publish()
            #expect(report.changed.addresses == ["board@example.com", "left@example.com", "sales@example.com"])
            #expect(try gateway.verdict("board@example.com") == "accept listed")
            #expect(try gateway.verdict("sales@example.com") == "reject internal")
            #expect(try gateway.verdict("left@example.com") == "accept listed")
        }

        @Test("bases, exclude_bases, filter and exclude_filter choose by unit and by entry")
        func choice() throws {
            let unit = try samba.addUnit("Choice")
            let staff = try samba.addUnit("Staff", below: unit)
            let old = try samba.addUnit("Old", below: staff)
            let rooms = try samba.addUnit("Rooms", below: unit)
            let apart = try samba.addUnit("Apart", below: unit)
            for (name, parent, others) in [
                ("anna", staff, []), ("bert", staff, [("department", "Sales")]), ("carl", old, []),
                ("room", rooms, [("department", "Sales")]), ("dora", apart, []),
            ] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: parent, others)
            }
            let names = ["anna", "bert", "carl", "room", "dora"].map { "\($0)@example.com" }
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, bases: [unit]))
            func listed(bases: [String], _ changes: [String: String]) throws -> Set<String> {
                try gateway.configure([.samba(samba, bases: bases, changes)])
                try gateway.publish()
                return Set(try gateway.listed(names).map { String($0.prefix(4)) })
            }
            #expect(try listed(bases: [unit], [:]).count == 5)
            #expect(try listed(bases: [staff, rooms], [:]) == ["anna", "bert", "carl", "room"])
            // As a person might write it: other case, blanks.
            let loose = "[\"ou=old, ou=STAFF, OU=Choice,\(SambaInstance.base.lowercased())\"]"
            #expect(try listed(bases: [staff, rooms], ["exclude_bases": loose]) == ["anna", "bert", "room"])
            #expect(
                try listed(
                    bases: [staff, rooms], ["exclude_bases": loose, "exclude_filter": "\"(department=Sales)\""])
                    == ["anna"])
            #expect(
                try listed(bases: [unit], ["filter": "\"(&(objectClass=contact)(department=sales))\""])
                    == ["bert", "room"])
            // The same again changes nothing and says nothing.
            let again = try gateway.publish()
            #expect(again.notes == [])
            #expect(again.outcome != "published")
        }

        @Test("all pages of a list and all parts of a large attribute are read; references aren't followed")
        func parts() throws {
            let unit = try samba.addUnit("Parts")
            let contacts = (0..<23).map { number in
                """
                dn: CN=part \(number),\(unit)
                objectClass: contact
                proxyAddresses: SMTP:part\(number)@example.com


                """
            }
            try samba.add(contacts.joined())
            let many = (0..<23).map { "smtp:many\($0)@example.com" }
            try samba.add(.contact, "part many", many, below: unit, [("msExchRequireAuthToSendTo", "TRUE")])
            let first = try samba.client().search(
                "(cn=part many)", base: unit, attributes: ["proxyAddresses;range=0-4"])
            #expect(first.entries.first?["proxyAddresses;range=0-4"].count == 5, "the server sends it in parts")

            let wholeDomain = SourceTable.samba(
                samba, bases: [SambaInstance.base],
                [
                    "page_size": "5", "attributes": "[\"proxyAddresses;range=0-4\"]",
                    "filter": "\"(|(cn=part *)(objectClass=domain))\"",
                ])
            let gateway = try DirectoryGateway(in: workspace, of: wholeDomain)
            let report = try gateway.publish()
            #expect(report.recipients == 46)
            let parts = (0..<23).map { "part\($0)@example.com" }
            #expect(try gateway.listed(parts) == Set(parts))
            let internalOnly = try gateway.verdicts((0..<23).map { "many\($0)@example.com" })
            #expect(internalOnly.values.allSatisfy { $0 == "reject internal" }, "\(internalOnly)")
            #expect(internalOnly.count == 23)
        }
    }
}
