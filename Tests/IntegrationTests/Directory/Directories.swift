import Foundation
import Synchronization
import Testing

/// Postern beside real directories: a private slapd, a private Samba domain controller. The suites run one after the
/// other, and not beside those of ``Integration``: each test has daemons of its own, and many watch the clock.
@Suite(.serialized, .oneAtATime) enum Directories {}

/// The programs that the tests of directories need; without them, the tests are skipped or fail.
enum DirectoryRequirements {
    /// If directories are required, a missing one fails the tests instead of skipping them.
    static func areMet(_ obstacle: String?) -> Bool {
        obstacle == nil || ProcessInfo.processInfo.environment["POSTERN_TEST_DIRECTORIES"] == "required"
    }

    /// Runs a suite or test if slapd can be started.
    static var slapd: ConditionTrait { trait(SlapdInstance.obstacle) }

    /// Runs a suite or test if a domain controller can be started.
    static var samba: ConditionTrait { trait(SambaInstance.obstacle) }

    /// Runs a suite or test if a 389 Directory Server can be started.
    static var server389: ConditionTrait { trait(Server389Instance.obstacle) }

    private static func trait(_ obstacle: String?) -> ConditionTrait {
        .enabled(if: areMet(obstacle), Comment(rawValue: obstacle ?? ""))
    }
}

/// Keeps tests of different serialized suites apart, which `.serialized` alone doesn't.
struct OneAtATime: SuiteTrait, TestTrait, TestScoping {
    private static let turn = Turn()

    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        await Self.turn.take()
        defer { Self.turn.give() }
        try await function()
    }

    /// A lock that a task may wait for without holding a thread.
    private final class Turn: Sendable {
        private struct State {
            var isTaken = false
            var waiting: [CheckedContinuation<Void, Never>] = []
        }

        private let state = Mutex(State())

        func take() async {
            await withCheckedContinuation { continuation in
                let mayGo = state.withLock { state in
                    if state.isTaken {
                        state.waiting.append(continuation)
                        return false
                    }
                    state.isTaken = true
                    return true
                }
                if mayGo { continuation.resume() }
            }
        }

        func give() {
            let next = state.withLock { state in
                if state.waiting.isEmpty {
                    state.isTaken = false
                    return CheckedContinuation<Void, Never>?.none
                }
                return state.waiting.removeFirst()
            }
            next?.resume()
        }
    }
}

extension Trait where Self == OneAtATime {
    /// No two tests with this trait run at the same time.
    static var oneAtATime: Self { Self() }
}
