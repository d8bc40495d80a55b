import Foundation
import Synchronization
package import System

/// The conditions of the running filter's parts, from which `status`, metrics, `/readyz` and the live page take what works and what doesn't.
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
/// While a part is failing, a report with the same reason only updates the time of the next try. Recipients are judged whatever fails, except
/// for the index.
package final class ServiceHealth: Sendable {
    /// A part of the filter; it may fail while the others go on.
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
        /// Messages on standard error.
        case messages
        /// The connections of MTAs, which fail if there are too many or no descriptors for them.
        case connections
        /// The ``ControlSocket`` beside the log.
        case control
    }

    /// The condition of a part.
    package struct Report: Sendable, Codable, Equatable {
        var part: Part
        /// Whether the part works or is still starting.
        var works: Bool
        /// When the part began to work, or failed.
        var since: Date
        /// Why the part doesn't work; nil if it works.
        var reason: String?
        /// The remedy; nil if the part works.
        var advice: String?
        /// The time of the next try; nil if the part works, or if only a restart helps.
        var nextTry: Date?
    }

    /// A change that is announced once.
    package enum Change: Sendable, Equatable {
        /// The part has failed, or the reason has changed.
        case failed(PartFailure)
        /// The part works again after this number of seconds.
        case recovered(seconds: Int)
    }

    private struct State {
        var since: Date
        /// Why the part doesn't work; nil if it works or is starting.
        var failure: PartFailure?
        var isStarting = false
    }

    private let states = Mutex<[Part: State]>([:])
    private let clock: @Sendable () -> Date
    private let announce: @Sendable (Part, Change) -> Void

    /// The health of a filter that uses no part yet.
    ///
    /// - Parameter announce: called with each change, on the reporting thread.
    package convenience init(announce: @escaping @Sendable (Part, Change) -> Void) {
        self.init(clock: { Date() }, announce: announce)
    }

    init(clock: @escaping @Sendable () -> Date, announce: @escaping @Sendable (Part, Change) -> Void) {
        self.clock = clock
        self.announce = announce
    }

    /// Adds a part that is starting, unless the part is already there.
    package func expect(_ part: Part) {
        let now = clock()
        states.withLock { states in
            if states[part] == nil { states[part] = State(since: now, isStarting: true) }
        }
    }

    /// Removes a part, such as the sync after a reload without sources.
    package func forget(_ part: Part) { states.withLock { _ = $0.removeValue(forKey: part) } }

    /// Records why a part doesn't work; nil if it works.
    package func report(_ part: Part, _ failure: PartFailure?) {
        let now = clock()
        let change = states.withLock { states in Self.change(&states[part], failure, now: now) }
        if let change { announce(part, change) }
    }

    private static func change(_ state: inout State?, _ failure: PartFailure?, now: Date) -> Change? {
        switch (state?.failure, failure) {
        case (nil, nil):
            if state?.isStarting != false { state = State(since: now) }
            return nil
        case (nil, let failure?):
            state = State(since: failure.since, failure: failure)
            return .failed(failure)
        case (let former?, let failure?):
            state?.failure = failure
            return former.reason == failure.reason ? nil : .failed(failure)
        case (_?, nil):
            let seconds = now.timeIntervalSince(state?.since ?? now)
            state = State(since: now)
            return .recovered(seconds: Int(exactly: seconds.rounded()).map { max(0, $0) } ?? 0)
        }
    }

    /// The conditions of the parts in use, in the order of ``Part``.
    package var reports: [Report] {
        let states = states.withLock { $0 }
        return Part.allCases.compactMap { part in
            states[part].map { state in
                let failure = state.failure
                return Report(
                    part: part, works: failure == nil, since: state.since, reason: failure?.reason,
                    advice: failure?.advice, nextTry: failure?.nextTry)
            }
        }
    }
}
