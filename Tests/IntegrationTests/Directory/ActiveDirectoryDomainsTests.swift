import Foundation
import Testing

extension Directories {
    /// Relay domains that come from Exchange's accepted domains.
    @Suite(DirectoryRequirements.samba) struct ActiveDirectoryDomainsTests {
        private let workspace: Workspace
        private let samba: SambaInstance

        /// The accepted domains are the whole forest's, so each test has a controller of its own.
        init() throws {
            workspace = try Workspace()
            samba = try SambaInstance(in: workspace)
        }

        /// Without any domain in the configuration.
        private func gateway() throws -> DirectoryGateway {
            try DirectoryGateway(in: workspace, of: .samba(samba, ["accepted_domains": "true"])) {
                $0.values["relay.domains"] = nil
                $0.values["sync.max_shrink"] = "\"10%\""
            }
        }

        private func dn(_ domain: String) -> String { "CN=\(domain),\(SambaInstance.acceptedDomains)" }

        private func add(_ name: String, _ domains: [String]) throws {
            try samba.add(.contact, name, domains.map { "smtp:\(name)@\($0)" })
        }

        @Test("accepted domains are relayed; an internal relay domain accepts every recipient")
        func accepted() throws {
            try samba.addAcceptedDomain("corp.test")
            try samba.addAcceptedDomain("partly.test", flags: 2)
            try samba.addAcceptedDomain("outer.test", flags: 1)
            for (name, value) in [
                ("all", "*"), ("text", "not a domain"), ("literal", "[192.0.2.1]"), ("dots", "a..test"),
            ] {
                try samba.add(
                    dn(name), [("objectClass", "msExchAcceptedDomain"), ("msExchAcceptedDomainName", value)])
            }
            try add("anna", ["corp.test", "partly.test", "other.test"])
            let gateway = try gateway()
            // Which domains are relayed isn't known yet.
            #expect(try gateway.verdict("anna@corp.test") == "tempfail no-index")
            #expect(try gateway.verdict("anna@nowhere.test") == "tempfail no-index")
            let report = try gateway.publish()
            #expect(report.source?.foreign.count == 1)
            #expect(
                try gateway.verdicts([
                    "anna@corp.test", "nobody@corp.test", "anna@partly.test", "nobody@partly.test",
                    "nobody@outer.test", "anna@other.test", "anna@sub.corp.test", "postmaster@corp.test",
                    "a@a..test", "a@[192.0.2.1]",
                ]) == [
                    "anna@corp.test": "accept listed", "nobody@corp.test": "reject unknown",
                    "anna@partly.test": "accept listed", "nobody@partly.test": "accept catch-all",
                    "nobody@outer.test": "accept catch-all", "anna@other.test": "reject relay",
                    "anna@sub.corp.test": "reject relay", "postmaster@corp.test": "accept always",
                    "a@a..test": "reject syntax", "a@[192.0.2.1]": "reject relay",
                ])
        }

        @Test("a new domain adds its recipients, and the guard refuses that a domain vanishes")
        func changed() throws {
            try samba.addAcceptedDomain("corp.test")
            try samba.addAcceptedDomain("second.test")
            for name in ["anna", "bert", "carl"] { try add(name, ["corp.test", "second.test", "new.test"]) }
            let gateway = try gateway()
            #expect(try gateway.publish().recipients == 6)
            try samba.addAcceptedDomain("new.test")
            var report = try gateway.publish()
            #expect(report.added.addresses == ["anna@new.test", "bert@new.test", "carl@new.test"])
            #expect(report.source?.foreign.count == 0)
            #expect(try gateway.verdict("anna@new.test") == "accept listed")
            #expect(try gateway.verdict("nobody@new.test") == "reject unknown")

            try samba.delete(dn("second.test"))
            let refused = try gateway.sync()
            #expect(refused.status == 1)
            #expect(refused.error.contains("domain second.test would lose all of its 3 recipients"), "\(refused.error)")
            #expect(try gateway.verdict("anna@second.test") == "accept listed")
            #expect(try gateway.sync().status == 1, "it is refused each time")
            report = try gateway.publish(["--accept-shrink"])
            #expect(report.removed.addresses == ["anna@second.test", "bert@second.test", "carl@second.test"])
            #expect(try gateway.verdict("anna@second.test") == "reject relay")
            #expect(try gateway.publish().notes == [])

            // A kind that changes is followed too.
            try samba.replace("msExchAcceptedDomainFlags", of: dn("new.test"), with: ["2"])
            try gateway.publish()
            #expect(try gateway.verdict("nobody@new.test") == "accept catch-all")
            try samba.replace("msExchAcceptedDomainFlags", of: dn("new.test"), with: ["0"])
            _ = try gateway.sync("--accept-shrink")
            #expect(try gateway.verdict("nobody@new.test") == "reject unknown")
        }

        @Test("a running filter relays for a new domain without a restart")
        func served() throws {
            try samba.addAcceptedDomain("corp.test")
            try add("anna", ["corp.test", "new.test"])
            let gateway = try gateway()
            gateway.configuration.values["sync.interval"] = "\"2s\""
            try gateway.serve()
            #expect(try gateway.comesToList(["anna@corp.test"], not: ["anna@new.test"]), "\(gateway.messages)")
            try samba.addAcceptedDomain("new.test")
            #expect(try gateway.comesToList(["anna@corp.test", "anna@new.test"]), "\(gateway.messages)")
        }
    }
}
