import Dispatch
import Foundation
import Synchronization
import System

/// Whether the log can be written; if not, why, since when, and when the writer tries again. Reports each change once.
struct LogHealth {
    private struct Trouble {
        /// The task that fails.
        var task: WriterTask
        var failure: PartFailure
        var began: DispatchTime
        var nextTry: DispatchTime
        /// How many attempts have failed in a row.
        var failures = 0
        /// The reasons that were reported; each is reported once.
        var reported: Set<String> = []
    }

    private let queue: RecordingQueue
    private let options: RejectionLog.Options
    private var trouble: Trouble?

    init(queue: RecordingQueue, options: RejectionLog.Options) {
        self.queue = queue
        self.options = options
    }

    /// Whether the last attempt at the task failed.
    func isFailing(_ task: WriterTask) -> Bool { trouble?.task == task }

    /// Whether the task doesn't fail, or the time of its next attempt has come.
    func isDue(_ task: WriterTask) -> Bool {
        guard let trouble, trouble.task == task else { return true }
        return DispatchTime.now() >= trouble.nextTry
    }

    /// Notes and reports a failure.
    ///
    /// - Parameter waiting: how many recipients are counted in memory only.
    mutating func failed(_ task: WriterTask, _ error: LogError, waiting: Int64) {
        let now = DispatchTime.now()
        let first = PartFailure(reason: error.reason, advice: error.advice)
        var trouble = trouble ?? Trouble(task: task, failure: first, began: now, nextTry: now)
        // A failure to store stays the failing task: storing is tried most often.
        if trouble.task != .store { trouble.task = task }
        let shift = min(trouble.failures, 20)
        let pause = min(options.retryPause.lowerBound << shift, options.retryPause.upperBound)
        trouble.failures += 1
        trouble.nextTry = now + .milliseconds(pause)
        trouble.failure = PartFailure(
            reason: error.reason, advice: error.advice, since: trouble.failure.since,
            nextTry: Date().addingTimeInterval(Double(pause) / 1000))
        let isNew = trouble.reported.count < 100 && trouble.reported.insert(error.reason).inserted
        self.trouble = trouble
        queue.writer.withLock { $0.failure = trouble.failure }
        options.condition(trouble.failure)
        guard isNew else { return }
        options.report(
            "\(error); \(waiting) recipients are counted in memory until the log can be written; "
                + "detail rows without room there are thinned out")
    }

    /// Notes that the task is done; reports it after a failure.
    ///
    /// - Parameter late: how many recipients were counted in memory until now.
    mutating func works(_ task: WriterTask, path: String, late: Int64) {
        guard let trouble, trouble.task == task else { return }
        self.trouble = nil
        queue.writer.withLock { $0.failure = nil }
        let seconds = (DispatchTime.now().uptimeNanoseconds &- trouble.began.uptimeNanoseconds) / 1_000_000_000
        options.report(
            "rejection log \(path): written again after \(seconds) s, with \(late) recipients that were counted in "
                + "memory; no count was lost")
        options.condition(nil)
    }
}

/// Moves a damaged database aside for a new one, but not one after another: the disk may damage each new one, too.
struct DamagedLogReplacement {
    /// How many seconds a database must have been in use before it may be moved aside; doubled each time, up to a day.
    private var pause: TimeInterval
    private let firstPause: TimeInterval
    private var last: DispatchTime?

    init(pause: TimeInterval) {
        firstPause = pause
        self.pause = pause
    }

    /// Moves the database aside and returns its new path; throws while the database must stay.
    mutating func moveAside(_ file: LogFile) throws(LogError) -> String {
        let now = Date()
        let age: TimeInterval
        if let last {
            age = Double(DispatchTime.now().uptimeNanoseconds &- last.uptimeNanoseconds) / 1e9
        } else if let newest = file.newestDamaged, newest <= now {
            // An earlier run of the filter moved one aside.
            age = now.timeIntervalSince(newest)
        } else {
            age = .infinity
        }
        guard age >= pause else {
            throw LogError(
                .corrupt, path: file.path,
                "the rejection log \(file.path) is damaged again, soon after another was moved aside",
                advice: "check the disk; the file stays as it is for now")
        }
        let copy = try file.moveAside(at: now)
        pause = age > 86_400 ? firstPause : min(pause * 2, 86_400)
        last = .now()
        return copy
    }
}
