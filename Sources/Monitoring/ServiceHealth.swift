package import Foundation
import Synchronization
package import System

/// Which parts of the running filter work, and why the others don't: the one place that `status`, metrics, `/readyz` and the live page ask.
///
/// Each part reports its own failures and recoveries, from any thread. A part has one of four conditions:
///
/// ```
///            expect(_:)             report(nil)
/// unused ───────────────▶ starting ─────────────▶ working ◀─┐
///                             │                      │      │ report(nil): announced once
///                             │ report(failure)      ▼      │
///                             └──────────────────▶ failing ─┘
///                                announced once     │   ▲
///                                                   └───┘ report(another reason): announced once
/// ```
///
/// While a part is failing, a report with the same reason only updates the time of the next try. Only the index decides whether recipients are
/// judged.
package final class ServiceHealth: Sendable {
    /// A part of the filter, which may fail while the others go on.
    package enum Part: String, Sendable, Codable, CaseIterable {
        /// The snapshot in use, and the index file.
        case index
        /// The rejection log.
        case log
        /// The files that the sync writes: its state and the index file.
        case state
        /// Reading the sources.
        case sync
        /// The HTTP server.
        case http
        /// Messages, on standard error.
        case messages
        /// The connections of MTAs: there are too many, or no descriptors for them.
        case connections
        /// The socket beside the log by which `postern reload` and `postern status` ask the filter.
        case control
    }

    /// The condition of a part.
    package struct Report: Sendable, Codable, Equatable {
        /// The part.
        package var part: Part
        /// Whether it works, or is still starting.
        package var works: Bool
        /// Since when it has worked, or hasn't.
        package var since: Date
        /// Why it doesn't work; nil if it works.
        package var reason: String?
        /// What to do about it; nil if it works.
        package var advice: String?
        /// When it is tried next; nil if it works, or if only a restart helps.
        package var nextTry: Date?
    }

    /// A change that an administrator should hear of, once.
    package enum Change: Sendable, Equatable {
        /// The part has stopped working, or doesn't work for another reason than before.
        case failed(PartFailure)
        /// The part works again, after this number of seconds.
        case recovered(seconds: Int)
    }

    private enum Condition {
        case starting
        case working
        case failing(PartFailure)
    }

    private struct State {
        var condition: Condition
        var since: Date
    }

    private let states = Mutex<[Part: State]>([:])
    private let clock: @Sendable () -> Date
    private let announce: @Sendable (Part, Change) -> Void

    /// Health of a filter of which no part is used yet.
    ///
    /// - Parameter announce: called with each change, on the thread that reports it.
    package convenience init(announce: @escaping @Sendable (Part, Change) -> Void) {
        self.init(clock: { Date() }, announce: announce)
    }

    init(clock: @escaping @Sendable () -> Date, announce: @escaping @Sendable (Part, Change) -> Void) {
        self.clock = clock
        self.announce = announce
    }

    /// Adds a part that is starting; without effect if the part is there already.
    package func expect(_ part: Part) {
        let now = clock()
        states.withLock { states in
            if states[part] == nil { states[part] = State(condition: .starting, since: now) }
        }
    }

    /// Removes a part, such as the sync after a reload without sources.
    package func forget(_ part: Part) { states.withLock { _ = $0.removeValue(forKey: part) } }

    /// Records that a part works (nil), or why it doesn't.
    package func report(_ part: Part, _ failure: PartFailure?) {
        let now = clock()
        let change = states.withLock { states in Self.change(&states[part], failure, now) }
        if let change { announce(part, change) }
    }

    private static func change(_ state: inout State?, _ failure: PartFailure?, _ now: Date) -> Change? {
        switch (state?.condition, failure) {
        case (.failing, nil):
            let seconds = now.timeIntervalSince(state?.since ?? now)
            state = State(condition: .working, since: now)
            return .recovered(seconds: Int(exactly: seconds.rounded()).map { max(0, $0) } ?? 0)
        case (.failing(let former), let failure?):
            state?.condition = .failing(failure)
            return former.reason == failure.reason ? nil : .failed(failure)
        case (_, let failure?):
            state = State(condition: .failing(failure), since: failure.since)
            return .failed(failure)
        case (.working, nil): return nil
        case (_, nil):
            state = State(condition: .working, since: now)
            return nil
        }
    }

    /// The conditions of the parts that are used, in the order of ``Part``.
    package var reports: [Report] {
        let states = states.withLock { $0 }
        return Part.allCases.compactMap { part in
            guard let state = states[part] else { return nil }
            guard case .failing(let failure) = state.condition else {
                return Report(part: part, works: true, since: state.since)
            }
            return Report(
                part: part, works: false, since: state.since, reason: failure.reason, advice: failure.advice,
                nextTry: failure.nextTry)
        }
    }
}
