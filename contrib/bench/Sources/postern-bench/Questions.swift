/// Questions about unknown recipients, as an MTA sends them: so many that few searches go to a part of the index that
/// is in the cache.
final class Questions: Sendable {
    private let packets: [[UInt8]]

    init(count: Int = 100_000) {
        packets = (0..<count).map { MilterConnection.question("nobody\($0)@example.com") }
    }

    /// Asks a filter on 127.0.0.1 about one after the other, from a random one on, and expects each to be rejected; for
    /// ``Load/run(_:)``.
    func asked(at port: UInt16) -> @Sendable (_ number: Int) throws -> (() throws -> Void) {
        { _ in
            let connection = try MilterConnection(port: port)
            var next = Int.random(in: 0..<self.packets.count)
            return {
                next = (next + 1) % self.packets.count
                try connection.ask(self.packets[next], answers: 1, each: UInt8(ascii: "y"))
            }
        }
    }
}
