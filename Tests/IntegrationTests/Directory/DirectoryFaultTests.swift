import Foundation
import Glibc
import TestSupport
import Testing

extension Directories {
    /// A network that fails in every way between Postern and slapd: the published index stays as it was, the failure is
    /// reported in one clear line, and the next sync works without help.
    @Suite(DirectoryRequirements.slapd) struct DirectoryFaultTests {
        private let workspace: Workspace
        private let slapd: SlapdInstance
        private let proxy: FaultProxy
        private let tlsProxy: FaultProxy

        init() throws {
            workspace = try Workspace()
            let authority = try TestAuthority(in: workspace)
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 1_000)
            options.people = 60
            options.certificate = try authority.issue()
            slapd = try SlapdInstance(in: workspace, options)
            proxy = try FaultProxy(to: slapd.port)
            tlsProxy = try FaultProxy(to: slapd.tlsPort)
        }

        private var uri: String { "ldap://127.0.0.1:\(proxy.port)" }
        private var tlsURI: String { "ldaps://127.0.0.1:\(tlsProxy.port)" }

        private func gateway(
            tls: Bool = false, interval: String = "1h", _ changes: [String: String?] = [:]
        ) throws -> DirectoryGateway {
            let source = SourceTable.slapd(
                slapd, uris: [tls ? tlsURI : uri], ["timeout": "\"2s\""].merging(changes) { $1 })
            return try DirectoryGateway(in: workspace, [source]) { $0.values["sync.interval"] = "\"\(interval)\"" }
        }

        /// A fault of the connection, with the message that reports it.
        struct Fault: CustomStringConvertible {
            let description: String
            let behaviour: FaultProxy.Behaviour
            let operation: String
            let words: String

            init(_ name: String, _ behaviour: FaultProxy.Behaviour, _ operation: String, _ words: String) {
                description = name
                self.behaviour = behaviour
                self.operation = operation
                self.words = words
            }
        }

        private static let silence = "no answer within 2 seconds"
        private static let end = "the server closed the connection"

        /// In clear: the answer to the bind has 14 bytes, that about the server some hundreds.
        static let plain: [Fault] = [
            Fault("refused", .refuse, "bind", end),
            Fault("stalled from the beginning", .stall, "bind", silence),
            Fault("cut at the bind", .cutAfter(.ofConnection(0)), "bind", end),
            Fault("cut within the answer to the bind", .cutAfter(.ofConnection(7)), "bind", end),
            Fault("stalled within the answer to the bind", .stallAfter(.ofConnection(7)), "bind", silence),
            Fault("cut after the bind", .cutAfter(.ofConnection(14)), "search", end),
            Fault("slow", .slow(bytesPerSecond: 40), "search", silence),
            Fault("a malformed answer", .corrupt(at: .ofConnection(0)), "bind", ""),
            Fault(
                "cut before an entry", .cutWhen(.server, sends: Array("uid=person20,".utf8), forwarding: false),
                "search", end),
            Fault(
                "cut within an entry", .cutWhen(.server, sends: Array("uid=person20,".utf8), forwarding: true),
                "search",
                end),
            Fault("stalled within the entries", .stallAfter(.ofConnection(3_000)), "search", silence),
        ]

        @Test(
            "a failed sync by hand reports one line and doesn't affect the next sync",
            arguments: ["auto", "off"])
        func once(incremental: String) throws {
            let gateway = try gateway(["incremental": "\"\(incremental)\"", "page_size": "10"])
            try gateway.publish()
            // Both ways are the same until the bind is done.
            for (number, fault) in Self.plain.filter({ incremental == "auto" || $0.operation == "search" }).enumerated()
            {
                let index = try gateway.index()
                try slapd.delete(SlapdInstance.person(number))
                proxy.resets(fault.operation == "search" && number % 2 == 0)
                proxy.set(fault.behaviour)
                let failed = try gateway.sync("--full")
                proxy.set(.pass)
                #expect(failed.status == 75, "\(fault)")
                #expect(failed.messages.count == 1, "\(fault): \(failed.error)")
                let line = "postern: source \"directory\": \(uri): \(fault.operation): \(fault.words)"
                #expect(failed.error.contains(line), "\(fault): \(failed.error)")
                #expect(try gateway.index() == index, "\(fault)")
                let report = try gateway.publish()
                #expect(report.removed.addresses == [SlapdInstance.address(number)], "\(fault)")
                #expect(report.added.count == 0, "\(fault)")
            }
        }

        /// TLS detects every corrupted byte.
        static let encrypted: [Fault] = [
            Fault("refused", .refuse, "TLS", ""), Fault("stalled", .stall, "TLS", silence),
            Fault("cut in the handshake", .cutAfter(.ofConnection(100)), "TLS", ""),
            Fault("stalled in the handshake", .stallAfter(.ofConnection(100)), "TLS", silence),
            Fault("corrupt handshake", .corrupt(at: .ofConnection(300)), "TLS", ""),
            Fault("cut in the entries", .cutAfter(.ofConnection(6_000)), "search", end),
            Fault("stalled in the entries", .stallAfter(.ofConnection(6_000)), "search", silence),
            Fault("corrupt entries", .corrupt(at: .ofConnection(6_000)), "search", ""),
        ]

        @Test("a failed sync over TLS reports one line and doesn't affect the next sync")
        func onceEncrypted() throws {
            let gateway = try gateway(tls: true)
            try gateway.publish()
            for (number, fault) in Self.encrypted.enumerated() {
                let index = try gateway.index()
                try slapd.delete(SlapdInstance.person(number))
                tlsProxy.set(fault.behaviour)
                let failed = try gateway.sync("--full")
                tlsProxy.set(.pass)
                #expect(failed.status == 75, "\(fault)")
                #expect(failed.messages.count == 1, "\(fault): \(failed.error)")
                let line = "postern: source \"directory\": \(tlsURI): \(fault.operation): \(fault.words)"
                #expect(failed.error.contains(line), "\(fault): \(failed.error)")
                #expect(try gateway.index() == index, "\(fault)")
                #expect(try gateway.publish().removed.addresses == [SlapdInstance.address(number)], "\(fault)")
            }
        }

        @Test("a corrupt byte neither crashes Postern nor damages the index, and a full read repairs the list")
        func corrupt() throws {
            let gateway = try gateway(["incremental": "\"off\"", "page_size": "10"])
            try gateway.publish()
            let size = proxy.counts.bytesFromServer
            var random = SeededGenerator.announced("corrupt")
            for _ in 0..<10 {
                let place = Int.random(in: 0..<size, using: &random)
                proxy.set(.corrupt(at: .ofConnection(place)), once: true)
                let run = try gateway.sync("--full")
                #expect([0, 1, 75].contains(run.status), "byte \(place): \(run.error)")
                #expect(try gateway.index() != nil, "byte \(place)")
            }
            proxy.set(.pass)
            try gateway.publish(["--full"])
            #expect(try gateway.listed((0..<30).map(SlapdInstance.address)).count == 30)
        }

        @Test("a filter that reads in pages keeps its list, reports why, and recovers")
        func pages() throws {
            let gateway = try gateway(interval: "1s", ["incremental": "\"off\"", "page_size": "10"])
            try gateway.serve()
            #expect(try gateway.comesToList([SlapdInstance.address(29)]))
            let faults: [FaultProxy.Behaviour] = [
                .cutWhen(.server, sends: Array("uid=person5,".utf8), forwarding: true),
                // Between two pages: with the first entry of the next, and in silence.
                .cutWhen(.server, sends: Array("uid=person10,".utf8), forwarding: false),
                .stallAfter(.ofConnection(4_000)), .slow(bytesPerSecond: 40),
            ]
            try survive(faults, gateway)
        }

        @Test(
            "a filter to which the server reports changes keeps its list, reports the failure, and recovers",
            arguments: [false, true])
        func persisting(tls: Bool) throws {
            let gateway = try gateway(tls: tls, interval: "1s")
            try gateway.serve()
            #expect(try gateway.comesToList([SlapdInstance.address(29)]))
            let faults: [FaultProxy.Behaviour] = [
                .cutAfter(.fromNow(60)), .stall, .refuse, .stallAfter(.fromNow(60)),
            ]
            try survive(tls ? Array(faults.prefix(2)) : faults, gateway, tls: tls)
            // What breaks once is mended before anybody would notice.
            let proxy = tls ? tlsProxy : proxy
            for (number, fault) in [FaultProxy.Behaviour.corrupt(at: .fromNow(0)), .cutAfter(.fromNow(40))].enumerated()
            {
                proxy.set(fault, once: true)
                try slapd.addPerson("once\(number)", mail: ["once\(number)@example.com"])
                #expect(try gateway.comesToList(["once\(number)@example.com"]), "\(gateway.messages)")
            }
            #expect(gateway.stop() == .exited(0))
        }

        /// Makes each fault happen to a running filter, and changes the directory during the fault.
        private func survive(_ faults: [FaultProxy.Behaviour], _ gateway: DirectoryGateway, tls: Bool = false) throws {
            let proxy = tls ? tlsProxy : proxy
            let uri = tls ? tlsURI : uri
            for (number, fault) in faults.enumerated() {
                let said = gateway.messages.count
                func news() -> Substring { gateway.messages.dropFirst(said) }
                let new = "new\(number)@example.com"
                proxy.set(fault)
                if case .refuse = fault { proxy.cutAll() }
                try slapd.addPerson("new\(number)", mail: [new])
                try slapd.delete(SlapdInstance.person(number))
                let isSaid = eventually(within: 30) { news().contains("sync: source \"directory\": \(uri): ") }
                #expect(isSaid, "\(fault): \(news())")
                let errors = news().split(separator: "\n").filter {
                    $0.contains("sync: source \"directory\": \(uri): ")
                }
                #expect(errors.count <= 2, "\(fault): \(news())")
                #expect(
                    try gateway.listed([new, SlapdInstance.address(number), SlapdInstance.address(29)]).count == 2,
                    "\(fault)")
                #expect(gateway.postern?.isRunning == true, "\(fault)")
                proxy.set(.pass)
                #expect(
                    try gateway.comesToList([new], not: [SlapdInstance.address(number)], within: 30),
                    "\(fault): \(news())")
                #expect(eventually(within: 10) { news().contains("sync: recovered") }, "\(fault): \(news())")
            }
        }
    }
}
