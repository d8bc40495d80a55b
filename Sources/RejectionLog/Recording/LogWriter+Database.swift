import Dispatch
import Foundation
import GRDB
import Synchronization
import System

// The writer's work with the database. After a failure a task closes the database; the next attempt opens it again.
extension LogWriter {
    /// Stores everything that is pending, in one transaction; returns false, with everything still pending, if that
    /// fails: the disk may be full.
    ///
    /// - Parameter mayReplace: whether a damaged database may be moved aside for a new one.
    func store(mayReplace: Bool) -> Bool {
        let domains = queue.domains.names
        let reasons = queue.reasons.names
        do {
            try open(mayReplace: mayReplace)
            let isEmpty =
                pending.isEmpty && fullBuffers.isEmpty && indexes.isEmpty && senders.isEmpty && accepted.isEmpty
            if !isEmpty, let database = log?.database.queue {
                var rows = 0
                try database.inDatabase { db in
                    try db.inTransaction(.immediate) {
                        rows =
                            try log?.counters.add(
                                db, counts: pending, details: fullBuffers, domains: domains, reasons: reasons,
                                namesForeign: !isCoarse) ?? 0
                        for index in indexes { try index.add(to: db) }
                        try UnlistedSenderStore.add(db, senders)
                        try AcceptedNetworkStore.add(db, accepted)
                        return .commit
                    }
                }
                queue.written.add(rows, ordering: .relaxed)
                arrived += rows
                nextDetail = log?.counters.nextDetail ?? nextDetail
            }
        } catch {
            guard mayReplace, let file = log?.database.file, LogError.isDamage(error) else {
                return failed(.store, error)
            }
            do {
                close()
                if suspect(.store) {
                    try openOrReplace(file)
                    return store(mayReplace: true)
                }
                try replace(file, because: error)
                try open(file)
                return store(mayReplace: false)
            } catch {
                return failed(.store, error)
            }
        }
        let late = waiting
        removePending()
        return succeeded(.store, late: late)
    }

    private func removePending() {
        indexes = []
        senders.removeAll()
        accepted = [:]
        pending.removeAll(keepingCapacity: pending.count < 4096)
        queue.waiting.subtract(Int(clamping: waiting), ordering: .relaxed)
        waiting = 0
        isCoarse = false
        for var buffer in fullBuffers {
            buffer.removeAll()
            freeBuffers.append(buffer)
        }
        fullBuffers.removeAll(keepingCapacity: true)
    }

    /// Adds detail rows to the tallies.
    ///
    /// - Parameter everything: whether to add all rows; otherwise for a tenth of a second, or one step in a flood.
    func tally(everything: Bool, isSecondAttempt: Bool = false) -> Bool {
        let steady = options.clocks.steady()
        guard let database = log?.database.queue, let newest = log?.counters.lastDetail else { return false }
        let isDue =
            health.isFailing(.tally)
            ? health.isDue(.tally)
            : log?.tallier.isDue(steady, newest: newest, arriving: isThinning ? .max : arrived) ?? false
        guard everything || isSecondAttempt || isDue else { return true }
        let start = DispatchTime.now().uptimeNanoseconds
        do {
            try database.inDatabase { db in
                while try log?.tallier.step(db, now: time.now, steady: steady) ?? false {
                    if everything { continue }
                    let age = DispatchTime.now().uptimeNanoseconds &- start
                    if isThinning || arrived > Tallier.busy || age > 100_000_000 { break }
                }
            }
            return succeeded(.tally)
        } catch {
            if reopens(for: .tally, after: error) { return tally(everything: everything, isSecondAttempt: true) }
            return failed(.tally, error)
        }
    }

    /// Deletes data that is older than its retention or over the size limit.
    ///
    /// - Parameter wanted: whether to delete all such data now; otherwise a little, when it is time.
    func prune(wanted: Bool, isSecondAttempt: Bool = false) -> Bool {
        let steady = options.clocks.steady()
        guard let log else { return false }
        let isDue = health.isFailing(.prune) ? health.isDue(.prune) : pruner.isDue(steady)
        guard wanted || isSecondAttempt || isDue else { return true }
        do {
            try log.database.queue.inDatabase { db in
                repeat {
                    try pruner.step(
                        db, now: time.now, wall: options.clocks.wall(), steady: steady, wanted: wanted,
                        tallied: log.tallier.tallied)
                } while wanted && pruner.isBusy
            }
            return succeeded(.prune)
        } catch {
            if reopens(for: .prune, after: error) { return prune(wanted: wanted, isSecondAttempt: true) }
            pruner.postpone()
            return failed(.prune, error)
        }
    }

    /// Notes that a task is done; always true.
    private func succeeded(_ task: WriterTask, late: Int64 = 0) -> Bool {
        if suspicion == task { suspicion = nil }
        health.works(task, path: options.path, late: late)
        return true
    }

    /// Closes the database until the next attempt, and notes the failure; always false.
    private func failed(_ task: WriterTask, _ error: any Error) -> Bool {
        let path = log?.database.file.path ?? options.path
        let damaged = task != .store && LogError.isDamage(error) ? log?.database.file : nil
        close()
        var failure = error
        if let damaged {
            do {
                try replace(damaged, because: error)
                return false
            } catch { failure = error }
        }
        health.failed(task, LogError(failure, path: path, doing: "write"), waiting: waiting)
        return false
    }

    // MARK: Opening and closing

    /// Opens the database if it isn't open, or if its file was moved away.
    private func open(mayReplace: Bool) throws {
        if let log {
            if log.database.isInPlace { return }
            options.report(
                "rejection log \(options.path): the file was moved away or removed while in use; a new one is begun")
            close()
        }
        let file = try LogFile(path: options.path)
        do {
            try open(file)
        } catch {
            guard mayReplace, LogError.isDamage(error) else { throw error }
            try openOrReplace(file)
        }
    }

    private func open(_ file: LogFile) throws {
        let database = try LogDatabase(file, busyTimeout: options.busyTimeout)
        do {
            let steady = options.clocks.steady()
            log = try database.queue.inDatabase { db in
                if let trusted = try Pruner.trustedTime(db) { time.remember(trusted, steady: steady) }
                if let receive = options.unlistedSenders { receive(try UnlistedSenderStore.all(db)) }
                return OpenLog(
                    database: database, counters: try CounterStore(db, path: file.path, from: nextDetail),
                    tallier: try Tallier(db))
            }
            queue.isOpen.store(true, ordering: .relaxed)
        } catch {
            database.close()
            throw error
        }
    }

    func close() {
        log?.database.close()
        log = nil
        queue.isOpen.store(false, ordering: .relaxed)
    }

    // MARK: Damage

    /// Whether the task finds the database damaged for the first time; then it tries again. To SQLite, a page that the
    /// disk couldn't read looks like damage.
    private func suspect(_ task: WriterTask) -> Bool {
        defer { suspicion = suspicion == task ? nil : task }
        return suspicion != task
    }

    /// Opens the database again if the task finds it damaged for the first time; returns whether to try the task again.
    private func reopens(for task: WriterTask, after error: any Error) -> Bool {
        guard LogError.isDamage(error), let file = log?.database.file, suspect(task) else { return false }
        close()
        try? openOrReplace(file)
        return log != nil
    }

    /// Opens a database that was found damaged once; if it is found damaged again, begins a new one.
    private func openOrReplace(_ file: LogFile) throws {
        do {
            try open(file)
        } catch {
            guard LogError.isDamage(error) else { throw error }
            try replace(file, because: error)
            try open(file)
        }
    }

    /// Moves a damaged database aside; the next attempt creates a new one.
    private func replace(_ file: LogFile, because error: any Error) throws {
        let error = LogError(error, path: file.path, doing: "write")
        close()
        if let code = FileProbe.failure(reading: [file.path, file.path + "-wal"]) {
            throw LogError(
                .failed, path: file.path, "can't read the rejection log \(file.path): \(systemMessage(code))",
                advice: "see the kernel's messages about the disk: dmesg; to begin a new log, move this one away")
        }
        let copy = try replacement.moveAside(file)
        queue.writer.withLock { $0.damagedCopy = copy }
        options.report(
            "\(error.reason); it was moved to \(copy), and a new one is begun; the counts in memory go to the new one")
    }
}
