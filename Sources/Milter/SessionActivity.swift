import Synchronization

/// Where a session's calls stand, for the one who drains the server: written by the thread of the call alone.
///
/// An object for each session, so that the threads of different sessions share no cache line for it.
final class SessionActivity: Sendable {
    enum Phase: UInt64 {
        /// No call in progress, and no answer that may still be on its way.
        case idle = 0
        /// Within a call.
        case inside = 1
        /// The call has returned an answer, which libmilter's thread may not have written to the socket yet.
        case answering = 2
        /// Held back by the gate, for good.
        case parked = 3
    }

    /// The phase in the two lowest bits, the id of the thread above.
    private let state = Atomic<UInt64>(0)

    var current: (phase: Phase, thread: Int32) {
        let value = state.load(ordering: .sequentiallyConsistent)
        return (Phase(rawValue: value & 3) ?? .idle, Int32(truncatingIfNeeded: value >> 2))
    }

    /// Announces a call; the caller then reads the gate. Both are sequentially consistent: either the caller sees the gate
    /// shut, or the one who shut it sees the call.
    func enter(thread: Int32) {
        state.store(Self.value(.inside, thread), ordering: .sequentiallyConsistent)
    }

    func park() {
        state.store(Self.value(.parked, 0), ordering: .sequentiallyConsistent)
    }

    func leave(answering thread: Int32?) {
        state.store(thread.map { Self.value(.answering, $0) } ?? 0, ordering: .releasing)
    }

    private static func value(_ phase: Phase, _ thread: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: thread)) << 2 | phase.rawValue
    }
}
