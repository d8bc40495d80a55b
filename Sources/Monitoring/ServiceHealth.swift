public import Foundation
import Synchronization
public import System

/// What of the running filter works and what doesn't: the one place that `status`, metrics, `/readyz` and the live page ask.
///
/// Each part reports its own failures and recoveries, from any thread. A part has one of four conditions:
///
/// ```
///            expect(_:)             report(nil)
/// unused ───────────────▶ starting ─────────────▶ working ◀─┐
///                             │                      │      │ report(nil): told once
///                             │ report(failure)      ▼      │
///                             └──────────────────▶ failing ─┘
///                                told once          │   ▲
///                                                   └───┘ report(another reason): told once
/// ```
///
/// While a part is failing, a report with the same reason only brings the time of the next try up to date. Nothing but the index decides whether
/// recipients are judged.
public final class ServiceHealth: Sendable {
    /// A part of the filter that may fail while the others go on.
    public enum Part: String, Sendable, Codable, CaseIterable {
        /// The snapshot in force and the file that the next one is read from.
        case index
        /// The rejection log.
        case log
        /// The sync state and the snapshot file as far as the sync writes them.
        case state
        /// Reading the sources.
        case sync
        /// The HTTP server.
        case http
        /// Standard error.
        case messages
        /// The connections of MTAs: too many, or no descriptors for them.
        case connections
        /// The files beside the log by which `postern reload` and `postern status` find the filter.
        case control
    }

    /// A part's condition as it is shown.
    public struct Report: Sendable, Codable, Equatable {
        /// The part.
        public var part: Part
        /// Whether it works, or is still starting.
        public var works: Bool
        /// Since when it has worked, or not.
        public var since: Date
        /// Why it doesn't work; nil where it works.
        public var reason: String?
        /// What to do about it; nil where it works.
        public var advice: String?
        /// When it is tried next; nil where it works, or where only a restart mends it.
        public var nextTry: Date?
    }

    /// What is to be told, once.
    public enum Change: Sendable, Equatable {
        /// The part doesn't work, or for another reason than before.
        case failed(PartFailure)
        /// The part works again, after so many seconds.
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
    private let tell: @Sendable (Part, Change) -> Void

    /// Health in which no part is used yet.
    ///
    /// - Parameter tell: gets each change that an administrator should hear of, on the thread that reports it.
    public convenience init(tell: @escaping @Sendable (Part, Change) -> Void) {
        self.init(clock: { Date() }, tell: tell)
    }

    init(clock: @escaping @Sendable () -> Date, tell: @escaping @Sendable (Part, Change) -> Void) {
        self.clock = clock
        self.tell = tell
    }

    /// Takes a part into account, as one that is starting; without effect for one that already counts.
    public func expect(_ part: Part) {
        let now = clock()
        states.withLock { states in
            if states[part] == nil { states[part] = State(condition: .starting, since: now) }
        }
    }

    /// Leaves a part out of account, such as the sync after a reload without sources.
    public func forget(_ part: Part) { states.withLock { _ = $0.removeValue(forKey: part) } }

    /// Takes note that a part works (nil) or why it doesn't.
    public func report(_ part: Part, _ failure: PartFailure?) {
        let now = clock()
        let change = states.withLock { states in Self.change(&states[part], failure, now) }
        if let change { tell(part, change) }
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

    /// The conditions of all parts that count, in the order of ``Part``.
    public var reports: [Report] {
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
