import Foundation
import Testing

extension Directories {
    /// The cursors that syncs of an Active Directory store, and how the next syncs go on from them.
    @Suite(DirectoryRequirements.samba) struct ActiveDirectoryStateTests {
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

        @Test(
            "if the server can't continue from the stored cursor, everything is read, reported in one line",
            arguments: FollowingWay.allCases)
        func unusableState(way: FollowingWay) throws {
            let units = try TestUnits("State by \(way)", of: samba)
            for name in ["anna", "bert"] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: units.inside)
            }
            let gateway = try gateway(units, by: way)
            try gateway.publish()

            /// Changes the stored cursor, and a recipient whose change only a full read finds.
            func isReadAgain(
                _ name: String, saying words: String, location: SourceLocation = #_sourceLocation,
                _ edit: () throws -> Void
            ) throws {
                try edit()
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: units.inside)
                let report = try gateway.publish()
                #expect(report.reading == "full", sourceLocation: location)
                #expect(report.source?.method == way.method, sourceLocation: location)
                #expect(report.notes.count == 1, "\(report.notes)", sourceLocation: location)
                #expect(report.notes.first?.contains(words) == true, "\(report.notes)", sourceLocation: location)
                #expect(report.added.addresses == ["\(name)@example.com"], sourceLocation: location)
                #expect(report.removed.count == 0, sourceLocation: location)
                let after = try gateway.publish()
                #expect(after.reading != "full", "\(after.notes)", sourceLocation: location)
            }
            let again = "\(way.method) can't go on from the last sync, so Postern reads the whole directory again"
            func positions(_ value: String) throws {
                try gateway.editCursor { cursor in
                    cursor["positions"] = [SambaInstance.base: Data(value.utf8).base64EncodedString()]
                }
            }
            try isReadAgain("carl", saying: again) { try positions("neither cookie nor number") }
            switch way {
            case .auto:
                // As of another domain controller: this one then tells of everything.
                try isReadAgain("dora", saying: "Postern reads the whole directory again") {
                    try gateway.editCursor { cursor in
                        let positions = try #require(cursor["positions"] as? [String: String])
                        cursor["positions"] = try positions.mapValues { text in
                            let cookie = try #require(Data(base64Encoded: text))
                            return try samba.asOfAnotherController(cookie).base64EncodedString()
                        }
                    }
                }
            case .usn:
                try isReadAgain("dora", saying: "was restored to an earlier state") { try positions("99999999") }
                try isReadAgain("emil", saying: "the last sync read another domain controller") {
                    try gateway.editCursor { $0["server"] = "(invocationId=\\00\\01)" }
                }
            }
            try isReadAgain("fred", saying: "Postern reads the whole directory again") {
                try gateway.editCursor { _ in Data("{\"of another version\":1}".utf8) }
            }
        }

        @Test("a missed change is found by a full read, on request or when it is due", arguments: FollowingWay.allCases)
        func reconciled(way: FollowingWay) throws {
            let units = try TestUnits("Reconciled by \(way)", of: samba)
            let names = ["anna", "bert", "carl"]
            for name in names { try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: units.inside) }
            let all = names.map { "\($0)@example.com" }
            let gateway = try gateway(units, by: way)
            try gateway.publish()
            try gateway.forget(["anna@example.com"])
            #expect(try gateway.publish().reading != "full")
            var report = try gateway.publish(["--full"])
            #expect(report.reading == "full")
            #expect(report.added.addresses == ["anna@example.com"])
            #expect(try gateway.listed(all) == Set(all))

            try gateway.forget(["bert@example.com", "carl@example.com"])
            try samba.add(.contact, "dora", ["SMTP:dora@example.com"], below: units.inside)
            try gateway.editCursor { cursor in
                cursor["reconciled"] = try #require(cursor["reconciled"] as? Double) - 2 * 86_400
            }
            report = try gateway.publish()
            #expect(report.added.addresses.sorted() == ["bert@example.com", "carl@example.com", "dora@example.com"])
            let found =
                "reading \"directory\" in full again found 2 differences that the directory had not reported as changes: "
            #expect(report.notes.first == found + "+bert@example.com, +carl@example.com")
            #expect(report.notes.dropFirst().allSatisfy { $0.contains("lists 2 addresses where it should list 4") })
            #expect(try gateway.listed(all) == Set(all))
            #expect(try gateway.publish().notes == [], "done for today")

            // A day is the default.
            try gateway.editCursor { cursor in
                cursor["reconciled"] = try #require(cursor["reconciled"] as? Double) - 7_200
            }
            #expect(try gateway.publish().notes == [])
            try gateway.configure([
                .samba(
                    samba, as: .administrator, bases: [units.inside],
                    ["incremental": "\"\(way.rawValue)\"", "reconcile": "\"1h\""])
            ])
            try gateway.publish()
            try gateway.editCursor { cursor in
                cursor["reconciled"] = try #require(cursor["reconciled"] as? Double) - 7_200
            }
            #expect(
                try gateway.publish().notes
                    == ["reading \"directory\" in full again found no difference"])
        }

        @Test(
            "changes that a guard refuses are refused at each sync until a person accepts them",
            arguments: FollowingWay.allCases)
        func guarded(way: FollowingWay) throws {
            let units = try TestUnits("Guarded by \(way)", of: samba)
            let names = (0..<10).map { "guarded\($0)" }
            for name in names { try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: units.inside) }
            let gateway = try gateway(units, by: way) { $0.values["sync.max_shrink"] = "\"20%\"" }
            try gateway.publish()
            for name in names.prefix(3) { try samba.delete("CN=\(name),\(units.inside)") }
            let all = names.map { "\($0)@example.com" }
            for _ in 0..<2 {
                let run = try gateway.sync()
                #expect(run.status == 1)
                #expect(run.report?.reading == "changes")
                #expect(run.report?.refusal?.first == Array(all.prefix(3)))
                #expect(run.error.contains("would lose 3 of 10 recipients"), "\(run.error)")
                #expect(try gateway.listed(all).count == 10)
            }
            try samba.add(.contact, "more", ["SMTP:more@example.com"], below: units.inside)
            let report = try gateway.publish(["--accept-shrink"])
            #expect(report.reading == "changes")
            #expect(report.removed.addresses == Array(all.prefix(3)))
            #expect(report.added.addresses == ["more@example.com"])
        }

        @Test("without special rights, each sync by hand reads everything, and the reason is reported once")
        func ordinaryAccount() throws {
            let units = try TestUnits("Ordinary", of: samba)
            for name in ["anna", "bert", "carl"] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: units.inside)
            }
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, bases: [units.inside]))
            var report = try gateway.publish()
            #expect(report.source?.method == "DirSync")
            #expect(report.notes.count == 1)
            #expect(
                report.notes.first?.contains("the server doesn't report deletions to this account") == true,
                "\(report.notes)")
            try samba.delete("CN=anna,\(units.inside)")
            report = try gateway.publish()
            #expect(report.reading == "full")
            #expect(report.removed.addresses == ["anna@example.com"])
            #expect(report.notes == [])

            try gateway.configure([.samba(samba, bases: [units.inside], ["incremental": "\"usn\""])])
            report = try gateway.publish()
            #expect(report.source?.method == "paged search")
            #expect(
                report.notes.contains {
                    $0.contains("uSNChanged is unavailable: the account may not read CN=Deleted")
                },
                "\(report.notes)")
            try samba.delete("CN=bert,\(units.inside)")
            report = try gateway.publish()
            #expect(report.removed.addresses == ["bert@example.com"])
            #expect(report.notes == [])
        }
    }
}
