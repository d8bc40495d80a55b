import Foundation
import GRDB
import Glibc
import TestSupport
import Testing

/// Files, standard error and ports of the filter are broken: it still judges recipients.
extension FilterAlone {
    @Suite(.serialized) struct FaultyMachineTests {
        private func expectJudgement(
            _ filter: LoneFilter, _ place: SourceLocation = #_sourceLocation
        ) throws {
            #expect(try filter.answer("anna@example.com") == "250", sourceLocation: place)
            #expect(try filter.answer("nobody@example.com") == "550", sourceLocation: place)
            #expect(try filter.answer("x@elsewhere.test") == "554", sourceLocation: place)
        }

        /// The lines of `postern status` that say what is wrong.
        private func troubles(_ filter: LoneFilter) throws -> [String] {
            let status = try filter.configuration.run(["status"])
            return status.output.split(separator: "\n").filter { $0.hasPrefix("! ") }.map(String.init)
        }

        private func refusals(_ filter: LoneFilter) throws -> Int { try filter.report().totals.refused }

        // MARK: The log

        /// What can be wrong with the log's file when the filter starts.
        enum LogFault: String, CaseIterable {
            case garbage, zeros, truncated, newer, foreign

            func inflict(on path: String) throws {
                for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
                let url = URL(fileURLWithPath: path)
                switch self {
                case .garbage: try Data((0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) }).write(to: url)
                case .zeros: try Data(count: 20_000).write(to: url)
                case .truncated: #expect(truncate(path, 5_000) == 0)
                case .newer:
                    try DatabaseQueue(path: path).write { try $0.execute(sql: "PRAGMA user_version = 99") }
                case .foreign:
                    unlink(path)
                    try DatabaseQueue(path: path).write {
                        try $0.execute(sql: "CREATE TABLE precious (x); PRAGMA application_id = 4711")
                    }
                }
            }

            /// Whether Postern begins a new log in its place.
            var isReplaced: Bool { self != .newer && self != .foreign }
        }

        @Test("the filter starts with a log that can't be used", arguments: LogFault.allCases)
        func logThatIsUnusable(_ fault: LogFault) throws {
            let filter = try LoneFilter()
            let path = filter.workspace.file("rejections.sqlite")
            try expectJudgement(filter)
            var before = Data()
            try filter.restart {
                try fault.inflict(on: path)
                before = try Data(contentsOf: URL(fileURLWithPath: path))
            }
            try expectJudgement(filter)
            if fault.isReplaced {
                #expect(eventually(within: 30) { (try? refusals(filter)) == 2 })
                let copies = try FileManager.default.contentsOfDirectory(atPath: filter.workspace.path)
                    .filter { $0.hasPrefix("rejections.sqlite.damaged-") }
                #expect(copies.contains { !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") }, "\(copies)")
                #expect(filter.postern.messages.contains("rejections.sqlite.damaged-"))
                #expect(try troubles(filter) == [])
            } else {
                let lines = try troubles(filter)
                #expect(lines.count == 1 && lines[0].hasPrefix("! ") && lines[0].contains(path), "\(lines)")
                #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
                // Logging resumes once the file is gone, and no rejection is lost.
                #expect(rename(path, path + ".away") == 0)
                #expect(eventually(within: 60) { (try? refusals(filter)) == 2 })
                #expect(try eventually(within: 30) { try troubles(filter) == [] })
            }
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("a full disk loses log rows until there is space, but no counts", .enabled(if: geteuid() == 0))
        func fullDisk() throws {
            let filter = try LoneFilter {
                try $0.workspace.mountMemory("small", "size=400k")
                $0.values["log.database"] = "\"small/rejections.sqlite\""
            }
            try filter.restart {
                // Before the filter has a chance to make its file.
                for name in ["rejections.sqlite", "rejections.sqlite-wal", "rejections.sqlite-shm"] {
                    unlink(filter.workspace.file("small/\(name)"))
                }
                let stuffing = open(filter.workspace.file("small/stuffing"), O_WRONLY | O_CREAT, 0o600)
                let bytes = [UInt8](repeating: 1, count: 4096)
                while write(stuffing, bytes, bytes.count) > 0 {}
                close(stuffing)
            }
            try expectJudgement(filter)
            let lines = try troubles(filter)
            #expect(lines.contains { $0.contains("rejections.sqlite") }, "\(lines)")
            unlink(filter.workspace.file("small/stuffing"))
            #expect(eventually(within: 90) { (try? refusals(filter)) == 2 })
            #expect(try eventually(within: 30) { try troubles(filter) == [] })
        }

        @Test(
            "the filter runs with a log in a folder that is read-only or missing", .enabled(if: geteuid() == 0),
            arguments: [true, false])
        func folderOfTheLog(_ exists: Bool) throws {
            let filter = try LoneFilter {
                try $0.workspace.mountMemory("readonly", "size=4m")
                $0.values["log.database"] = "\"readonly/rejections.sqlite\""
            }
            let folder = filter.workspace.file("readonly")
            try filter.restart {
                try filter.workspace.remount("readonly", "ro")
                if !exists {
                    #expect(umount2(folder, Int32(MNT_DETACH)) == 0)
                    #expect(rmdir(folder) == 0)
                }
            }
            try expectJudgement(filter)
            // The running filter still answers, through its abstract socket.
            let lines = try troubles(filter)
            #expect(lines.contains { $0.contains("rejections.sqlite") && $0.contains("log") }, "\(lines)")
            #expect(!lines.contains { $0.contains("no filter is running") }, "\(lines)")
            if exists {
                try filter.workspace.remount("readonly", "rw")
            } else {
                try filter.workspace.makeFolder("readonly")
            }
            #expect(eventually(within: 90) { (try? refusals(filter)) == 2 })
            #expect(try eventually(within: 60) { try troubles(filter) == [] })
            // The files for reload and status are there again, too.
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
        }

        // MARK: The sync state

        @Test("the filter starts with a sync state that can't be used", arguments: LogFault.allCases)
        func stateThatIsUnusable(_ fault: LogFault) throws {
            let filter = try LoneFilter { $0.values["sync.interval"] = "\"1s\"" }
            let path = filter.workspace.file("sync.sqlite")
            var before = Data()
            try filter.restart {
                try fault.inflict(on: path)
                before = try Data(contentsOf: URL(fileURLWithPath: path))
            }
            try expectJudgement(filter)
            if !fault.isReplaced {
                #expect(try eventually(within: 30) { try troubles(filter).contains { $0.contains(path) } })
                #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
                #expect(rename(path, path + ".away") == 0)
            }
            // The sync mends itself: a new recipient comes in.
            try filter.configuration.list(PosternConfiguration.listed + ["new@example.com"])
            #expect(try eventually(within: 60) { try filter.answer("new@example.com") == "250" })
            #expect(try eventually(within: 60) { try troubles(filter) == [] })
            try expectJudgement(filter)
        }

        @Test("the filter runs with its state and index in a read-only folder", .enabled(if: geteuid() == 0))
        func folderOfTheState() throws {
            let filter = try LoneFilter {
                try $0.workspace.mountMemory("readonly", "size=4m")
                $0.values["sync.state"] = "\"readonly/sync.sqlite\""
                $0.values["index.path"] = "\"readonly/recipients.index\""
                $0.values["sync.interval"] = "\"1s\""
            }
            try filter.restart { try filter.workspace.remount("readonly", "ro") }
            try expectJudgement(filter)
            try filter.configuration.list(PosternConfiguration.listed + ["new@example.com"])
            #expect(try eventually(within: 30) { try troubles(filter).contains { $0.contains("sync.sqlite") } })
            #expect(try filter.answer("new@example.com") == "550")
            try filter.workspace.remount("readonly", "rw")
            #expect(try eventually(within: 60) { try filter.answer("new@example.com") == "250" })
            #expect(try eventually(within: 30) { try troubles(filter) == [] })
        }

        // MARK: Standard error

        @Test(
            "the filter runs with a standard error that is full, closed or without a reader",
            arguments: ["full", "closed", "gone"])
        func standardErrorThatFails(_ kind: String) throws {
            let filter = try LoneFilter { $0.values["log.lines"] = "true" }
            #expect(filter.postern.stop() == .exited(0))
            switch kind {
            case "full": try filter.restart(standardError: "/dev/full")
            case "closed": try filter.restart(launcher: ["/bin/sh", "-c", "exec \"$@\" 2>&-", "sh"])
            default:
                // A pipe whose reader ends at once.
                try filter.restart(
                    launcher: ["/bin/bash", "-c", "exec \"$@\" 2> >(exec true); sleep 0.2", "bash"])
            }
            for _ in 0..<20 { try expectJudgement(filter) }
            #expect(try troubles(filter).contains { $0.contains("standard error") })
            #expect(filter.postern.stop() == .exited(0))
            try filter.restart()
            #expect(try refusals(filter) == 40)
        }

        @Test("a standard error that nobody reads delays neither answers nor the filter's end")
        func standardErrorThatNobodyReads() throws {
            let filter = try LoneFilter { $0.values["log.lines"] = "true" }
            #expect(filter.postern.stop() == .exited(0))
            let pipe = filter.workspace.file("messages")
            #expect(mkfifo(pipe, 0o600) == 0)
            // Both ends, so that the filter can open it and never reads the end of it.
            let ends = open(pipe, O_RDWR | O_NONBLOCK)
            defer { close(ends) }
            let bytes = [UInt8](repeating: 0x78, count: 4096)
            while write(ends, bytes, bytes.count) > 0 {}
            try filter.restart(standardError: pipe)
            for _ in 0..<100 { try expectJudgement(filter) }
            #expect(try eventually(within: 20) { try troubles(filter).contains { $0.contains("standard error") } })
            filter.postern.signal(SIGTERM)
            // The filter promises five seconds; the rest is for a busy machine.
            #expect(filter.postern.ending(within: 15) == .exited(0))
        }

        @Test("a command does its work though it can't write its messages")
        func standardErrorOfCommands() throws {
            let filter = try LoneFilter()
            let faulty = try filter.workspace.write("[milter]\nsockets = 1\n", to: "faulty.toml")
            for redirection in ["2>/dev/full", "2>&-"] {
                let result = try filter.workspace.run(
                    "/bin/sh",
                    [
                        "-c", "\"$1\" config check --config \"$2\" \(redirection)", "sh", PosternProcess.executable,
                        faulty,
                    ])
                #expect(result.ending == .exited(78))
            }
        }

        // MARK: HTTP

        @Test("the filter judges while its HTTP port is in use, and tries the port again")
        func portThatIsTaken() throws {
            let port = try Ports.unused()
            let other = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            #expect(Ports.withLoopback("127.0.0.1", port) { bind(other, $0, $1) } == 0)
            #expect(listen(other, 1) == 0)
            let filter = try LoneFilter { $0.values["http.listen"] = "\"127.0.0.1:\(port)\"" }
            try expectJudgement(filter)
            let lines = try troubles(filter)
            #expect(lines.count == 1 && lines[0].contains("http") && lines[0].contains("\(port)"), "\(lines)")
            close(other)
            #expect(try eventually(within: 60) { try troubles(filter) == [] })
            #expect(Ports.answers(port))
        }

        // MARK: The end

        @Test("SIGTERM ends the filter while its sync waits in a TLS handshake")
        func endDuringAHandshake() throws {
            let port = try Ports.unused()
            let silent = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(silent) }
            #expect(Ports.withLoopback("127.0.0.1", port) { bind(silent, $0, $1) } == 0)
            #expect(listen(silent, 8) == 0)
            let filter = try LoneFilter()
            filter.configuration.rest += """
                [[source]]
                name = "directory"
                type = "ldap"
                uris = ["ldaps://127.0.0.1:\(port)"]
                bases = ["dc=example"]
                verify_certificate = false

                """
            try filter.configuration.write()
            try filter.restart {}
            // The handshake has begun when the client's first message is there.
            let client = accept(silent, nil, nil)
            defer { close(client) }
            var byte: UInt8 = 0
            #expect(recv(client, &byte, 1, Int32(MSG_PEEK)) == 1)
            try expectJudgement(filter)
            filter.postern.signal(SIGTERM)
            #expect(filter.postern.ending(within: 15) == .exited(0))
        }
    }
}

extension Integration {
    @Suite struct BrokenSurroundingsTests {
        @Test("Postfix gets verdicts while log, state, standard error and HTTP are all broken")
        func everythingAtOnce() throws {
            let port = try Ports.unused()
            let other = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(other) }
            #expect(Ports.withLoopback("127.0.0.1", port) { bind(other, $0, $1) } == 0)
            #expect(listen(other, 1) == 0)
            let gateway = try Gateway {
                try $0.workspace.mountMemory("small", "size=400k")
                $0.values["log.database"] = "\"small/rejections.sqlite\""
                $0.values["log.lines"] = "true"
                $0.values["http.listen"] = "\"127.0.0.1:\(port)\""
            }
            #expect(gateway.postern.stop() == .exited(0))
            try DatabaseQueue(path: gateway.workspace.file("sync.sqlite"))
                .write { try $0.execute(sql: "PRAGMA user_version = 99") }
            try gateway.workspace.remount("small", "ro")
            try gateway.restartPostern(standardError: "/dev/full")

            let client = try gateway.client()
            let replies = try ["anna@example.com", "nobody@example.com", "x@elsewhere.test"].map {
                try client.recipient($0).code
            }
            #expect(replies == [250, 550, 554])
            var output = ""
            let isComplete = try eventually(within: 30) {
                output = try gateway.configuration.run(["status"]).output
                let lines = output.split(separator: "\n").filter { $0.hasPrefix("! ") }
                return ["log", "state", "http", "messages"].allSatisfy { part in
                    lines.contains { $0.contains(part) && $0.contains("; ") }
                }
            }
            #expect(isComplete, "\(output)")
            #expect(gateway.postern.stop() == .exited(0))
        }
    }
}
