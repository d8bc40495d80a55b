import Foundation
import Testing

extension Directories {
    /// How the changes of an Active Directory are followed from one sync to the next.
    @Suite(DirectoryRequirements.samba) struct ActiveDirectoryChangesTests {
        private let workspace: Workspace
        private let samba: SambaInstance

        init() throws {
            workspace = try Workspace()
            samba = try SharedController.instance()
        }

        private func gateway(
            _ units: TestUnits, by way: FollowingWay, _ changes: [String: String?] = [:],
            _ adjust: (inout PosternConfiguration) -> Void = { _ in }
        ) throws -> DirectoryGateway {
            let changes = changes.merging(["incremental": "\"\(way.rawValue)\""]) { $1 }
            return try DirectoryGateway(
                in: workspace, of: .samba(samba, as: .administrator, bases: [units.inside], changes), adjust)
        }

        @Test("every kind of change is followed, and only changed objects are read", arguments: FollowingWay.allCases)
        func followed(way: FollowingWay) throws {
            let units = try TestUnits("Followed by \(way)", of: samba)
            let (inside, outside) = (units.inside, units.outside)
            let requires = "msExchRequireAuthToSendTo"
            for name in ["stay", "change", "values", "drop", "leave", "name", "flag", "away", "go"] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: inside)
            }
            try samba.add(.contact, "come", ["SMTP:come@example.com"], below: outside)
            try samba.add(.user, "able by \(way)", ["SMTP:able@example.com"], below: inside)
            let shut = try samba.addUnit("Shut", below: inside)
            let gateway = try gateway(
                units, by: way,
                [
                    "filter": "\"(&(proxyAddresses=*)(!(department=left)))\"", "include_disabled": "false",
                    "exclude_bases": "[\"\(shut)\"]",
                ])
            let first = try gateway.publish()
            #expect(first.reading == "full")
            #expect(first.source?.method == way.method)
            #expect(first.notes == [])
            #expect(first.recipients == 10)

            /// Makes a change, syncs, and compares.
            func step(
                adds added: String..., removes removed: String..., location: SourceLocation = #_sourceLocation,
                _ change: () throws -> Void
            ) throws {
                try change()
                let report = try gateway.publish()
                #expect(report.reading == "changes", "\(report.notes)", sourceLocation: location)
                #expect(report.source?.method == way.method, sourceLocation: location)
                #expect(report.notes == [], sourceLocation: location)
                // The controller's own objects change now and then.
                #expect((1...3).contains(report.source?.read ?? 0), sourceLocation: location)
                let (gained, lost) = (added.map { "\($0)@example.com" }, removed.map { "\($0)@example.com" })
                #expect(report.added.addresses == gained, sourceLocation: location)
                #expect(report.removed.addresses == lost, sourceLocation: location)
                guard !gained.isEmpty || !lost.isEmpty else { return }
                #expect(try gateway.listed(gained + lost) == Set(gained), sourceLocation: location)
            }
            try step(adds: "new") { try samba.add(.contact, "new", ["SMTP:new@example.com"], below: inside) }
            try step(adds: "changed", removes: "change") {
                try samba.replace("proxyAddresses", of: "CN=change,\(inside)", with: ["SMTP:changed@example.com"])
            }
            try step(adds: "second") {
                try samba.modify(
                    "CN=values,\(inside)", "add: proxyAddresses\nproxyAddresses: smtp:second@example.com")
            }
            try step(removes: "values") {
                try samba.modify(
                    "CN=values,\(inside)", "delete: proxyAddresses\nproxyAddresses: SMTP:values@example.com")
            }
            try step(removes: "drop") { try samba.replace("proxyAddresses", of: "CN=drop,\(inside)", with: []) }
            try step(adds: "drop") {
                try samba.replace("proxyAddresses", of: "CN=drop,\(inside)", with: ["SMTP:drop@example.com"])
            }
            try step(removes: "leave") { try samba.replace("department", of: "CN=leave,\(inside)", with: ["left"]) }
            try step(adds: "leave") { try samba.replace("department", of: "CN=leave,\(inside)", with: []) }
            try step { try samba.rename("CN=name,\(inside)", to: "CN=named") }
            try step(removes: "name") {
                try samba.replace("proxyAddresses", of: "CN=named,\(inside)", with: ["X400:c=us"])
            }
            try step(removes: "away") { try samba.move("CN=away,\(inside)", below: outside) }
            try step(adds: "come") { try samba.move("CN=come,\(outside)", below: inside) }
            try step(adds: "away") { try samba.move("CN=away,\(outside)", below: inside) }
            try step(removes: "away") { try samba.move("CN=away,\(inside)", below: shut) }
            try step(adds: "away") { try samba.move("CN=away,\(shut)", below: inside) }
            try step(removes: "able") { try samba.setDisabled(true, "CN=able by \(way),\(inside)") }
            try step(adds: "able") { try samba.setDisabled(false, "CN=able by \(way),\(inside)") }
            try step(removes: "go") { try samba.delete("CN=go,\(inside)") }
            try step { try samba.restore("CN=go,\(inside)") }
            try step(adds: "go") {
                try samba.replace("proxyAddresses", of: "CN=go,\(inside)", with: ["SMTP:go@example.com"])
            }
            try step(adds: "group") {
                try samba.add(.group, "group of \(way)", ["SMTP:group@example.com"], below: inside)
            }
            try step { try samba.replace(requires, of: "CN=flag,\(inside)", with: ["TRUE"]) }
            #expect(try gateway.verdict("flag@example.com") == "reject internal")
            try step { try samba.replace(requires, of: "CN=flag,\(inside)", with: []) }
            #expect(try gateway.verdict("flag@example.com") == "accept listed")
            let full = try gateway.publish(["--full"])
            #expect(full.reading == "full")
            #expect(full.added.count + full.removed.count + full.changed.count == 0, "nothing was missed")
        }

        @Test(
            "a moved unit moves its entries into or out of the list: everything is read again",
            arguments: FollowingWay.allCases)
        func unitMoved(way: FollowingWay) throws {
            let units = try TestUnits("Moved by \(way)", of: samba)
            let inner = try samba.addUnit("Inner", below: units.inside)
            let deep = try samba.addUnit("Deep", below: inner)
            try samba.add(.contact, "deep", ["SMTP:deep@example.com"], below: deep)
            try samba.add(.contact, "stay", ["SMTP:stay@example.com"], below: units.inside)
            let gateway = try gateway(units, by: way, ["exclude_bases": "[\"OU=Closed,\(units.inside)\"]"])
            try gateway.publish()
            func step(listed: Bool, location: SourceLocation = #_sourceLocation, _ change: () throws -> Void) throws {
                try change()
                let report = try gateway.publish()
                #expect(report.reading == "full", sourceLocation: location)
                let said =
                    "source \"directory\": a folder of the directory was moved, renamed or created: "
                    + "Postern reads the whole directory again"
                #expect(report.notes == [said], sourceLocation: location)
                let both = ["deep@example.com", "stay@example.com"]
                #expect(
                    try gateway.listed(both) == Set(listed ? both : ["stay@example.com"]), sourceLocation: location)
            }
            try step(listed: false) { try samba.move(inner, below: units.outside) }
            try step(listed: true) { try samba.move("OU=Inner,\(units.outside)", below: units.inside) }
            // A name that the configuration leaves out.
            try step(listed: false) { try samba.rename(inner, to: "OU=Closed") }
            try step(listed: true) { try samba.rename("OU=Closed,\(units.inside)", to: "OU=Open") }
            try samba.replace(
                "proxyAddresses", of: "CN=deep,OU=Deep,OU=Open,\(units.inside)", with: ["smtp:d@example.com"])
            #expect(try gateway.publish().reading == "changes")
            // With all entries below it; the server reports each of them.
            #expect(
                try samba.administrator.run(
                    "ldapdelete", ["-e", "!1.2.840.113556.1.4.805", "OU=Open,\(units.inside)"]
                ).code == 0)
            let report = try gateway.publish()
            #expect(report.reading == "changes", "\(report.notes)")
            #expect(report.removed.addresses == ["d@example.com"])
        }

        @Test("a filter may ask for the members of a group", arguments: FollowingWay.allCases)
        func membership(way: FollowingWay) throws {
            let units = try TestUnits("Members by \(way)", of: samba)
            for name in ["anna", "bert", "carl", "dora"] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: units.inside)
            }
            func name(_ name: String) -> String { "CN=\(name),\(units.inside)" }
            let group = try samba.add(
                .group, "members by \(way)", [], below: units.outside,
                [("member", name("anna")), ("member", name("bert"))])
            let gateway = try gateway(
                units, by: way, ["filter": "\"(&(proxyAddresses=*)(memberOf=\(group)))\""])
            let all = ["anna", "bert", "carl", "dora"].map { "\($0)@example.com" }
            try gateway.publish()
            #expect(try gateway.listed(all) == ["anna@example.com", "bert@example.com"])
            func step(listed: String..., location: SourceLocation = #_sourceLocation, _ change: () throws -> Void)
                throws
            {
                try change()
                let report = try gateway.publish()
                #expect(report.reading == "full", sourceLocation: location)
                let said =
                    "a group was changed, and the filter asks for the members of groups: "
                    + "Postern reads the whole directory again"
                #expect(report.notes == ["source \"directory\": \(said)"], sourceLocation: location)
                #expect(try gateway.listed(all) == Set(listed.map { "\($0)@example.com" }), sourceLocation: location)
            }
            try step(listed: "anna", "bert", "carl") {
                try samba.modify(group, "add: member\nmember: \(name("carl"))")
            }
            try step(listed: "bert", "carl") {
                try samba.modify(group, "delete: member\nmember: \(name("anna"))")
            }
            // Nothing to do with a group.
            try samba.replace(
                "proxyAddresses", of: name("dora"), with: ["SMTP:dora@example.com", "SMTP:d@example.com"])
            let report = try gateway.publish()
            #expect(report.notes == [])
            #expect(report.reading == "changes")

            // The members of a deleted group leave the list, too.
            gateway.configuration.values["sync.minimum"] = "0"
            try gateway.configuration.write()
            try samba.delete(group)
            let run = try gateway.sync("--accept-shrink")
            #expect(run.report?.reading == "full", "\(run.error)")
            #expect(try gateway.listed(all) == [])
        }

        @Test("where the whole domain is read, a moved unit needs no full read")
        func wholeDomain() throws {
            let unit = try samba.addUnit("Whole")
            try samba.add(.contact, "whole", ["SMTP:whole@example.com"], below: unit)
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, as: .administrator))
            try gateway.publish()
            try samba.rename(unit, to: "OU=Whole again")
            #expect(try gateway.publish().reading != "full")
            try samba.delete("CN=whole,OU=Whole again,\(SambaInstance.base)")
            let report = try gateway.publish()
            #expect(report.reading == "changes")
            #expect(report.removed.addresses == ["whole@example.com"])
        }
    }
}
