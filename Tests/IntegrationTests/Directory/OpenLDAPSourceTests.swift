import Foundation
import Testing

extension Directories {
    /// The recipients that an OpenLDAP source lists, by its configuration.
    @Suite(DirectoryRequirements.slapd) struct OpenLDAPSourceTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        @Test(
            "all three attributes are read; other values are counted and shown, and a dry run writes nothing"
        )
        func attributes() throws {
            var options = SlapdOptions()
            options.ldif = SlapdInstance.person(
                "anna", mail: ["anna@example.com", "Anna.Berg@Example.ORG", "anna@elsewhere.test"],
                [
                    "mailLocalAddress: local@example.com", "mailAlternateAddress: SMTP:other@example.net",
                    "mailAlternateAddress: X400:c=de;a= ;p=example", "mailAlternateAddress: not an address",
                    "mailAcceptingGeneralId: general@example.com",
                ])
            let slapd = try SlapdInstance(in: workspace, options)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            let shown = try gateway.text(["--dry-run"])
            #expect(shown.contains("1 recipient left out: the source may not list"))
            #expect(shown.contains("anna@elsewhere.test (uid=anna,ou=people,dc=example,dc=com)"))
            #expect(shown.contains("+ anna.berg@example.org"))
            #expect(try gateway.index() == nil)
            #expect(!FileManager.default.fileExists(atPath: workspace.file("sync.sqlite")))

            let report = try gateway.publish()
            let source = try #require(report.source)
            #expect(source.foreign.count == 1)
            #expect(source.skipped["other_protocols"] == 1)
            #expect(source.skipped["malformed"] == 1)
            let wanted = ["anna@example.com", "anna.berg@example.org", "local@example.com", "other@example.net"]
            #expect(try gateway.listed(wanted + ["general@example.com", "anna@elsewhere.test"]) == Set(wanted))
            #expect(try gateway.verdict("anna@elsewhere.test") == "reject relay")
        }

        @Test(
            "bases, exclude_bases, exclude_filter, attributes and domains choose entries; a change of them is reported and read in full"
        )
        func choice() throws {
            let staff = "ou=staff,\(SlapdInstance.base)"
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 100)
            options.ldif =
                SlapdInstance.folder("staff") + SlapdInstance.folder("old", below: staff)
                + SlapdInstance.folder("groups")
                + SlapdInstance.person("anna", below: staff, mail: ["anna@example.com"])
                + SlapdInstance.person("bob", below: staff, mail: ["bob@example.com"], ["employeeType: left"])
                + SlapdInstance.person("carl", below: "ou=old,\(staff)", mail: ["carl@example.com"])
                + SlapdInstance.person("list", below: "ou=groups,\(SlapdInstance.base)", mail: ["list@example.net"])
                + SlapdInstance.person(
                    "dora", mail: ["dora@example.com"], ["mailAcceptingGeneralId: d@example.com"])
            let slapd = try SlapdInstance(in: workspace, options)
            let all = ["anna", "bob", "carl", "dora", "d"].map { "\($0)@example.com" } + ["list@example.net"]
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            func read(_ changes: [String: String?]) throws -> (report: SyncRun.Report, listed: Set<String>) {
                try gateway.configure([.slapd(slapd, changes)])
                let report = try gateway.publish(["--accept-shrink"])
                return (report, try gateway.listed(all))
            }
            #expect(try read([:]).listed == Set(all).subtracting(["d@example.com"]))

            let bases = "[\"\(staff)\", \"ou=groups,\(SlapdInstance.base)\"]"
            var (report, listed) = try read(["bases": bases])
            #expect(listed == ["anna@example.com", "bob@example.com", "carl@example.com", "list@example.net"])
            #expect(report.reading == "full")
            #expect(
                report.notes.filter { $0.contains("was read in full: its configuration") }.count == 1, "\(report.notes)"
            )

            // As a person might write it: other case, blanks.
            let old = "[\"OU=Old, ou=staff,\(SlapdInstance.base)\"]"
            (report, listed) = try read(["bases": bases, "exclude_bases": old])
            #expect(listed == ["anna@example.com", "bob@example.com", "list@example.net"])
            #expect(report.source?.skipped["excluded"] == 1)
            #expect(
                try read([
                    "bases": bases, "exclude_bases": old, "exclude_filter": "\"(employeeType=left)\"",
                ]).listed == ["anna@example.com", "list@example.net"])
            #expect(
                try read(["filter": "\"(uid=dora)\"", "attributes": "[\"mailAcceptingGeneralId\"]"]).listed
                    == ["d@example.com"])
            (report, listed) = try read(["domains": "[\"example.net\"]"])
            #expect(listed == ["list@example.net"])
            #expect(report.source?.foreign.count == 4)
            // The same again changes nothing and says nothing.
            report = try gateway.publish()
            #expect(report.notes == [])
            #expect(report.reading == "unchanged")
        }

        @Test("internal-only recipients are for trusted clients; disabled ones are listed, left out or marked")
        func flags() throws {
            var options = SlapdOptions()
            options.ldif =
                SlapdInstance.person("inner", mail: ["inner@example.com"], ["posternInternalOnly: TRUE"])
                + SlapdInstance.person("open", mail: ["open@example.com"], ["posternInternalOnly: FALSE"])
                + SlapdInstance.person("left", mail: ["left@example.com"], ["posternDisabled: TRUE"])
            let slapd = try SlapdInstance(in: workspace, options)
            let flagged: [String: String?] = [
                "internal_only_attribute": "\"posternInternalOnly\"", "disabled_attribute": "\"posternDisabled\"",
            ]
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, flagged)])
            try gateway.publish()
            #expect(try gateway.verdict("inner@example.com") == "reject internal")
            #expect(try gateway.verdict("inner@example.com", client: Gateway.trusted) == "accept listed")
            #expect(try gateway.listed(["open@example.com", "left@example.com"]).count == 2)

            try gateway.configure([.slapd(slapd, flagged.merging(["include_disabled": "false"]) { $1 })])
            let report = try gateway.publish()
            #expect(report.source?.skipped["disabled"] == 1)
            #expect(try gateway.verdict("left@example.com") == "reject unknown")

            gateway.configuration.values["policy.disabled"] = "\"reject\""
            try gateway.configure([.slapd(slapd, flagged.merging(["include_disabled": "\"mark\""]) { $1 })])
            try gateway.publish()
            #expect(try gateway.verdict("left@example.com") == "reject disabled")
            // Another source that lists it without restriction opens it.
            try workspace.write("left@example.com\ninner@example.com\n", to: "more")
            try gateway.configure(gateway.sources + [SourceTable.file("more", path: "more")])
            try gateway.publish()
            #expect(try gateway.listed(["left@example.com", "inner@example.com"]).count == 2)
        }

        @Test("a recipient of two sources leaves the list when the last source drops it, for directories and files")
        func merged() throws {
            let old = "ou=old,\(SlapdInstance.base)"
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 100)
            options.people = 2
            options.ldif =
                SlapdInstance.folder("old") + SlapdInstance.person("stay", below: old, mail: ["stay@example.com"])
                + SlapdInstance.person("shared", below: old, mail: ["shared@example.com"])
                + SlapdInstance.person("shared", mail: ["Shared@example.com", "filed@example.com"])
            let slapd = try SlapdInstance(in: workspace, options)
            try workspace.write("filed@example.com\nonly@example.com\n", to: "list")
            let gateway = try DirectoryGateway(
                in: workspace,
                [
                    .slapd(slapd, name: "new", ["bases": "[\"\(SlapdInstance.people)\"]"]),
                    .slapd(slapd, name: "old", ["bases": "[\"\(old)\"]"]), .file("list", path: "list"),
                ])
            let both = ["shared@example.com", "filed@example.com"]
            #expect(try gateway.publish().recipients == 6)
            #expect(try gateway.listed(both).count == 2)
            try slapd.delete("uid=shared,\(SlapdInstance.people)")
            var report = try gateway.publish()
            #expect(report.sources.prefix(2).map(\.reading).contains("full") == false)
            #expect(report.removed.count == 0)
            #expect(try gateway.listed(both).count == 2)
            try slapd.delete("uid=shared,\(old)")
            try workspace.write("only@example.com\n", to: "list")
            report = try gateway.publish()
            #expect(report.removed.addresses == ["filed@example.com", "shared@example.com"])
            #expect(try gateway.listed(both) == [])
        }

        @Test(
            "an unsupported method is reported, and everything is read each time",
            arguments: ["overlay", "module", "type"])
        func readInFull(missing: String) throws {
            var options = SlapdOptions()
            options.people = 25
            options.loadsContentSync = missing != "module"
            if missing == "type" { options.contentSync = .on(sessionLog: 100) }
            let slapd = try SlapdInstance(in: workspace, options)
            let gateway = try DirectoryGateway(
                in: workspace, [.slapd(slapd, type: missing == "type" ? "ldap" : "openldap", ["page_size": "10"])])
            let first = try gateway.publish()
            #expect(first.source?.method == "paged search")
            #expect(first.recipients == 25)
            #expect(slapd.log.components(separatedBy: "SRCH base=\"\(SlapdInstance.base)\"").count >= 4, "three pages")
            let notes = first.notes.filter {
                $0.contains(
                    missing == "overlay"
                        ? "content synchronization (RFC 4533) is unavailable: "
                        : "the server doesn't support content synchronization (RFC 4533), so everything is read")
            }
            #expect(notes.count == (missing == "type" ? 0 : 1), "\(first.notes)")
            try slapd.delete(SlapdInstance.person(3))
            let second = try gateway.publish()
            #expect(second.reading == "full")
            #expect(second.removed.addresses == [SlapdInstance.address(3)])
            #expect(second.notes == [], "reported once")
        }

        @Test(
            "references to other servers are passed over, or followed if configured",
            arguments: ["ldap", "openldap"])
        func referrals(type: String) throws {
            var options = SlapdOptions()
            options.people = 1
            options.contentSync = .on()
            options.ldif = SlapdInstance.person("far", mail: ["far@example.com"])
            let other = try SlapdInstance(in: workspace, options, name: "other")
            options.ldif = """
                dn: ou=elsewhere,\(SlapdInstance.base)
                objectClass: referral
                objectClass: extensibleObject
                ou: elsewhere
                ref: \(other.uri)/\(SlapdInstance.people)


                """
            let slapd = try SlapdInstance(in: workspace, options)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, type: type)])
            let all = ["far@example.com", SlapdInstance.address(0)]
            #expect(try gateway.publish().recipients == 1)
            #expect(!other.log.contains("SRCH"))
            let elsewhere = "ou=elsewhere,\(SlapdInstance.base)"
            try gateway.configure([.slapd(slapd, type: type, ["bases": "[\"\(elsewhere)\"]"])])
            let failed = try gateway.sync()
            #expect(failed.status == 75)
            #expect(
                failed.error.contains(
                    "search: \(elsewhere): the server refers to another server, which Postern doesn't follow (follow_referrals = false)"
                ),
                "\(failed.error)")
            try gateway.configure([.slapd(slapd, type: type, ["follow_referrals": "true"])])
            try gateway.publish()
            #expect(try gateway.listed(all) == Set(all))
            try other.addPerson("farther", mail: ["farther@example.com"])
            try gateway.publish()
            #expect(try gateway.listed(["farther@example.com"]).count == 1)
            // Without the server behind the reference, entries are missing, so the last list stays.
            other.stop()
            let cut = try gateway.sync()
            #expect(cut.status == 75)
            #expect(cut.error.contains("and Postern can't follow the reference"), "\(cut.error)")
            #expect(try gateway.listed(["farther@example.com"]).count == 1)
        }

        /// If a branch of the directory becomes a reference, its recipients vanish silently unless Postern notices.
        @Test(
            "a new search reference fails the sync until a person accepts it or the server stops sending it",
            arguments: [("ldap", false), ("openldap", false), ("openldap", true)])
        func newReference(type: String, isServing: Bool) throws {
            var options = SlapdOptions()
            options.people = 40
            options.contentSync = .on()
            let reference = { (name: String) in
                """
                dn: ou=\(name),\(SlapdInstance.base)
                objectClass: referral
                objectClass: extensibleObject
                ou: \(name)
                ref: ldap://elsewhere.test/ou=\(name),\(SlapdInstance.base)


                """
            }
            options.ldif = reference("old")
            let slapd = try SlapdInstance(in: workspace, options)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, type: type)]) {
                $0.values["sync.interval"] = "\"2s\""
            }
            let first = try gateway.publish()
            #expect(first.notes.contains { $0.contains("ldap://elsewhere.test/ou=old") }, "\(first.notes)")
            #expect(try gateway.publish().notes.isEmpty, "said once")
            if isServing { try gateway.serve() }
            // The reference comes first and the entry is deleted after it, as when a branch moves to another server.
            try slapd.add(reference("new"))
            if isServing {
                #expect(
                    eventually(within: 30) {
                        gateway.messages.contains(
                            "the server sent a new search reference: ldap://elsewhere.test/ou=new")
                    })
                try slapd.delete(SlapdInstance.person(3))
                usleep(3_000_000)
                #expect(try gateway.listed([SlapdInstance.address(3)]).count == 1)
                gateway.stop()
            } else {
                try slapd.delete(SlapdInstance.person(3))
            }
            let refused = try gateway.sync()
            #expect(refused.status == 75)
            #expect(
                refused.error.contains("the server sent a new search reference: ldap://elsewhere.test/ou=new"),
                "\(refused.error)")
            #expect(try gateway.listed([SlapdInstance.address(3)]).count == 1)
            let accepted = try gateway.publish(["--accept-shrink"])
            #expect(accepted.removed.addresses == [SlapdInstance.address(3)])
            #expect(try gateway.publish().outcome != "refused")
        }
    }
}
