import Foundation
import Synchronization
import System

/// SMTP clients that go on asking for recipients, each on a thread of its own, until they are told to stop.
final class LoadGenerator: Sendable {
    /// What all clients have seen.
    struct Seen {
        /// Clients that have begun.
        var begun = 0
        /// Recipients asked for.
        var asked = 0
        /// Replies by their code.
        var replies: [Int: Int] = [:]
        /// Connections that broke without an answer.
        var lost: [String] = []
        /// Clients that have not ended yet.
        var running = 0

        /// All replies.
        var answered: Int { replies.values.reduce(0, +) }
    }

    private let state = Mutex(Seen())
    private let stopping = Atomic(false)

    /// What was seen so far.
    var seen: Seen { state.withLock { $0 } }

    /// Starts the clients; they ask for known and unknown recipients in turn.
    init(clients: Int, port: UInt16, known: String, unknown: String) {
        state.withLock { $0.running = clients }
        for _ in 0..<clients {
            NamedThread.start("client") { [self] in
                do {
                    let client = try SMTPClient(port: port, from: Gateway.stranger)
                    try client.begin()
                    state.withLock { $0.begun += 1 }
                    var turn = 0
                    while !stopping.load(ordering: .relaxed) {
                        turn += 1
                        if turn % 100 == 0 {
                            try client.command("RSET")
                            // Without its filter Postfix accepts no sender either.
                            guard try client.command("MAIL FROM:<sender@client.test>").category == 2 else { break }
                        }
                        state.withLock { $0.asked += 1 }
                        let reply = try client.recipient(turn % 4 == 0 ? known : unknown)
                        state.withLock { $0.replies[reply.code, default: 0] += 1 }
                    }
                    client.quit()
                } catch {
                    state.withLock { $0.lost.append("\(error)") }
                }
                state.withLock { $0.running -= 1 }
            }
        }
    }

    /// Ends the clients and returns all that they have seen.
    func stop() -> Seen {
        stopping.store(true, ordering: .relaxed)
        _ = eventually(within: 60) { seen.running == 0 }
        return seen
    }
}
