import Foundation
import Glibc
import Synchronization
import System
import TestSupport
import Testing

extension FilterAlone {
    @Suite struct ReloadTests {
        /// What makes the filter read its configuration again.
        enum Way: String, CaseIterable {
            case signal, command, change
        }

        /// Writes the configuration and has it read by one of the ways; waits until the filter says that it is.
        private func reload(_ filter: LoneFilter, by way: Way, saying text: String = "reload: in force") throws {
            let before = filter.postern.messages.components(separatedBy: text).count
            try filter.configuration.write()
            switch way {
            case .signal: filter.postern.signal(SIGUSR1)
            case .command: _ = try filter.configuration.run(["reload"])
            case .change: break
            }
            let isDone = eventually(within: 30) { filter.postern.messages.components(separatedBy: text).count > before }
            guard isDone else { throw TestFailure("no \"\(text)\" in: \(filter.postern.messages)") }
        }

        @Test("an open session uses the new configuration from its next recipient on", arguments: Way.allCases)
        func newPolicy(way: Way) throws {
            let filter = try LoneFilter {
                if way == .change { $0.values["milter.reload"] = "\"auto\"" }
                $0.values["relay.domains_from"] = "[\"more_domains\"]"
                try $0.workspace.write("example.info relay\n", to: "more_domains")
            }
            let connection = try filter.connection()
            #expect(try connection.answer("nobody@example.com") == "550")
            #expect(try connection.answer("postmaster@example.biz") == "554")

            try filter.workspace.write("example.info relay\nexample.biz relay\n", to: "more_domains")
            filter.configuration.values["policy.mode"] = "\"observe\""
            try reload(filter, by: way)
            #expect(try connection.answer("nobody@example.com") == "250")
            #expect(try connection.answer("postmaster@example.biz") == "250")
            #expect(try filter.answer("nobody@example.com") == "250")

            // A faulty configuration changes nothing, and the filter reports its faults.
            filter.configuration.values["policy.mode"] = "\"enforced\""
            filter.configuration.values["harvest.limit"] = "-1"
            if way == .command {
                // The command finds the faults first, and leaves the filter alone.
                try filter.configuration.write()
                #expect(try filter.configuration.run(["reload"]).ending == .exited(78))
            } else {
                try reload(filter, by: way, saying: "reload: refused; the former configuration stays in force")
                #expect(filter.postern.messages.contains("policy.mode: \"enforced\" is not known"))
                #expect(filter.postern.messages.contains("harvest.limit: -1 is out of range"))
            }
            #expect(try connection.answer("nobody@example.com") == "250")

            filter.configuration.values["policy.mode"] = "\"enforce\""
            filter.configuration.values["harvest.limit"] = "0"
            try reload(filter, by: way)
            #expect(try connection.answer("nobody@example.com") == "550")
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("with reload = \"auto\", a changed table of domains takes effect")
        func changedTable() throws {
            let filter = try LoneFilter {
                $0.values["milter.reload"] = "\"auto\""
                $0.values["relay.domains_from"] = "[\"more_domains\"]"
                try $0.workspace.write("example.info relay\n", to: "more_domains")
            }
            let connection = try filter.connection()
            #expect(try connection.answer("postmaster@example.biz") == "554")
            try filter.workspace.write("example.info relay\nexample.biz relay\n", to: "more_domains")
            let isTaken = try eventually(within: 30) { try connection.answer("postmaster@example.biz") == "250" }
            #expect(isTaken)
        }

        @Test("without reload = \"auto\", a changed configuration waits for a reload")
        func notByItself() throws {
            let filter = try LoneFilter()
            filter.configuration.values["policy.mode"] = "\"observe\""
            try filter.configuration.write()
            // Longer than an automatic reload takes: two looks and a second of rest.
            sleep(3)
            #expect(try filter.answer("nobody@example.com") == "550")
            #expect(!filter.postern.messages.contains("reload:"))
        }

        @Test("postern reload reports its result")
        func command() throws {
            let filter = try LoneFilter()
            let taken = try filter.configuration.run(["reload"])
            #expect(taken.ending == .exited(0), "\(taken.error)")
            #expect(
                taken.output == "process \(filter.postern.pid): in force: 3 relay domains, 1 source\n")

            filter.configuration.values["policy.mode"] = "\"enforced\""
            try filter.configuration.write()
            let refused = try filter.configuration.run(["reload"])
            #expect(refused.ending == .exited(78))
            #expect(refused.error.contains("policy.mode: \"enforced\" is not known"))

            // What one of the two finds sound the other may not: the filter reads its own file.
            filter.configuration.values["policy.mode"] = "\"enforce\""
            try filter.configuration.write(to: "sound.toml")
            let disputed = try filter.configuration.run(["reload"], file: "sound.toml")
            #expect(disputed.ending == .exited(78))
            #expect(disputed.error.contains("policy.mode: \"enforced\" is not known"))
            #expect(disputed.error.contains("process \(filter.postern.pid) has refused the configuration"))
        }

        @Test("a reload names the keys that need a restart and applies the rest")
        func keysOfTheProcess() throws {
            let filter = try LoneFilter()
            let connection = try filter.connection()
            filter.configuration.values["milter.socket"] = "\"inet:\(try Ports.unused())@127.0.0.1\""
            filter.configuration.values["log.retention"] = "\"1d\""
            filter.configuration.values["index.path"] = "\"other.index\""
            filter.configuration.values["policy.mode"] = "\"observe\""
            try filter.configuration.write()
            let result = try filter.configuration.run(["reload"])
            #expect(result.ending == .exited(0), "\(result.error)")
            #expect(
                result.output.hasSuffix("; changes only with a restart: milter.socket, index.path, log.retention\n"),
                "\(result.output)")
            #expect(try connection.answer("nobody@example.com") == "250")
            #expect(try filter.answer("anna@example.com") == "250")
            // The sync thread goes on with the index that the filter reads.
            try filter.configuration.list(PosternConfiguration.listed + ["dora@example.com"])
            filter.configuration.values["policy.mode"] = "\"enforce\""
            try filter.configuration.write()
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            let isListed = try eventually(within: 30) { try connection.answer("dora@example.com") == "250" }
            #expect(isListed)
        }

        @Test("a reload adds and removes sources")
        func sources() throws {
            let filter = try LoneFilter()
            let connection = try filter.connection()
            #expect(try connection.answer("erik@example.net") == "550")
            try filter.workspace.write("erik@example.net\n", to: "guests")
            let people = filter.configuration.rest
            filter.configuration.rest += """
                [[source]]
                name = "guests"
                type = "file"
                format = "list"
                path = "guests"

                """
            try filter.configuration.write()
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            #expect(try eventually(within: 30) { try connection.answer("erik@example.net") == "250" })
            filter.configuration.rest = people
            try filter.configuration.write()
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            #expect(try eventually(within: 30) { try connection.answer("erik@example.net") == "550" })
            #expect(try connection.answer("anna@example.com") == "250")
        }

        @Test("domains keep their counters in the log when their order changes")
        func domainsInTheLog() throws {
            let filter = try LoneFilter { $0.values["relay.domains"] = "[\"example.com\", \"example.net\"]" }
            let connection = try filter.connection()
            #expect(try connection.answer("nobody@example.com") == "550")
            filter.configuration.values["relay.domains"] = "[\"example.info\", \"example.net\", \"example.com\"]"
            try filter.configuration.write()
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            for domain in ["example.com", "example.com", "example.net", "example.info"] {
                #expect(try connection.answer("nobody@\(domain)") == "550")
            }
            #expect(filter.postern.stop() == .exited(0))
            for (domain, count) in [("example.com", 3), ("example.net", 1), ("example.info", 1)] {
                #expect(try filter.report(["--domain", domain]).totals.refused == count, "\(domain)")
            }
        }

        @Test("postern reload fails without a filter, and a new filter replaces the socket of a killed one")
        func noFilter() throws {
            let workspace = try Workspace()
            let configuration = try PosternConfiguration(in: workspace)
            try configuration.write()
            let never = try configuration.run(["reload"])
            #expect(never.ending == .exited(69))
            #expect(never.error.contains("no filter is running"))

            let filter = try LoneFilter()
            filter.postern.signal(SIGKILL)
            #expect(filter.postern.ending() == .killed(signal: SIGKILL))
            #expect(FileManager.default.fileExists(atPath: filter.workspace.file("rejections.sqlite-status")))
            #expect(try filter.configuration.run(["reload"]).ending == .exited(69))
            try filter.restart()
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
        }

        @Test(
            "the control socket rejects other users",
            .enabled(if: getuid() == 0 && access("/usr/bin/setpriv", X_OK) == 0))
        func stranger() throws {
            let filter = try LoneFilter()
            let result = try filter.workspace.run(
                "/usr/bin/setpriv",
                [
                    "--reuid=65534", "--regid=65534", "--clear-groups", PosternProcess.executable, "reload", "--config",
                    filter.workspace.file("postern.toml"),
                ])
            #expect(result.ending == .exited(77), "\(result.error)")
            #expect(filter.postern.isRunning)
        }

        @Test("reloads and new indexes under load lose no session and no verdict")
        func underLoad() throws {
            let filter = try LoneFilter()
            let socket = filter.socket
            let isOver = Atomic<Bool>(false)
            let asked = Atomic<Int>(0)
            let wrong = Mutex<[String]>([])
            let clients = (0..<4).map { thread in
                NamedThread.start("client") {
                    do {
                        let connections = try (0..<10).map { _ in try MTAConnection.started(path: socket) }
                        while !isOver.load(ordering: .relaxed) {
                            for connection in connections {
                                for (recipient, answer) in [("anna@example.com", "250"), ("nobody@example.net", "550")]
                                {
                                    let given = try connection.answer(recipient)
                                    asked.add(1, ordering: .relaxed)
                                    if given != answer { wrong.withLock { $0.append("\(recipient): \(given)") } }
                                }
                            }
                        }
                    } catch {
                        wrong.withLock { $0.append("thread \(thread): \(error)") }
                    }
                }
            }
            defer { isOver.store(true, ordering: .relaxed) }
            for round in 0..<25 {
                filter.configuration.values["relay.domains"] =
                    round.isMultiple(of: 2)
                    ? "[\"example.net\", \"example.com\"]" : "[\"example.com\", \"example.org\", \"example.net\"]"
                filter.configuration.values["policy.mode"] = round % 5 == 4 ? "\"enforced\"" : "\"enforce\""
                try filter.configuration.list(PosternConfiguration.listed + ["guest\(round)@example.com"])
                try filter.configuration.write()
                filter.postern.signal(SIGUSR1)
                usleep(50_000)
            }
            filter.configuration.values["policy.mode"] = "\"enforce\""
            try filter.configuration.write()
            let before = asked.load(ordering: .relaxed)
            #expect(eventually(within: 30) { asked.load(ordering: .relaxed) > before + 1_000 })
            isOver.store(true, ordering: .relaxed)
            for client in clients { client.waitForEnd() }
            #expect(wrong.withLock { $0 }.isEmpty, "\(wrong.withLock { $0.prefix(5) })")
            #expect(filter.postern.stop() == .exited(0))
            let totals = try filter.report().totals
            #expect(totals.refused + totals.accepted == asked.load(ordering: .relaxed))
        }
    }
}
