import Dispatch
import Foundation
import System

/// Whether the log can be written: since when it can't, why, and when it is tried next. Says each change once.
struct LogHealth {
    /// What the writer does with the database.
    enum Work {
        case store, tally, prune
    }

    private struct Trouble {
        var work: Work
        var failure: PartFailure
        var began: DispatchTime
        var due: DispatchTime
        /// How often it has failed in a row.
        var failures = 0
        /// The reasons that were reported.
        var said: Set<String> = []
    }

    private let core: LogCore
    private let options: RejectionLog.Options
    private var trouble: Trouble?

    init(core: LogCore, options: RejectionLog.Options) {
        self.core = core
        self.options = options
    }

    /// True while the work fails.
    func isFailing(_ work: Work) -> Bool { trouble?.work == work }

    /// True if the work doesn't fail, or may be tried again.
    func isDue(_ work: Work) -> Bool {
        guard let trouble, trouble.work == work else { return true }
        return DispatchTime.now() >= trouble.due
    }

    /// Takes note of a failure.
    ///
    /// - Parameter waiting: how many recipients are counted in memory only.
    mutating func failed(_ work: Work, _ error: LogError, waiting: Int64) {
        let now = DispatchTime.now()
        var trouble =
            trouble
            ?? Trouble(
                work: work, failure: PartFailure(reason: error.reason, advice: error.advice), began: now, due: now)
        // What is stored comes first: it is tried most often.
        if trouble.work != .store { trouble.work = work }
        let shift = min(trouble.failures, 20)
        let pause = min(options.retryPause.lowerBound << shift, options.retryPause.upperBound)
        trouble.failures += 1
        trouble.due = now + .milliseconds(pause)
        trouble.failure = PartFailure(
            reason: error.reason, advice: error.advice, since: trouble.failure.since,
            nextTry: Date().addingTimeInterval(Double(pause) / 1000))
        let isNew = trouble.said.count < 100 && trouble.said.insert(error.reason).inserted
        self.trouble = trouble
        core.setFailure(trouble.failure)
        options.condition(trouble.failure)
        guard isNew else { return }
        options.report(
            "\(error); \(waiting) recipients are counted in memory and written as soon as it goes on; "
                + "detail rows that find no room are thinned out")
    }

    /// Takes note that the work was done.
    ///
    /// - Parameter late: how many recipients had been counted in memory before.
    mutating func works(_ work: Work, path: String, late: Int64) {
        guard let trouble, trouble.work == work else { return }
        self.trouble = nil
        core.setFailure(nil)
        let seconds = (DispatchTime.now().uptimeNanoseconds &- trouble.began.uptimeNanoseconds) / 1_000_000_000
        options.report(
            "rejection log \(path): written again after \(seconds) s, with \(late) recipients that were counted in memory; "
                + "no count was lost")
        options.condition(nil)
    }
}

/// Decides when a damaged database may be moved aside for a new one: not again and again where the disk damages each.
struct DamageControl {
    /// Seconds that a new database is given before it may be moved aside too; doubled each time, up to a day.
    private var pause: TimeInterval
    private let firstPause: TimeInterval
    private var last: DispatchTime?

    init(pause: TimeInterval) {
        firstPause = pause
        self.pause = pause
    }

    /// Moves the database aside, and gives its new path; an error while it must stay.
    mutating func moveAside(_ file: LogFile, because error: LogError) throws(LogError) -> String {
        let now = Date()
        let age: TimeInterval
        if let last {
            age = Double(DispatchTime.now().uptimeNanoseconds &- last.uptimeNanoseconds) / 1e9
        } else if let newest = file.newestDamaged, newest <= now {
            // An earlier run may have done it just now.
            age = now.timeIntervalSince(newest)
        } else {
            age = .infinity
        }
        guard age >= pause else {
            throw LogError(
                .corrupt, file.path,
                "the rejection log \(file.path) is damaged again, soon after another was moved aside",
                advice: "check the disk; it is left as it is for now")
        }
        let copy = try file.moveAside(at: now)
        pause = age > 86_400 ? firstPause : min(pause * 2, 86_400)
        last = .now()
        return copy
    }
}
