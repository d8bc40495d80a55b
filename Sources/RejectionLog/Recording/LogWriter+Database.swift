import Dispatch
import Foundation
import GRDB
import Synchronization
import System

// The writer's work with the database. Each task opens the database if need be, and closes it when it fails.
extension LogWriter {
    /// Stores all that is pending, in one transaction; returns false, with all of it still pending, if that fails.
    ///
    /// - Parameter mayReplace: whether a damaged database may be moved aside for a new one.
    func store(mayReplace: Bool) -> Bool {
        let domains = queue.domains.names
        let reasons = queue.reasons.names
        do {
            try open(mayReplace: mayReplace)
            if let database = log?.database.queue,
                !pending.isEmpty || !fullBuffers.isEmpty || !indexes.isEmpty || !senders.isEmpty || !accepted.isEmpty
            {
                var rows = 0
                try database.inDatabase { db in
                    try db.inTransaction(.immediate) {
                        rows =
                            try log?.counters.add(
                                db, counts: pending, details: fullBuffers, domains: domains, reasons: reasons,
                                namesForeign: !isCoarse) ?? 0
                        for index in indexes { try index.enter(db) }
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
                let isFirst = suspect(.store)
                if isFirst {
                    try openOrReplace(file)
                } else {
                    try replace(file, because: error)
                    try open(file)
                }
                return store(mayReplace: isFirst)
            } catch {
                return failed(.store, error)
            }
        }
        if suspicion == .store { suspicion = nil }
        let late = waiting
        removePending()
        health.works(.store, path: options.path, late: late)
        return true
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

    /// Adds detail rows to the tallies: all of them, or for a tenth of a second at most; during a flood, no more than keeps up.
    func tally(everything: Bool, isSecondAttempt: Bool = false) -> Bool {
        let steady = options.clocks.steady()
        guard let database = log?.database.queue, let newest = log?.counters.lastDetail else { return false }
        let isDue =
            health.isFailing(.tally)
            ? health.isDue(.tally)
            : log?.tallier.isDue(steady, last: newest, arriving: isThinning ? .max : arrived) ?? false
        guard everything || isSecondAttempt || isDue else { return true }
        let start = DispatchTime.now().uptimeNanoseconds
        do {
            try database.inDatabase { db in
                while try log?.tallier.step(db, now: time.now, steady: steady) ?? false {
                    if everything { continue }
                    if isThinning || arrived > Tallier.busy
                        || DispatchTime.now().uptimeNanoseconds &- start > 100_000_000
                    {
                        break
                    }
                }
            }
            health.works(.tally, path: options.path, late: 0)
            if suspicion == .tally { suspicion = nil }
            return true
        } catch {
            if reopens(for: .tally, after: error) { return tally(everything: everything, isSecondAttempt: true) }
            return failed(.tally, error)
        }
    }

    /// Deletes what is past its retention or over the size.
    ///
    /// - Parameter wanted: whether to delete all of it now; otherwise a little, when it is time.
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
            health.works(.prune, path: options.path, late: 0)
            if suspicion == .prune { suspicion = nil }
            return true
        } catch {
            if reopens(for: .prune, after: error) { return prune(wanted: wanted, isSecondAttempt: true) }
            pruner.postpone()
            return failed(.prune, error)
        }
    }

    /// Closes the database until the next attempt, and notes the failure; always false.
    private func failed(_ task: WriterTask, _ error: any Error) -> Bool {
        let path = log?.database.path ?? options.path
        let damaged = task != .store && LogError.isDamage(error) ? log?.database.file : nil
        close()
        if let damaged {
            do {
                try replace(damaged, because: error)
                return false
            } catch {
                health.failed(task, LogError(error, path: path, doing: "write"), waiting: waiting)
                return false
            }
        }
        health.failed(task, LogError(error, path: path, doing: "write"), waiting: waiting)
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

    /// Whether this is the first time that the task finds the database damaged: it is then to be tried again. To SQLite, a page that the disk
    /// couldn't read looks like damage.
    private func suspect(_ task: WriterTask) -> Bool {
        defer { suspicion = suspicion == task ? nil : task }
        return suspicion != task
    }

    /// Opens the database again if this is the first time that the task finds it damaged; returns whether the task is to be tried again.
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
                .failed, file.path, "can't read the rejection log \(file.path): \(systemMessage(code))",
                advice: "see the kernel's messages about the disk: dmesg; to begin a new log, move this one away")
        }
        let copy = try replacement.moveAside(file, because: error)
        queue.setDamagedCopy(copy)
        options.report(
            "\(error.reason); it was moved to \(copy), and a new one is begun; the counts in memory go to the new one")
    }
}
