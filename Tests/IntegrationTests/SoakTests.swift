import Foundation
import Glibc
import RecipientIndex
import Synchronization
import System
import TestSupport
import Testing

extension FilterAlone {
    /// Many connections for long while the index changes under them: `POSTERN_SOAK_RECIPIENTS=2000000
    /// POSTERN_SOAK_CONNECTIONS=1000` is the full size.
    @Suite struct SoakTests {
        /// What the load has seen.
        private final class Tally: Sendable {
            let asked = Atomic<Int>(0)
            let swungIn = Atomic<Int>(0)
            let swungOut = Atomic<Int>(0)
            let wrong = Mutex<[String]>([])
            let isOver = Atomic<Bool>(false)

            func complain(_ text: String) {
                wrong.withLock { if $0.count < 20 { $0.append(text) } }
            }
        }

        private enum Kind: Int, CaseIterable {
            case listed, unknown, foreign, swinging
        }

        private static let batch = 10

        /// A recipient of a kind: so many of each that no cache of a few holds them.
        private static func recipient(_ kind: Kind, _ number: Int) -> String {
            switch kind {
            case .listed: "listed\(number)@example.com"
            case .unknown: "nobody\(number)@example.com"
            case .foreign: "listed\(number)@example.info"
            case .swinging: "swinging\(number)@example.net"
            }
        }

        /// A snapshot with those who are always there, and every other time with those who come and go.
        private static func makeIndex(_ path: String, swinging: Bool) throws {
            var builder = IndexBuilder()
            for number in 0..<5_000 {
                builder.add(recipient(.listed, number), [])
                if swinging { builder.add(recipient(.swinging, number), []) }
            }
            _ = try builder.publish(to: path, sources: [])
        }

        private static func judge(_ code: String, _ kind: Kind, _ number: Int, _ tally: Tally) {
            switch (kind, code) {
            case (.listed, "250"), (.unknown, "550"), (.foreign, "554"): break
            case (.swinging, "250"): tally.swungIn.add(1, ordering: .relaxed)
            case (.swinging, "550"): tally.swungOut.add(1, ordering: .relaxed)
            default: tally.complain("\(recipient(kind, number)): \(code)")
            }
        }

        /// Asks for recipients over all connections in turn, a batch at a time on each.
        private static func load(_ connections: [MTAConnection], _ count: Int, seed: UInt64, _ tally: Tally) {
            var random = SeededGenerator(seed: seed)
            var asked = 0
            while asked < count {
                var expected: [[(Kind, Int)]] = []
                for connection in connections {
                    var bytes: [UInt8] = []
                    var batch: [(Kind, Int)] = []
                    for _ in 0..<Self.batch {
                        let number = random.next()
                        let kind = Kind.allCases[Int(number & 3)]
                        batch.append((kind, Int(number >> 8 % 5_000)))
                        bytes += MTAConnection.packet(
                            "R", MTAConnection.strings(["<\(recipient(kind, batch[batch.count - 1].1))>"]))
                    }
                    connection.write(bytes)
                    expected.append(batch)
                }
                for (connection, batch) in zip(connections, expected) {
                    for (kind, number) in batch {
                        guard let packet = connection.receive() else { return tally.complain("a session was lost") }
                        judge(packet.command == "c" ? "250" : String(packet.text.prefix(3)), kind, number, tally)
                        asked += 1
                        tally.asked.add(1, ordering: .relaxed)
                    }
                }
            }
        }

        private func status(_ filter: LoneFilter, _ field: String) throws -> Int {
            let text = try String(contentsOfFile: "/proc/\(filter.postern.pid)/status", encoding: .utf8)
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("\(field):") })
            return try #require(
                line.split(separator: " ").compactMap { Int($0) }.first ?? Int(line.split(separator: "\t")[1]))
        }

        private static let rounds = 8

        private func descriptors(_ filter: LoneFilter) throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/\(filter.postern.pid)/fd").count
        }

        @Test("replacing indexes and policies causes no wrong verdict, no lost session and no memory growth")
        func soak() throws {
            let recipients = Effort.value("POSTERN_SOAK_RECIPIENTS", usually: 240_000)
            let count = Effort.value("POSTERN_SOAK_CONNECTIONS", usually: 200)
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            limit.rlim_cur = limit.rlim_max
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)

            let filter = try LoneFilter {
                $0.rest = ""
                try Self.makeIndex($0.workspace.file("recipients.index"), swinging: false)
                try Self.makeIndex($0.workspace.file("out.index"), swinging: false)
                try Self.makeIndex($0.workspace.file("in.index"), swinging: true)
            }
            let tally = Tally()
            // The log opens its files with its first row.
            Self.load([try filter.connection()], 200, seed: 98, tally)
            usleep(500_000)
            let descriptorsBefore = try descriptors(filter)
            let socket = filter.socket
            let folder = filter.workspace.path
            let pid = filter.postern.pid
            var memory: [Int] = []
            let swapping = NamedThread.start("swapping") {
                var round = 0
                while !tally.isOver.load(ordering: .relaxed) {
                    round += 1
                    let source = "\(folder)/\(round.isMultiple(of: 2) ? "in" : "out").index"
                    guard let bytes = FileManager.default.contents(atPath: source),
                        (try? bytes.write(
                            to: URL(fileURLWithPath: "\(folder)/recipients.index"), options: .atomic)) != nil
                    else { return tally.complain("the index can't be written") }
                    if round.isMultiple(of: 10) { kill(pid, SIGUSR1) }
                    usleep(100_000)
                }
            }
            // In rounds, with connections that end and begin between them.
            for round in 0..<UInt64(Self.rounds) {
                onThreads(4) { thread in
                    do {
                        let connections = try (0..<(count / 4)).map { _ in try MTAConnection.started(path: socket) }
                        Self.load(
                            connections, recipients / (4 * Self.rounds), seed: round &* 4 &+ UInt64(thread), tally)
                    } catch {
                        tally.complain("\(error)")
                    }
                }
                memory.append(try status(filter, "VmRSS"))
            }
            // Small runs may be over before both kinds of index have been in force.
            let hasSwung = try eventually(within: 30) {
                Self.load([try filter.connection()], 200, seed: 99, tally)
                return tally.swungIn.load(ordering: .relaxed) > 0 && tally.swungOut.load(ordering: .relaxed) > 0
            }
            tally.isOver.store(true, ordering: .relaxed)
            swapping.waitForEnd()
            #expect(hasSwung)
            #expect(tally.wrong.withLock { $0 }.isEmpty, "\(tally.wrong.withLock { $0 })")
            // The first rounds fill pools; a session's state is a few kilobytes.
            let settled = try #require(memory[(Self.rounds / 2)..<(Self.rounds - 2)].max())
            let growth = try #require(memory.suffix(2).max()) - settled
            let allowed = Effort.value("POSTERN_SOAK_GROWTH", usually: 6_000)
            #expect(growth < allowed, "resident memory by round: \(memory) KiB")
            #expect(try eventually(within: 30) { try descriptors(filter) <= descriptorsBefore })
            print("soak: \(tally.asked.load(ordering: .relaxed)) recipients, resident memory by round: \(memory) KiB")
            #expect(filter.postern.stop() == .exited(0))
            let totals = try filter.report().totals
            #expect(totals.refused + totals.accepted == tally.asked.load(ordering: .relaxed))
            #expect(!filter.postern.messages.contains("error:"), "\(filter.postern.messages)")
        }
    }
}
