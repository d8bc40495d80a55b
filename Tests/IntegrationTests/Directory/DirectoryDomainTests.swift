import Foundation
import Testing

extension Directories {
    /// Relay domains that a directory names.
    @Suite(DirectoryRequirements.slapd) struct DirectoryDomainTests {
        private static let domains = "cn=domains,\(SlapdInstance.base)"
        private let workspace: Workspace
        private let slapd: SlapdInstance

        init() throws {
            workspace = try Workspace()
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 100)
            options.people = 3
            options.ldif =
                """
                dn: \(Self.domains)
                objectClass: applicationProcess
                objectClass: posternRecipient
                cn: domains
                posternRelayDomain: Sales.test
                posternRelayDomain: not a domain
                posternRelayDomain: *


                """ + SlapdInstance.person("sam", mail: ["sam@sales.test", "sam@later.test"])
            slapd = try SlapdInstance(in: workspace, options)
        }

        private func gateway(_ interval: String = "1h") throws -> DirectoryGateway {
            try DirectoryGateway(
                in: workspace, [.slapd(slapd, ["relay_domains_attribute": "\"posternRelayDomain\""])]
            ) {
                $0.values["sync.interval"] = "\"\(interval)\""
                $0.values["sync.max_shrink"] = "\"50%\""
            }
        }

        @Test(
            "the directory's domains, and no others, are relayed; a vanished domain is kept until a person accepts it")
        func vanished() throws {
            let gateway = try gateway()
            let all = ["sam@sales.test", "nobody@sales.test", "sam@later.test", "x@not.test", SlapdInstance.address(0)]
            try gateway.publish()
            let before = try gateway.verdicts(all)
            #expect(
                before == [
                    "sam@sales.test": "accept listed", "nobody@sales.test": "reject unknown",
                    "sam@later.test": "reject relay", "x@not.test": "reject relay",
                    SlapdInstance.address(0): "accept listed",
                ])
            try slapd.replace("posternRelayDomain", of: Self.domains, with: ["later.test"])
            let refused = try gateway.sync()
            #expect(refused.status == 1)
            #expect(refused.error.contains("domain sales.test would lose its only recipient"), "\(refused.error)")
            #expect(refused.error.contains("postern sync --accept-shrink"))
            #expect(try gateway.verdicts(all) == before)
            #expect(try gateway.sync("--accept-shrink").status == 0)
            #expect(try gateway.verdict("sam@sales.test") == "reject relay")
            #expect(try gateway.verdict("sam@later.test") == "accept listed")
        }

        @Test(
            "a running filter relays for a domain that is added to the directory",
            .enabled(if: Requirements.areMet, Requirements.comment))
        func gained() throws {
            let gateway = try gateway("1s")
            try gateway.serve()
            #expect(try gateway.comesToList(["sam@sales.test"], not: ["sam@later.test"]))
            let postfix = try gateway.postfix()
            let client = try gateway.client(of: postfix)
            #expect(try client.recipient("sam@sales.test").category == 2)
            #expect(try client.recipient("nobody@sales.test").code == 550)
            #expect(try client.recipient("sam@later.test").code == 554)
            try slapd.replace("posternRelayDomain", of: Self.domains, with: ["sales.test", "later.test"])
            #expect(try eventually(within: 20) { try client.recipient("sam@later.test").category == 2 })
            // The guard also refuses that the filter's own syncs remove the domain.
            try slapd.replace("posternRelayDomain", of: Self.domains, with: ["later.test"])
            let isSaid = eventually(within: 20) {
                gateway.messages.contains("domain sales.test would lose its only recipient")
            }
            #expect(isSaid, "\(gateway.messages)")
            #expect(try client.recipient("sam@sales.test").category == 2)
        }
    }
}
