import Foundation
import Synchronization
import TestSupport
import Testing

/// Hundreds of connections with garbage that no MTA sends: the filter goes on, keeps no session and doesn't grow.
@Suite struct GarbageTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static let kinds = 8

    private static func garbage(_ kind: Int, _ random: inout SeededGenerator) -> [UInt8] {
        func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 9) } }
        switch kind {
        case 0: return bytes(Int.random(in: 0...300, using: &random))
        case 1:
            // A length over libmilter's maximum, or a negative one.
            let length = [UInt8.random(in: 1...255, using: &random), 0xff, 0xff, 0xff]
            return length + dialogue(&random)
        case 2:
            let all = dialogue(&random)
            return Array(all.prefix(Int.random(in: 0..<all.count, using: &random)))
        case 3:
            var all = dialogue(&random)
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                all[Int.random(in: 0..<all.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            return all
        case 4:
            // Well-formed packets with any command and any data.
            return (0..<20).flatMap { _ in
                packet(
                    Character(UnicodeScalar(UInt8.random(in: 32...126, using: &random))), bytes(Int(random.next() % 90))
                )
            }
        case 5:
            // Real commands in any order, with no, odd or too many strings.
            return start()
                + (0..<40).flatMap { _ in
                    let command = "ABCDEHKLMNOQRTU".randomElement(using: &random) ?? "R"
                    let count = Int.random(in: 0...9, using: &random)
                    let strings = (0..<count).flatMap { _ in bytes(Int(random.next() % 12)) + [0] }
                    let stage: [UInt8] =
                        command == "D" ? [("CHMRTEN".randomElement(using: &random) ?? "R").asciiValue ?? 0] : []
                    return packet(command, stage + strings)
                }
        case 6: return start() + packet("M", [UInt8](repeating: 0, count: 60_000)) + packet("R", bytes(60_000))
        default: return dialogue(&random)
        }
    }

    private static func packet(_ command: Character, _ data: [UInt8]) -> [UInt8] { MTAConnection.packet(command, data) }

    private static func start() -> [UInt8] {
        MTAConnection.negotiation(version: 6, actions: 0x1ff, steps: 0x1f_ffff)
            + packet("C", MTAConnection.connectData("h.example", "4", 25, "192.0.2.1"))
    }

    private static func dialogue(_ random: inout SeededGenerator) -> [UInt8] {
        let recipients = ["accept", "reject", "temporary", "long", "control", "macros", "state"]
        return start() + packet("H", Array("helo\0".utf8)) + packet("M", Array("<s@t>\0SIZE=1\0".utf8))
            + (0..<5).flatMap { _ in
                packet("D", Array("Ri\0queue\0{rcpt_mailer}\0error\0".utf8))
                    + packet("R", Array("<\(recipients.randomElement(using: &random) ?? "")@test>\0".utf8))
            } + packet("A", []) + packet("Q", [])
    }

    private func onslaught(_ path: String, connections: Int, seed: UInt64) -> Int {
        let refused = Atomic<Int>(0)
        onThreads(4) { thread in
            var random = SeededGenerator(seed: seed &+ UInt64(thread))
            for index in 0..<(connections / 4) {
                guard let connection = try? MTAConnection(path: path) else {
                    refused.add(1, ordering: .relaxed)
                    continue
                }
                connection.write(Self.garbage(index % Self.kinds, &random))
                // Some wait for an answer, some close before.
                if random.next() % 4 == 0 {
                    connection.finishSending()
                    while connection.receive() != nil {}
                }
                connection.hangUp()
            }
        }
        return refused.load(ordering: .relaxed)
    }

    @Test func `garbage neither ends the filter nor makes it grow`() throws {
        let path = folder.file("s")
        let filter = try FilterProcess.serving(path)
        let seed = SeededGenerator.announced("garbage").seed
        #expect(onslaught(path, connections: 800, seed: seed) == 0)
        let before = try settledMemory(filter, path)
        for round in 1...3 {
            #expect(onslaught(path, connections: 800, seed: seed &+ UInt64(round) &* 1_000) == 0)
        }
        let after = try settledMemory(filter, path)
        // A leak of one packet for each connection would be over 20 MB.
        #expect(after - before < 6_000, "from \(before) to \(after) KiB")
        #expect(try MTAConnection.started(path: path).recipient("<reject@test>").text == "550 5.1.1 <reject@test>")
        filter.signal(SIGTERM)
        #expect(filter.status() == 0)
    }

    /// The resident memory after all sessions have ended.
    private func settledMemory(_ filter: FilterProcess, _ path: String) throws -> Int {
        let watcher = try MTAConnection.started(path: path)
        for _ in 0..<2_000 {
            let statistics = try watcher.statistics()
            if statistics["open"] == 1 && statistics["closed"] == statistics["freed"]
                && statistics["closed"] == (statistics["total"] ?? 0) - 1
            {
                return try filter.residentMemory()
            }
            usleep(5_000)
        }
        throw TestFailure("sessions stay open: \(try watcher.statistics())")
    }

    @Test func `aborted connections leave no session`() throws {
        let path = folder.file("s")
        let filter = try FilterProcess.serving(path)
        let seed = SeededGenerator.announced("silence").seed
        var random = SeededGenerator(seed: seed)
        var held: [MTAConnection] = []
        for _ in 0..<200 {
            let connection = try MTAConnection(path: path)
            connection.write(Self.garbage(2, &random))
            held.append(connection)
        }
        // libmilter has a worker wait for the rest of each, and keeps others waiting meanwhile; nothing is left of it.
        held.removeAll()
        _ = try settledMemory(filter, path)
        #expect(try MTAConnection.started(path: path).recipient("<reject@test>").text == "550 5.1.1 <reject@test>")
    }
}
