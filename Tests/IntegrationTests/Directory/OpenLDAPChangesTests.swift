import Foundation
import Glibc
import Testing

extension Directories {
    /// How changes of an OpenLDAP directory are followed, while Postern runs and while it doesn't.
    @Suite(DirectoryRequirements.slapd) struct OpenLDAPChangesTests {
        private static let people = SlapdInstance.people
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        private func slapd(
            _ contentSync: SlapdOptions.ContentSync = .on(sessionLog: 1_000), people: Int = 0, _ ldif: String = "",
            name: String = "slapd"
        ) throws -> SlapdInstance {
            var options = SlapdOptions()
            options.contentSync = contentSync
            options.people = people
            options.ldif = ldif
            return try SlapdInstance(in: workspace, options, name: name)
        }

        private static func addresses(_ names: String...) -> [String] { names.map { "\($0)@example.com" } }

        @Test("every kind of change is followed as it happens")
        func pushed() throws {
            let outside = "ou=outside,\(SlapdInstance.base)"
            let inner = "ou=inner,\(Self.people)"
            let slapd = try slapd(
                people: 3, SlapdInstance.folder("outside") + SlapdInstance.folder("inner", below: Self.people))
            for name in ["change", "values", "leave", "name", "go", "move", "flag", "come"] {
                try slapd.addPerson(
                    name, below: name == "come" ? outside : Self.people, mail: ["\(name)@example.com"])
            }
            let gateway = try DirectoryGateway(
                in: workspace,
                [
                    .slapd(
                        slapd,
                        [
                            "bases": "[\"\(Self.people)\"]", "filter": "\"(&(mail=*)(!(employeeType=left)))\"",
                            "internal_only_attribute": "\"posternInternalOnly\"",
                        ])
                ])
            try gateway.serve()
            let first = Self.addresses("change", "values", "leave", "name", "go", "move", "flag")
            #expect(try gateway.comesToList(first, not: Self.addresses("come")), "\(gateway.messages)")
            let searches = slapd.log.components(separatedBy: "SRCH base=\"\(Self.people)\"").count

            try slapd.addPerson("new", mail: ["new@example.com"])
            try slapd.replace("mail", of: "uid=change,\(Self.people)", with: ["changed@example.com"])
            try slapd.replace(
                "mail", of: "uid=values,\(Self.people)",
                with: ["values@example.com", "second@example.com", "third@example.com"])
            try slapd.replace("employeeType", of: "uid=leave,\(Self.people)", with: ["left"])
            try slapd.rename("uid=name,\(Self.people)", to: "uid=named", below: inner)
            try slapd.delete("uid=go,\(Self.people)")
            try slapd.move("uid=move,\(Self.people)", below: outside)
            try slapd.move("uid=come,\(outside)", below: Self.people)
            try slapd.replace("posternInternalOnly", of: "uid=flag,\(Self.people)", with: ["TRUE"])
            #expect(
                try gateway.comesToList(
                    Self.addresses("new", "changed", "values", "second", "third", "name", "come"),
                    not: Self.addresses("change", "leave", "go", "move", "flag")), "\(gateway.messages)")
            #expect(try gateway.verdict("flag@example.com", client: Gateway.trusted) == "accept listed")

            try slapd.replace("employeeType", of: "uid=leave,\(Self.people)", with: [])
            try slapd.replace("mail", of: "uid=named,\(inner)", with: ["named@example.com"])
            try slapd.replace("mail", of: "uid=values,\(Self.people)", with: ["third@example.com"])
            try slapd.move("uid=move,\(outside)", below: inner)
            try slapd.move("uid=come,\(Self.people)", below: outside)
            try slapd.addPerson("go", mail: ["go@example.com"])
            try slapd.replace("posternInternalOnly", of: "uid=flag,\(Self.people)", with: ["FALSE"])
            #expect(
                try gateway.comesToList(
                    Self.addresses("leave", "named", "third", "move", "go", "flag"),
                    not: Self.addresses("name", "values", "second", "come")), "\(gateway.messages)")
            #expect(
                slapd.log.components(separatedBy: "SRCH base=\"\(Self.people)\"").count == searches,
                "the server reported every change by itself")
            #expect(gateway.stop() == .exited(0))
            #expect(try gateway.sync("--dry-run").report?.removed.count == 0)
        }

        @Test("an entry that changes several times between two readings keeps its last state only")
        func changedTwice() throws {
            let slapd = try slapd(people: 2)
            try slapd.addPerson("go", mail: ["go@example.com"])
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            try gateway.serve()
            #expect(try gateway.comesToList(Self.addresses("go")), "\(gateway.messages)")
            // What happens while Postern stands still comes to it all at once.
            let postern = try #require(gateway.postern)
            postern.signal(SIGSTOP)
            try slapd.addPerson("new", mail: ["draft@example.com"])
            for mail in ["first", "second", "last"] {
                try slapd.replace("mail", of: "uid=new,\(Self.people)", with: ["\(mail)@example.com"])
            }
            try slapd.addPerson("brief", mail: ["brief@example.com"])
            try slapd.delete("uid=brief,\(Self.people)")
            try slapd.replace("mail", of: "uid=go,\(Self.people)", with: ["going@example.com"])
            try slapd.delete("uid=go,\(Self.people)")
            try slapd.addPerson("end", mail: ["end@example.com"])
            postern.signal(SIGCONT)
            #expect(
                try gateway.comesToList(
                    Self.addresses("last", "end"),
                    not: Self.addresses("draft", "first", "second", "brief", "go", "going")), "\(gateway.messages)")
            #expect(try gateway.listed(Self.addresses("draft", "first", "second", "brief", "go", "going")).isEmpty)
            #expect(gateway.stop() == .exited(0))
            #expect(try gateway.sync("--full", "--dry-run").report?.removed.count == 0)
        }

        @Test(
            "a change is enforced in an open session of a real Postfix",
            .enabled(if: Requirements.areMet, Requirements.comment))
        func enforced() throws {
            let slapd = try slapd(people: 2)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            try gateway.publish()
            try gateway.serve()
            let postfix = try gateway.postfix()
            let client = try gateway.client(of: postfix)
            #expect(try client.recipient("new@example.com").category == 5)
            #expect(try client.recipient(SlapdInstance.address(0)).category == 2)
            try slapd.addPerson("new", mail: ["new@example.com"])
            try slapd.delete(SlapdInstance.person(0))
            #expect(try eventually(within: 20) { try client.recipient("new@example.com").category == 2 })
            #expect(try eventually(within: 20) { try client.recipient(SlapdInstance.address(0)).category == 5 })
        }

        @Test(
            "only changes are read after Postern was stopped, with and without a session log", arguments: [true, false])
        func cookie(hasLog: Bool) throws {
            let outside = "ou=outside,\(SlapdInstance.base)"
            let slapd = try slapd(.on(sessionLog: hasLog ? 1_000 : nil), people: 50, SlapdInstance.folder("outside"))
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, ["bases": "[\"\(Self.people)\"]"])])
            #expect(try gateway.publish().reading == "full")
            #expect(try gateway.publish().reading == "unchanged")
            try slapd.addPerson("new", mail: ["new@example.com"])
            try slapd.delete(SlapdInstance.person(1))
            try slapd.replace("mail", of: SlapdInstance.person(2), with: ["two@example.com"])
            try slapd.replace("mail", of: SlapdInstance.person(3), with: [])
            try slapd.move(SlapdInstance.person(4), below: outside)
            try slapd.rename(SlapdInstance.person(5), to: "uid=five")
            var report = try gateway.publish()
            #expect(report.reading == "changes")
            #expect((report.source?.read ?? 0) <= 3, "new, changed and renamed: \(report.source?.read ?? 0)")
            #expect(report.added.addresses == ["new@example.com", "two@example.com"])
            #expect(report.removed.addresses == (1...4).map(SlapdInstance.address))
            #expect(report.notes == [])
            // Over a restart of the server too; its overlay's log is then empty.
            try slapd.move("uid=person4,\(outside)", below: Self.people)
            try slapd.delete("uid=new,\(Self.people)")
            try slapd.restart()
            try slapd.delete(SlapdInstance.person(6))
            report = try gateway.publish()
            #expect(report.reading == "changes")
            #expect(report.added.addresses == [SlapdInstance.address(4)])
            #expect(report.removed.addresses == ["new@example.com", SlapdInstance.address(6)])
            #expect(try gateway.publish().reading == "unchanged")
            report = try gateway.publish(["--full"])
            #expect(report.reading == "full")
            #expect(report.outcome != "published", "nothing was missed")
        }

        @Test("a restarted server is followed again by itself, with the changes of the meantime")
        func serverRestarted() throws {
            let slapd = try slapd(people: 5)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)]) {
                $0.values["sync.interval"] = "\"5s\""
            }
            try gateway.serve()
            #expect(try gateway.comesToList([SlapdInstance.address(0)]))
            slapd.stop()
            let isSaid = eventually(within: 20) { gateway.messages.contains("can't be reached") }
            #expect(isSaid, "\(gateway.messages)")
            #expect(try gateway.listed([SlapdInstance.address(0)]).count == 1)
            try slapd.start()
            try slapd.delete(SlapdInstance.person(0))
            #expect(try gateway.comesToList([SlapdInstance.address(1)], not: [SlapdInstance.address(0)]))
            try slapd.addPerson("new", mail: ["new@example.com"])
            #expect(try gateway.comesToList(["new@example.com"]), "it tells by itself again")
            #expect(eventually(within: 20) { gateway.messages.contains("recovered") }, "\(gateway.messages)")
        }

        @Test("an older copy of the directory and another directory are read in full, reported in one line")
        func replaced() throws {
            let slapd = try slapd(people: 30)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            try gateway.publish()
            try slapd.stopped { try slapd.saveData(as: "older") }
            try slapd.addPerson("new", mail: ["new@example.com"])
            #expect(try gateway.publish().reading == "changes")
            try slapd.stopped { try slapd.restoreData("older") }
            var report = try gateway.publish()
            #expect(report.reading == "full")
            #expect(report.removed.addresses == ["new@example.com"])
            #expect(
                report.notes.filter { $0.contains("so Postern reads the whole directory again") }.count == 1,
                "\(report.notes)")
            #expect(report.notes.count == 1, "\(report.notes)")
            #expect(try gateway.publish().reading == "unchanged")

            // The same people as new objects, and one more; created later than the entries that were read.
            var ldif = try slapd.content()
            ldif.append(SlapdInstance.person("other", mail: ["other@example.com"]))
            try slapd.stopped { try slapd.fill(with: ldif) }
            report = try gateway.publish()
            #expect(report.added.addresses == ["other@example.com"])
            #expect(report.removed.count == 0)
            #expect(report.sources.first?.listed == 31)
        }

        @Test("a change that the server didn't report is found by a full read, on request or when it is due")
        func reconciled() throws {
            let inner = "ou=inner,\(Self.people)"
            let outside = "ou=outside,\(SlapdInstance.base)"
            let slapd = try slapd(
                people: 10,
                SlapdInstance.folder("outside") + SlapdInstance.folder("inner", below: Self.people)
                    + SlapdInstance.person("deep", below: inner, mail: ["deep@example.com"]))
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, ["bases": "[\"\(Self.people)\"]"])])
            try gateway.publish()
            try slapd.stopped {
                try slapd.rewrite {
                    $0.replacingOccurrences(of: "mail: person3@example.com", with: "mail: quiet@example.com")
                }
            }
            #expect(try gateway.publish().reading == "unchanged")
            #expect(try gateway.listed(["quiet@example.com"]) == [])
            var report = try gateway.publish(["--full"])
            #expect(report.added.addresses == ["quiet@example.com"])
            #expect(report.removed.addresses == [SlapdInstance.address(3)])

            // The server doesn't report entries that move with their folder.
            try slapd.move(inner, below: outside)
            try gateway.publish()
            try gateway.ageReconciliation()
            report = try gateway.publish()
            #expect(report.removed.addresses == ["deep@example.com"])
            let found = report.notes.filter {
                $0.contains("in full again found 1 differences") && $0.contains("-deep@")
            }
            #expect(found.count == 1, "\(report.notes)")
            #expect(try gateway.publish().notes == [])
        }

        @Test("without its state, Postern reads everything and compares with the published index")
        func stateLost() throws {
            let slapd = try slapd(people: 10)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)]) {
                $0.values["sync.max_shrink"] = "\"10%\""
            }
            let generation = try gateway.publish().generation
            for name in ["sync.sqlite", "sync.sqlite-wal", "sync.sqlite-shm"] {
                try? FileManager.default.removeItem(atPath: workspace.file(name))
            }
            for number in 0..<5 { try slapd.delete(SlapdInstance.person(number)) }
            let refused = try gateway.sync()
            #expect(refused.status == 1)
            #expect(refused.error.contains("would lose 5 of 10 recipients"), "\(refused.error)")
            #expect(try gateway.index()?.recipients == 10)
            let report = try gateway.publish(["--accept-shrink"])
            #expect(report.reading == "full")
            #expect(report.generation > generation)
            #expect(try gateway.listed((0..<10).map(SlapdInstance.address)).count == 5)

            // A state that is no database is said, and nothing is lost.
            try workspace.write("this is no database, and long enough to be looked at as one\n", to: "sync.sqlite")
            let broken = try gateway.sync()
            #expect(broken.status == 74)
            #expect(broken.error.contains("sync.sqlite"), "\(broken.error)")
            #expect(try gateway.index()?.recipients == 5)
        }
    }
}
