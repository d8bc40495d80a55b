import Foundation
import Synchronization
import Testing

@testable import Milter

/// What draining waits for, on a server that never opens its socket; see `EndingTests` for one that does.
@Suite struct DrainTests {
    private final class SilentSession: MilterSession {
        func recipient(
            _ context: borrowing MilterContext, arguments: borrowing MilterArguments
        ) -> MilterResponse { .continue }
    }

    private func server(with activity: SessionActivity) throws -> MilterServer {
        let configuration = MilterConfiguration(name: "test", socket: try MilterSocket("/nowhere/s"))
        let server = MilterServer(configuration) { _, _ in SilentSession() }
        server.activities.withLock { $0[ObjectIdentifier(activity)] = activity }
        return server
    }

    /// A thread that works or sleeps until it is told to end.
    private final class Companion: Sendable {
        let id = Atomic<Int32>(0)
        let isOver = Atomic<Bool>(false)

        init(isWorking: Bool) {
            Thread.detachNewThread { [self] in
                let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")
                id.store(link?.split(separator: "/").last.flatMap { Int32($0) } ?? -1, ordering: .releasing)
                while !isOver.load(ordering: .relaxed) {
                    if !isWorking { usleep(100_000) }
                }
            }
            while id.load(ordering: .acquiring) == 0 { usleep(1_000) }
        }

        var thread: Int32 { id.load(ordering: .relaxed) }

        func end() { isOver.store(true, ordering: .relaxed) }
    }

    @Test func callThatDoesNotEnd() throws {
        let activity = SessionActivity()
        activity.enter(thread: 1)
        #expect(try !server(with: activity).drain(timeout: .milliseconds(30)))
        #expect(activity.current == (.inside, 1))
        activity.leave(answering: nil)
        #expect(try server(with: activity).drain(timeout: .seconds(30)))
        #expect(activity.current == (.idle, 0))
    }

    @Test func answerOfAThreadAtWorkIsOnItsWay() throws {
        let companion = Companion(isWorking: true)
        defer { companion.end() }
        let activity = SessionActivity()
        activity.leave(answering: companion.thread)
        #expect(activity.current == (.answering, companion.thread))
        #expect(try !server(with: activity).drain(timeout: .milliseconds(30)))
    }

    @Test func answerOfAThreadThatSleepsOrIsGoneIsOut() throws {
        let companion = Companion(isWorking: false)
        defer { companion.end() }
        let activity = SessionActivity()
        activity.leave(answering: companion.thread)
        #expect(try server(with: activity).drain(timeout: .seconds(30)))
        activity.leave(answering: .max)
        #expect(try server(with: activity).drain(timeout: .seconds(30)))
    }

    @Test func parkedSessionsAreNotWaitedFor() throws {
        let activity = SessionActivity()
        activity.enter(thread: 1)
        activity.park()
        #expect(try server(with: activity).drain(timeout: .seconds(30)))
    }

    @Test func gateIsShutAtOnceAndForGood() throws {
        let server = try server(with: SessionActivity())
        #expect(!server.isGateShut)
        #expect(server.openSessions == 1)
        server.drain(timeout: .zero)
        #expect(server.isGateShut)
    }
}
