import Foundation
import Glibc
import TestSupport
import Testing

extension Directories {
    /// Syncs that are killed, and two syncs at the same time.
    @Suite(DirectoryRequirements.slapd) struct DirectoryCrashTests {
        private let workspace: Workspace

        init() throws { workspace = try Workspace() }

        private func slapd(people: Int) throws -> SlapdInstance {
            var options = SlapdOptions()
            options.contentSync = .on(sessionLog: 10_000)
            options.people = people
            return try SlapdInstance(in: workspace, options)
        }

        @Test(
            "after kill -9 at any moment of 200 syncs the index is sound, and the next sync agrees with the directory")
        func killed() throws {
            let slapd = try slapd(people: 200)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd)])
            // As long as a sync takes on this machine now, so that every moment of it may be the last.
            let began = ContinuousClock.now
            try gateway.publish()
            let duration = (ContinuousClock.now - began) / .microseconds(1)
            let longest = min(1_000_000, max(120_000, UInt32(duration * 1.1)))
            var random = SeededGenerator.announced("killed syncs")
            var people = Dictionary(uniqueKeysWithValues: (0..<200).map { ($0, SlapdInstance.address($0)) })
            var everybody = Set(people.values)
            var killed = 0
            for round in 0..<200 {
                var ldif = ""
                for _ in 0..<3 {
                    let number = Int.random(in: 0..<300, using: &random)
                    let dn = SlapdInstance.person(number)
                    let address = "p\(number).\(round)@example.com"
                    if people[number] == nil {
                        ldif += SlapdInstance.person("person\(number)", mail: [address])
                        people[number] = address
                    } else if Bool.random(using: &random) {
                        ldif += "dn: \(dn)\nchangetype: modify\nreplace: mail\nmail: \(address)\n\n"
                        people[number] = address
                    } else {
                        ldif += "dn: \(dn)\nchangetype: delete\n\n"
                        people[number] = nil
                    }
                }
                everybody.formUnion(people.values)
                try slapd.add(ldif)
                let full = Int.random(in: 0..<4, using: &random) == 0 ? ["--full"] : []
                let sync = try ChildProcess(
                    PosternProcess.executable, ["sync", "--once", "--config", workspace.file("postern.toml")] + full,
                    output: "/dev/null", error: workspace.file("killed.err"))
                usleep(UInt32.random(in: 0..<longest, using: &random))
                sync.signal(SIGKILL)
                if sync.wait() == .killed(signal: SIGKILL) { killed += 1 }
                let verified = try gateway.configuration.run(["index", "verify"])
                #expect(verified.ending == .exited(0), "round \(round): \(verified.error)")
                if round % 20 == 19 {
                    try gateway.publish(["--accept-shrink"])
                    #expect(try gateway.listed(Array(everybody)) == Set(people.values), "round \(round)")
                }
            }
            print("killed syncs: \(killed) of 200 before they ended")
            #expect(killed > 20)
            let said = workspace.text(of: "killed.err").split(separator: "\n")
            #expect(said.allSatisfy { $0.hasPrefix("postern: note: ") }, "\(said)")
            let report = try gateway.publish(["--full"])
            #expect(report.outcome != "published", "the last sync had read all changes")
        }

        @Test("of two syncs on one state, the second names the process of the first")
        func twoAtOnce() throws {
            let slapd = try slapd(people: 10)
            let gateway = try DirectoryGateway(in: workspace, [.slapd(slapd, ["timeout": "\"30s\""])])
            try gateway.publish()
            slapd.pause()
            let first = try ChildProcess(
                PosternProcess.executable, ["sync", "--once", "--config", workspace.file("postern.toml")],
                output: workspace.file("first.out"), error: workspace.file("first.err"))
            #expect(eventually(within: 20) { workspace.text(of: "sync.sqlite.lock") == "\(first.pid)\n" })
            let second = try gateway.sync()
            #expect(second.status == 75)
            #expect(second.messages.count == 1)
            #expect(
                second.error.contains(
                    "another sync (process \(first.pid)) works on \(workspace.file("sync.sqlite")); try again"),
                "\(second.error)")
            slapd.resume()
            #expect(first.wait(atMost: 30) == .exited(0), "\(workspace.text(of: "first.err"))")
            #expect(try gateway.publish().reading == "unchanged")
        }
    }
}
