import Foundation
import Testing

extension Directories {
    /// A directory that pushes its changes and loses its entries one by one.
    @Suite(DirectoryRequirements.slapd) struct GradualLossTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        @Test("a directory that is emptied entry by entry keeps nine tenths of its recipients, and is refused once")
        func emptied() throws {
            let count = 500
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 10_000)
            options.people = count
            let slapd = try SlapdInstance(in: workspace, options, name: "slapd")
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)]) {
                $0.values["sync.max_shrink"] = "\"10%\""
                $0.values["sync.grace"] = "\"10m\""
            }
            try gateway.serve()
            let people = (0..<count).map(SlapdInstance.address)
            #expect(try gateway.comesToList(people), "\(gateway.messages)")
            // All but a few: an empty list is refused whatever went before.
            let leaving = Array(0..<count - 20)
            for start in stride(from: 0, to: leaving.count, by: 4) {
                let some = leaving[start..<min(start + 4, leaving.count)]
                try slapd.administrator.modify(
                    some.map { "dn: \(SlapdInstance.person($0))\nchangetype: delete\n\n" }.joined())
            }
            #expect(
                eventually(within: 30) { gateway.messages.contains("Postern rejects the new list") },
                "\(gateway.messages)")
            // Whatever comes after it.
            let isTold = try eventually(within: 30) {
                try gateway.configuration.run(["status"]).output.contains("would be removed now")
            }
            #expect(isTold, "\(gateway.messages)")
            let info = try #require(try gateway.index())
            #expect(info.recipients >= count * 9 / 10, "\(info)")
            let verdicts = try gateway.verdicts(people)
            #expect(verdicts.values.allSatisfy { $0 == "accept listed" || $0 == "tempfail leaving" })
            #expect(verdicts.values.filter { $0 == "accept listed" }.count == info.recipients)
            #expect(
                gateway.messages.components(separatedBy: "Postern rejects the new list").count == 2,
                "\(gateway.messages)")
            #expect(try gateway.configuration.run(["status"]).ending == .exited(1))

            // A person sees all of it, and means it.
            let shown = try gateway.sync()
            #expect(shown.status == 1 && shown.error.contains("--accept-shrink"), "\(shown.error)")
            try gateway.publish(["--accept-shrink"])
            let accepted = try gateway.verdicts(people).values
            #expect(accepted.filter { $0 == "tempfail leaving" }.count == leaving.count)
            #expect(accepted.filter { $0 == "accept listed" }.count == 20)
        }
    }
}
