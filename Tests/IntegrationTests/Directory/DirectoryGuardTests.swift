import Foundation
import Testing

extension Directories {
    /// Directories that suddenly list less, or don't let all be read: the published index stays.
    @Suite(DirectoryRequirements.slapd) struct DirectoryGuardTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        private func slapd(people: Int = 20) throws -> SlapdInstance {
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 100)
            options.people = people
            return try SlapdInstance(in: workspace, options)
        }

        /// With a second source, without which an emptied directory would be below `minimum` too.
        private func gateway(_ slapd: SlapdInstance, type: String = "openldap") throws -> DirectoryGateway {
            try workspace.write("filed@example.com\n", to: "list")
            return try DirectoryGateway(in: workspace, [.slapd(slapd, type: type), .file("list", path: "list")]) {
                $0.values["sync.max_shrink"] = "\"10%\""
                $0.values["sync.interval"] = "\"1s\""
            }
        }

        @Test(
            "a directory that has lost addresses or entries is refused until a person accepts the loss",
            arguments: ["mail", "entries"])
        func emptied(loss: String) throws {
            let slapd = try slapd()
            let gateway = try gateway(slapd)
            try gateway.serve()
            let people = (0..<20).map(SlapdInstance.address)
            #expect(try gateway.comesToList(people))
            let index = try gateway.index()
            let ldif = (0..<20).map { number in
                "dn: \(SlapdInstance.person(number))\nchangetype: "
                    + (loss == "mail" ? "modify\nreplace: mail\n\n" : "delete\n\n")
            }
            try slapd.add(ldif.joined())
            let isSaid = eventually(within: 20) {
                gateway.messages.contains("source \"directory\" lists no recipients any more; it listed")
                    || gateway.messages.contains("the list would lose")
            }
            #expect(isSaid, "\(gateway.messages)")
            let refused = try gateway.sync()
            #expect(refused.status == 1)
            #expect(refused.error.contains("domain example.com would lose 20 of 21 recipients"), "\(refused.error)")
            #expect(refused.error.contains("lists no recipients any more; it listed 20"), "\(refused.error)")
            #expect(refused.error.contains("20 would be removed: person0@example.com, person10@example.com"))
            #expect(refused.report?.refusal?.removed == 20)
            #expect(refused.report?.refusal?.first.count == 10)
            let full = try gateway.sync("--full")
            #expect(full.status == 1)
            let dry = try gateway.sync("--dry-run")
            #expect(dry.status == 1)
            #expect(dry.report?.removed.count == 20)
            #expect(try gateway.listed(people).count == 20)
            #expect(try gateway.index()?.recipients == index?.recipients)
            #expect(try gateway.sync("--accept-shrink").status == 0)
            #expect(try gateway.listed(people + ["filed@example.com"]) == ["filed@example.com"])
        }

        @Test("an empty list is refused: the account has lost its rights")
        func blinded() throws {
            let slapd = try slapd()
            let gateway = try gateway(slapd)
            try gateway.publish()
            let index = try gateway.index()
            slapd.options.access = ["to dn.subtree=\(SlapdInstance.people) by * none"]
            try slapd.restart()
            // By the cookie nothing has changed.
            try gateway.publish()
            let refused = try gateway.sync("--full")
            #expect(refused.status == 1)
            #expect(refused.error.contains("source \"directory\" lists no recipients any more"), "\(refused.error)")
            slapd.options.access = ["to * by * none"]
            try slapd.restart()
            let failed = try gateway.sync("--full")
            #expect(failed.status == 75)
            #expect(
                failed.error.contains("source directory: source \"directory\": \(slapd.uri): search: ")
                    || failed.error.contains("\(slapd.uri): search: "), "\(failed.error)")
            #expect(failed.error.contains("the base doesn't exist on this server, or the account may not see it"))
            #expect(try gateway.index() == index)
            slapd.options.access = []
            try slapd.restart()
            #expect(try gateway.publish(["--full"]).outcome != "published")
        }

        @Test("a size limit is an error, never the end of the list", arguments: ["openldap", "ldap"])
        func sizeLimit(type: String) throws {
            let slapd = try slapd()
            let gateway = try gateway(slapd, type: type)
            try gateway.publish()
            let index = try gateway.index()
            slapd.options.sizeLimit = 19
            try slapd.restart()
            let failed = try gateway.sync("--full")
            #expect(failed.status == 75)
            #expect(
                failed.error.contains(
                    "\(slapd.uri): search: \(SlapdInstance.base): the server's size limit ended the search"),
                "\(failed.error)")
            #expect(try gateway.index() == index)
            #expect(try gateway.listed((0..<20).map(SlapdInstance.address)).count == 20)
        }

        @Test("other limits and refusals of a search are reported with their reason")
        func limits() throws {
            let words = [
                3: "the server's time limit ended the search; raise it for the account that Postern binds as",
                11: "an administrative limit of the server ended the search", 50: "the account has no right to do this",
                51: "the server is busy or shutting down", 52: "the server is busy or shutting down",
                80: "Other (e.g., implementation specific) error",
            ]
            let codes = "ou=codes,\(SlapdInstance.base)"
            var options = SlapdOptions()
            options.people = 3
            options.contentSync = .on()
            options.globalLines = ["moduleload retcode"]
            options.databaseLines = ["overlay retcode", "retcode-parent \"\(codes)\""]
            options.databaseLines += words.keys.map { "retcode-item \"cn=code\($0)\" \($0)" }
            let slapd = try SlapdInstance(in: workspace, options)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            try gateway.publish()
            let index = try gateway.index()
            for (code, words) in words.sorted(by: { $0.key < $1.key }) {
                let base = "cn=code\(code),\(codes)"
                // The entries of the first base don't count.
                try gateway.configure([.slapd(slapd, ["bases": "[\"\(SlapdInstance.base)\", \"\(base)\"]"])])
                let failed = try gateway.sync()
                #expect(failed.status == 75)
                #expect(
                    failed.error.contains("source \"directory\": \(slapd.uri): search: \(base): \(words)"),
                    "\(failed.error)")
                #expect(try gateway.index() == index)
            }
        }
    }
}
