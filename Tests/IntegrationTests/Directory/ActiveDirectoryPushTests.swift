import Foundation
import Testing

extension Directories {
    /// How a running filter follows an Active Directory, through push, polls and outages.
    @Suite(DirectoryRequirements.samba) struct ActiveDirectoryPushTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        private func lines(_ gateway: DirectoryGateway, _ words: String) -> [Substring] {
            gateway.messages.split(separator: "\n").filter { $0.contains(words) }
        }

        @Test("a change that the controller reports is enforced long before the interval ends")
        func pushed() throws {
            let samba = try SharedController.instance()
            let unit = try samba.addUnit("Pushed")
            let outside = try samba.addUnit("Pushed out")
            for name in ["stay", "change", "go", "away"] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: unit)
            }
            let gateway = try DirectoryGateway(
                in: workspace, of: .samba(samba, as: .administrator, bases: [unit]))
            try gateway.serve()
            let first = ["stay", "change", "go", "away"].map { "\($0)@example.com" }
            #expect(try gateway.comesToList(first), "\(gateway.messages)")
            try samba.add(.contact, "new", ["SMTP:new@example.com"], below: unit)
            try samba.replace("proxyAddresses", of: "CN=change,\(unit)", with: ["SMTP:changed@example.com"])
            try samba.move("CN=away,\(unit)", below: outside)
            #expect(
                try gateway.comesToList(
                    ["stay@example.com", "new@example.com", "changed@example.com", "go@example.com"],
                    not: ["change@example.com", "away@example.com"]), "\(gateway.messages)")
            try samba.delete("CN=go,\(unit)")
            #expect(try gateway.comesToList(["stay@example.com"], not: ["go@example.com"]), "\(gateway.messages)")
            #expect(lines(gateway, "error").isEmpty, "\(gateway.messages)")
            #expect(gateway.stop() == .exited(0))
            #expect(try gateway.publish().reading != "full", "the command continues where the filter ended")
        }

        @Test("without special rights, new and changed entries come by push, deletions at the interval")
        func ordinaryAccount() throws {
            let samba = try SharedController.instance()
            let unit = try samba.addUnit("Ordinary push")
            for name in ["stay", "change", "go"] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: unit)
            }
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, bases: [unit]))
            try gateway.serve()
            #expect(try gateway.comesToList(["stay@example.com"]), "\(gateway.messages)")
            try samba.add(.contact, "new", ["SMTP:new@example.com"], below: unit)
            try samba.replace("proxyAddresses", of: "CN=change,\(unit)", with: ["SMTP:changed@example.com"])
            #expect(
                try gateway.comesToList(
                    ["stay@example.com", "new@example.com", "changed@example.com", "go@example.com"],
                    not: ["change@example.com"]), "\(gateway.messages)")
            gateway.stop()

            gateway.configuration.values["sync.interval"] = "\"2s\""
            try gateway.serve()
            try samba.delete("CN=go,\(unit)")
            #expect(try gateway.comesToList(["stay@example.com"], not: ["go@example.com"]), "\(gateway.messages)")
            #expect(lines(gateway, "doesn't report deletions to this account").count <= 1, "\(gateway.messages)")
        }

        @Test("without push, changes come at the interval", arguments: ["dirsync", "usn", "off"])
        func polled(way: String) throws {
            let samba = try SharedController.instance()
            let unit = try samba.addUnit("Polled by \(way)")
            for name in ["stay", "go"] {
                try samba.add(.contact, name, ["SMTP:\(name)@example.com"], below: unit)
            }
            let source = SourceTable.samba(
                samba, as: .administrator, bases: [unit], ["push": "false", "incremental": "\"\(way)\""])
            let gateway = try DirectoryGateway(in: workspace, of: source) { $0.values["sync.interval"] = "\"2s\"" }
            try gateway.serve()
            #expect(try gateway.comesToList(["stay@example.com", "go@example.com"]), "\(gateway.messages)")
            try samba.delete("CN=go,\(unit)")
            try samba.add(.contact, "new", ["SMTP:new@example.com"], below: unit)
            #expect(
                try gateway.comesToList(["stay@example.com", "new@example.com"], not: ["go@example.com"]),
                "\(gateway.messages)")
        }

        @Test("an unreachable controller is reported in one line, the index stays, and following resumes by itself")
        func outage() throws {
            let samba = try SambaInstance(in: workspace)
            try samba.add(.contact, "anna", ["SMTP:anna@example.com"])
            try samba.add(.contact, "bert", ["SMTP:bert@example.com"])
            let gateway = try DirectoryGateway(in: workspace, of: .samba(samba, as: .administrator)) {
                $0.values["sync.interval"] = "\"2s\""
            }
            try gateway.serve()
            #expect(try gateway.comesToList(["anna@example.com", "bert@example.com"]), "\(gateway.messages)")
            samba.stop()
            #expect(eventually(within: 20) { !lines(gateway, samba.address).isEmpty }, "\(gateway.messages)")
            // Time enough for more tries, which say nothing new.
            Thread.sleep(forTimeInterval: 5)
            let said = lines(gateway, samba.address)
            #expect(said.count == 1, "\(gateway.messages)")
            #expect(said.first?.contains("Connection refused") == true, "\(gateway.messages)")
            #expect(try gateway.listed(["anna@example.com", "bert@example.com"]).count == 2)
            #expect(try gateway.verdict("nobody@example.com") == "reject unknown")

            try samba.start()
            try samba.delete("CN=bert,\(SambaInstance.people)")
            #expect(try gateway.comesToList(["anna@example.com"], not: ["bert@example.com"]), "\(gateway.messages)")
            #expect(eventually(within: 20) { lines(gateway, "recovered").count == 1 }, "\(gateway.messages)")
            // The server reports changes again, and the stored position spares a full read.
            try samba.add(.contact, "carl", ["SMTP:carl@example.com"])
            #expect(try gateway.comesToList(["anna@example.com", "carl@example.com"]), "\(gateway.messages)")
            #expect(lines(gateway, "read again").isEmpty, "\(gateway.messages)")
        }

        @Test("a connection that breaks while idle is replaced at once, and changes are reported over it")
        func broken() throws {
            let samba = try SharedController.instance()
            let unit = try samba.addUnit("Broken")
            try samba.add(.contact, "anna", ["SMTP:anna@example.com"], below: unit)
            let proxy = try FaultProxy(to: 636, host: samba.address)
            let gateway = try DirectoryGateway(
                in: workspace,
                of: .samba(samba, as: .administrator, uris: ["ldaps://127.0.0.1:\(proxy.port)"], bases: [unit]))
            try gateway.serve()
            #expect(try gateway.comesToList(["anna@example.com"]), "\(gateway.messages)")
            let before = proxy.counts.connections
            proxy.cutAll()
            #expect(eventually(within: 20) { proxy.counts.connections > before }, "\(gateway.messages)")
            try samba.add(.contact, "bert", ["SMTP:bert@example.com"], below: unit)
            #expect(try gateway.comesToList(["anna@example.com", "bert@example.com"]), "\(gateway.messages)")
            try samba.delete("CN=anna,\(unit)")
            #expect(try gateway.comesToList(["bert@example.com"], not: ["anna@example.com"]), "\(gateway.messages)")
        }

        @Test("a refused password isn't tried again before its file changes")
        func refusedPassword() throws {
            let samba = try SharedController.instance()
            let unit = try samba.addUnit("Refused")
            try samba.add(.contact, "anna", ["SMTP:anna@example.com"], below: unit)
            let proxy = try FaultProxy(to: 636, host: samba.address)
            let gateway = try DirectoryGateway(
                in: workspace, of: .samba(samba, uris: ["ldaps://127.0.0.1:\(proxy.port)"], bases: [unit])
            ) { $0.values["sync.interval"] = "\"1s\"" }
            let secret = SourceTable.Account.service.secret
            try gateway.write(secret: "wrong", to: secret)
            try gateway.serve()
            #expect(
                eventually(within: 20) { !lines(gateway, "the password is wrong").isEmpty }, "\(gateway.messages)")
            #expect(lines(gateway, "to keep the account from being locked").count == 1, "\(gateway.messages)")
            let tries = proxy.counts.connections
            Thread.sleep(forTimeInterval: 4)
            #expect(proxy.counts.connections == tries)
            try gateway.write(secret: SambaInstance.password, to: secret)
            #expect(try gateway.comesToList(["anna@example.com"]), "\(gateway.messages)")
        }
    }
}
