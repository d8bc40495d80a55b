import Foundation
import Glibc

/// Measures the memory of `postern serve`, and the time until it listens.
struct MemoryRows {
    let plan: Plan
    private var recipients: Int { plan.scaled(1_000_000, quick: 10_000) }
    private var connections: Int { plan.scaled(2_000, quick: 50) }
    private var questions: Int { plan.scaled(5_000_000, quick: 50_000) }

    init(plan: Plan) { self.plan = plan }

    func measure() throws -> [Row] {
        let postern = try PosternInstance(plan, sources: "", name: "memory")
        let index = "\(postern.folder)/recipients.index"
        func timesToListen(_ recipients: Int) throws -> [Double] {
            try Addresses.build(index, recipients)
            _ = try postern.timeToListen()
            return try (0..<max(3, plan.rounds)).map { _ in try postern.timeToListen() }
        }
        let startedLarge = try timesToListen(recipients * 10)
        let started = try timesToListen(recipients)
        var status = stat()
        guard stat(index, &status) == 0 else { throw Failure("\(index) doesn't exist") }
        let indexSize = Double(status.st_size)

        try postern.serve()
        defer { postern.stop() }
        func anonymous() throws -> Double {
            try postern.settle()
            return (try postern.resident().anonymous - indexSize) / 1_048_576
        }
        // Until the threads have started.
        try ask(postern.port, recipients / 10)
        let atRest = try anonymous()

        let idle = try (0..<connections).map { _ in try MilterConnection(port: postern.port) }
        let withIdle = try withExtendedLifetime(idle) { try anonymous() }

        // The first fifth fills all caches.
        try ask(postern.port, questions / 5)
        let early = try anonymous()
        Progress.say("  \(Table.number(early)) MiB after \(grouped(questions / 5)) RCPTs")
        var late = early
        for _ in 0..<4 {
            try ask(postern.port, questions / 5)
            late = try anonymous()
            Progress.say("  \(Table.number(late)) MiB after \(grouped(questions / 5)) more")
        }
        let section = "Memory of postern serve, \(grouped(recipients)) recipients; beside the index"
        return [
            try Row(section, "at rest", .mebibytes, [atRest], goal: .atMost(30)),
            try Row(
                section, "more with \(grouped(connections)) idle connections", .mebibytes, [withIdle - atRest],
                goal: .atMost(64)),
            try Row(
                section, "more from \(grouped(questions / 5)) to \(grouped(questions)) RCPTs", .mebibytes,
                [late - early], goal: .atMost(1)),
            try Row(section, "from start to listening", .seconds, started, goal: .atMost(0.1)),
            try Row(
                section, "from start to listening, \(grouped(recipients * 10)) recipients", .seconds, startedLarge,
                goal: .atMost(0.25)),
        ]
    }

    /// Asks about recipients half of which are listed.
    private func ask(_ port: UInt16, _ count: Int) throws {
        let (connections, recipients) = (16, recipients)
        try Load.each(connections) { number in
            let connection = try MilterConnection(port: port)
            var seed = UInt64(number) &* 0x9E37_79B9_7F4A_7C15 | 1
            for _ in 0..<count / connections / 2 {
                seed ^= seed << 13
                seed ^= seed >> 7
                seed ^= seed << 17
                let listed = MilterConnection.question(Addresses.address(Int(seed % UInt64(recipients))))
                try connection.ask(listed, answers: 1, each: UInt8(ascii: "c"))
                let other = MilterConnection.question("nobody\(seed)@example.com")
                try connection.ask(other, answers: 1, each: UInt8(ascii: "y"))
            }
        }
    }
}
