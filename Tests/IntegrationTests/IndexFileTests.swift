import Foundation
import Glibc
import RecipientIndex
import TestSupport
import Testing

extension FilterAlone {
    /// Changes to the index file while the filter answers from it.
    @Suite struct IndexFileTests {
        private static let count = 60_000

        /// A snapshot of so many recipients of a name.
        private static func makeIndex(
            _ path: String, _ name: String, generation: UInt64, count: Int = count, created: Date = Date()
        ) throws {
            var builder = IndexBuilder()
            for number in 0..<count { builder.add("\(name)\(number)@example.com") }
            _ = try builder.publish(to: path, created: created, generation: generation, sources: [])
        }

        /// Whether recipients of this name are listed and those of the other aren't, all over the table.
        private static func judges(_ connection: MTAConnection, _ name: String, not other: String) throws -> Bool {
            for number in stride(from: 0, to: count, by: 301) {
                guard try connection.answer("\(name)\(number)@example.com") == "250",
                    try connection.answer("\(other)\(number)@example.com") == "550"
                else { return false }
            }
            return true
        }

        /// Writes over the file as it is, like cp, scp and rsync --inplace.
        private static func overwrite(_ path: String, with bytes: Data, cutOff: Bool = true) throws {
            let descriptor = open(path, O_WRONLY | (cutOff ? O_TRUNC : 0))
            try #require(descriptor >= 0)
            defer { close(descriptor) }
            var written = 0
            while written < bytes.count {
                let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                try #require(count > 0)
                written += count
            }
        }

        @Test("the filter reports a damaged index file, keeps its index, and takes the next valid one")
        func disturbed() throws {
            let filter = try LoneFilter {
                $0.rest = ""
                try Self.makeIndex($0.workspace.file("recipients.index"), "old", generation: 1)
                try Self.makeIndex($0.workspace.file("other.index"), "new", generation: 2)
            }
            let path = filter.workspace.file("recipients.index")
            let sound = try Data(contentsOf: URL(fileURLWithPath: path))
            let other = try Data(contentsOf: URL(fileURLWithPath: filter.workspace.file("other.index")))
            let garbage = Data((0..<sound.count).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            let connection = try filter.connection()
            #expect(try Self.judges(connection, "old", not: "new"))
            let disturbances: [(String, () throws -> Void)] = [
                ("overwritten", { try Self.overwrite(path, with: garbage, cutOff: false) }),
                ("copied over", { try Self.overwrite(path, with: Data(garbage.dropLast(1_000))) }),
                (
                    "a damaged copy",
                    { try Self.overwrite(path, with: sound.prefix(300_000) + garbage.dropFirst(300_000)) }
                ),
                ("cut off", { try #require(truncate(path, 100_000) == 0) }),
                ("emptied", { try #require(truncate(path, 0) == 0) }),
                ("deleted", { try #require(unlink(path) == 0) }),
            ]
            for (place, (name, disturb)) in disturbances.enumerated() {
                try disturb()
                #expect(try Self.judges(connection, "old", not: "new"), "\(name)")
                let told = {
                    filter.postern.messages.components(separatedBy: "index: the index in use stays: \(path)").count - 1
                }
                #expect(eventually(within: 30) { told() == place + 1 }, "\(name): \(filter.postern.messages)")
                #expect(try Self.judges(connection, "old", not: "new"), "\(name)")
                #expect(try Self.judges(filter.connection(), "old", not: "new"), "\(name)")
            }
            // Some of it each time, as over a slow line.
            try Data().write(to: URL(fileURLWithPath: path))
            let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
            for start in stride(from: 0, to: other.count, by: other.count / 4) {
                #expect(try Self.judges(connection, "old", not: "new"), "\(start) bytes")
                try file.write(contentsOf: other[start..<min(start + other.count / 4, other.count)])
            }
            try file.close()
            #expect(try eventually(within: 30) { try connection.answer("new0@example.com") == "250" })
            #expect(try Self.judges(connection, "new", not: "old"))
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("an older index is rejected, in one message and in status, until a reload or a restart accepts it")
        func older() throws {
            let filter = try LoneFilter {
                $0.rest = ""
                try Self.makeIndex($0.workspace.file("recipients.index"), "new", generation: 7, count: 10)
            }
            func put(_ name: String, generation: UInt64) throws {
                try Self.makeIndex(filter.workspace.file("copy"), name, generation: generation, count: 10)
                try #require(rename(filter.workspace.file("copy"), filter.workspace.file("recipients.index")) == 0)
            }
            let connection = try filter.connection()
            try put("old", generation: 6)
            let line = "generation 7"
            #expect(eventually(within: 30) { filter.postern.messages.contains(line) }, "\(filter.postern.messages)")
            #expect(filter.postern.messages.contains("postern reload --accept-older"))
            #expect(
                try connection.answer("new1@example.com") == "250" && connection.answer("old1@example.com") == "550")
            let status = try filter.configuration.run(["status"])
            #expect(status.ending == .exited(1))
            #expect(status.output.contains("older than generation 7"), "\(status.output)")
            // A plain reload doesn't accept it.
            #expect(try filter.configuration.run(["reload"]).ending == .exited(0))
            #expect(try connection.answer("old1@example.com") == "550")
            #expect(try filter.configuration.run(["reload", "--accept-older"]).ending == .exited(0))
            #expect(try eventually(within: 30) { try connection.answer("old1@example.com") == "250" })
            #expect(try filter.configuration.run(["status"]).ending == .exited(0))
            try put("older", generation: 5)
            #expect(
                eventually(within: 30) { filter.postern.messages.contains("generation 6") },
                "\(filter.postern.messages)")
            #expect(try connection.answer("older1@example.com") == "550")
            try filter.restart {}
            #expect(try filter.answer("older1@example.com") == "250")
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("the filter takes an index that is dated in the future, and reports it")
        func future() throws {
            let filter = try LoneFilter {
                $0.rest = ""
                $0.values["policy.index_stale"] = "\"tempfail\""
                try Self.makeIndex(
                    $0.workspace.file("recipients.index"), "new", generation: 1, count: 10,
                    created: Date() + 3 * 86_400 + 60)
            }
            #expect(try filter.answer("new1@example.com") == "250")
            #expect(try filter.answer("nobody@example.com") == "451")
            #expect(filter.postern.messages.contains("generation 1 is dated 3 days in the future"))
            let status = try filter.configuration.run(["status"])
            #expect(status.ending == .exited(1))
            #expect(status.output.contains("the index is dated 3 days in the future"), "\(status.output)")
            for command in [["index", "info"], ["check", "new1@example.com"], ["report"]] {
                let output = try filter.configuration.run(command).output
                #expect(output.contains("dated 3 days in the future"), "\(command): \(output)")
            }
            // Status shows no other problem.
            #expect(try !filter.configuration.run(["report", "--skip-empty"]).output.isEmpty)
            try Self.makeIndex(filter.workspace.file("recipients.index"), "new", generation: 2, count: 10)
            #expect(try eventually(within: 30) { try filter.configuration.run(["status"]).ending == .exited(0) })
            #expect(try eventually(within: 30) { try filter.answer("nobody@example.com") == "550" })
            let quiet = try filter.configuration.run([
                "report", "--skip-empty", "--until", "2001-01-01", "--since", "2000-01-01",
            ])
            #expect(quiet.ending == .exited(0) && quiet.output.isEmpty, "\(quiet.output)\(quiet.error)")
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("idle sessions keep no snapshot: at most two are in memory")
        func idleSessions() throws {
            let filter = try LoneFilter {
                $0.rest = ""
                try Self.makeIndex($0.workspace.file("0.index"), "old", generation: 1, count: 400_000)
                try Self.makeIndex($0.workspace.file("1.index"), "new", generation: 1, count: 400_000)
                try FileManager.default.copyItem(
                    atPath: $0.workspace.file("0.index"), toPath: $0.workspace.file("recipients.index"))
            }
            let path = filter.workspace.file("recipients.index")
            let sessions = try (0..<40).map { _ in try filter.connection() }
            let process = "/proc/\(filter.postern.pid)"
            let size = try #require(
                FileManager.default.attributesOfItem(atPath: path)[.size] as? Int, "the index has no size")
            // A snapshot's memory is of no file, for reading only, and as long as the file without its header and its checksums.
            func snapshots() throws -> Int {
                let maps = try procFile("\(process)/maps")
                let sizes = maps.matches(of: /(?m)^([0-9a-f]+)-([0-9a-f]+) r--p 0+ 00:00 0 *$/).compactMap { match in
                    Int(match.2, radix: 16).flatMap { end in Int(match.1, radix: 16).map { end - $0 } }
                }
                return sizes.count { (size - 16_384...size).contains($0) }
            }
            for session in sessions { #expect(try session.answer("old7@example.com") == "250") }
            #expect(try snapshots() == 1)
            var most = 0
            for (place, session) in sessions.enumerated() {
                let copy = filter.workspace.file("copy")
                try FileManager.default.copyItem(
                    atPath: filter.workspace.file("\((place + 1) % 2).index"), toPath: copy)
                try #require(rename(copy, path) == 0)
                let name = place.isMultiple(of: 2) ? "new" : "old"
                // The others have asked before, and stay idle.
                #expect(try eventually(within: 30) { try session.answer("\(name)7@example.com") == "250" })
                most = max(most, try snapshots())
            }
            #expect((1...2).contains(most))
            #expect(try eventually(within: 30) { try snapshots() == 1 })
            let maps = try procFile("\(process)/maps")
            #expect(!maps.contains("recipients.index"))
            let open = try FileManager.default.contentsOfDirectory(atPath: "\(process)/fd").compactMap {
                try? FileManager.default.destinationOfSymbolicLink(atPath: "\(process)/fd/\($0)")
            }
            let deleted = open.filter { $0.contains("(deleted)") && !$0.hasPrefix("/memfd:milter ") }
            #expect(deleted == [] && !open.contains { $0.contains("recipients.index") }, "\(open)")
            #expect(filter.postern.stop() == .exited(0))
        }

        @Test("replies that the tarpit holds back don't delay a new index")
        func heldBack() throws {
            let filter = try LoneFilter {
                $0.rest = ""
                $0.values["harvest.tarpit"] = "\"8s\""
                try Self.makeIndex($0.workspace.file("0.index"), "old", generation: 1, count: 10)
                try Self.makeIndex($0.workspace.file("1.index"), "new", generation: 1, count: 10)
                try FileManager.default.copyItem(
                    atPath: $0.workspace.file("0.index"), toPath: $0.workspace.file("recipients.index"))
            }
            func areHeld() throws -> Bool {
                try filter.configuration.run(["status", "--format", "json"]).output.contains(/"held"\s*:\s*3\b/)
            }
            // Nobody can be held for longer than 8 s, which a busy machine may take to look: then once more.
            var wereHeld = false
            for round in 1...10 where !wereHeld {
                let held = try (0..<3).map { _ in try filter.connection() }
                for connection in held { connection.send("R", ["<nobody@example.com>"]) }
                _ = try eventually(within: 5) { try areHeld() }
                let copy = filter.workspace.file("copy")
                try FileManager.default.copyItem(atPath: filter.workspace.file("\(round % 2).index"), toPath: copy)
                try #require(rename(copy, filter.workspace.file("recipients.index")) == 0)
                let name = round.isMultiple(of: 2) ? "old" : "new"
                #expect(
                    try eventually(within: 30) { try filter.answer("\(name)2@example.com", from: "127.0.0.1") == "250" }
                )
                wereHeld = try areHeld()
                if !wereHeld { for connection in held { _ = connection.receive() } }
            }
            #expect(wereHeld)
            #expect(filter.postern.stop() == .exited(0))
        }
    }
}
