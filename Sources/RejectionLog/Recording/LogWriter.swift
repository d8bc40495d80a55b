import Dispatch
import Foundation
import GRDB
import Glibc
import Synchronization
import System

/// The thread that takes what the stripes hold and writes it, one transaction a round.
///
/// It opens the database itself, and gives it up after any failure: what it holds stays in memory until a later attempt.
final class LogWriter {
    /// More pending counters than this (the database has been out of reach for long) are kept coarser: first without the
    /// domain, at twice as many by the hour. The sums stay exact.
    static let pendingLimit = 65_536
    /// Milliseconds for which the last counts are tried again when the log is closed.
    private static let lastTries = 500

    /// The open database and what is known of its contents.
    private struct OpenLog {
        let database: LogDatabase
        var books: Books
        var tallier: Tallier
    }

    let core: LogCore
    let options: RejectionLog.Options
    private var log: OpenLog?
    private var health: LogHealth
    private var damage: DamageControl
    /// The work that has found the database damaged once: what isn't found again was the disk.
    private var suspicious: LogHealth.Work?
    private var time = TrustedTime()
    private var pruner: Pruner
    /// The id for the next detail row, as far as this process knows: it goes on where another database is begun.
    private var nextDetail: Int64 = 1

    /// Counts that aren't in the database yet.
    private var pending: [CounterKey: Int64] = [:]
    /// How many recipients these are; thinned rows, which are counted beside them, are none.
    private var waiting: Int64 = 0
    /// True while `pending` holds counts under another minute or domain than their own.
    private var coarse = false
    /// Detail records that aren't in the database yet.
    private var full: [DetailBuffer] = []
    private var free: [DetailBuffer]
    /// Takes the place of a full buffer while there is no free one; its records are thinned out.
    private var spare: DetailBuffer
    private var counters = CounterTable(places: 256)
    /// Indexes that came into force and aren't in the database yet.
    private var indexes: [RecordedIndex] = []
    /// Messages of unlisted senders that aren't in the database yet.
    private var senders = PendingSenders()
    /// Networks from which a recipient was accepted, with the day, that aren't in the database yet.
    private var accepted: [IPAddress: Int64] = [:]
    /// Detail rows of the last round.
    private var arrived = 0
    /// How many detail rows may come before they are thinned out, as of a moment on the steady clock (nanoseconds).
    private var allowance: (rows: Double, at: UInt64)
    private var isThinning = false

    init(core: LogCore, options: RejectionLog.Options, detailCapacity: Int) {
        self.core = core
        self.options = options
        health = LogHealth(core: core, options: options)
        damage = DamageControl(pause: options.damagePause)
        pruner = Pruner(options)
        allowance = (Double(options.detailBurst), DispatchTime.now().uptimeNanoseconds)
        free = (0..<LogCore.stripeCount).map { _ in DetailBuffer(capacity: detailCapacity) }
        spare = DetailBuffer(capacity: detailCapacity)
        time.observe(wall: options.clocks.wall(), steady: options.clocks.steady())
    }

    deinit {
        for buffer in full + free { buffer.deallocate() }
        spare.deallocate()
        counters.deallocate()
    }

    /// The thread's life.
    func run() {
        core.begin()
        _ = round(urgent: false)
        core.beginning.signal()
        core.rest()
        var stopping = false
        while !stopping {
            let isFailing = health.isFailing(.store)
            let interval = isFailing ? min(1_000, options.retryPause.lowerBound) : options.interval
            core.wait(milliseconds: interval, patient: isFailing)
            let requests = core.takeTickets()
            core.begin()
            stopping = requests.stopping
            var stored = round(urgent: stopping || !requests.tickets.isEmpty)
            if stopping { stored = stored || storeAtLast() }
            for ticket in requests.tickets where ticket.wish == .store { ticket.answer(stored) }
            // Whoever has waited for the rows finds the database at rest.
            var isDone = stored
            if stored, !stopping, requests.tickets.allSatisfy({ $0.wish != .store }) {
                isDone = tally(everything: requests.tickets.contains { $0.wish != .store })
                isDone = isDone && prune(requests.tickets.contains { $0.wish == .prune })
            }
            for ticket in requests.tickets where ticket.wish != .store { ticket.answer(isDone) }
            core.rest()
        }
        let isAbandoned = core.isAbandoned
        if waiting > 0, !isAbandoned {
            options.report(
                "rejection log \(options.path): closed with \(waiting) recipients uncounted: it can't be written")
        }
        core.begin()
        giveUp()
        core.rest()
        core.end()
    }

    /// Tries the last round again for a moment: a failure that passes costs no counts.
    private func storeAtLast() -> Bool {
        let deadline = DispatchTime.now() + .milliseconds(Self.lastTries)
        while waiting > 0, DispatchTime.now() < deadline, !core.isAbandoned {
            usleep(50_000)
            if round(urgent: true) { return true }
        }
        return false
    }

    /// Takes and stores all that was there at the beginning; `urgent`: even if the next attempt isn't due yet.
    private func round(urgent: Bool) -> Bool {
        arrived = 0
        time.observe(wall: options.clocks.wall(), steady: options.clocks.steady())
        indexes = Array((indexes + core.takeIndexes()).suffix(1_000))
        senders.add(core.takeSenders())
        if accepted.count < 100_000 { accepted.merge(core.accepted.take()) { max($0, $1) } }
        if let now = time.now { options.day(now / 86_400_000) }
        collect()
        guard urgent || health.isDue(.store) else { return false }
        guard store(canBeginAnew: true) else { return false }
        ration()
        return true
    }

    /// Has the stripes thin out detail rows once more have come than are to be kept, until half a second's worth is saved again.
    private func ration() {
        let now = DispatchTime.now().uptimeNanoseconds
        let rate = Double(options.detailRate)
        let saved = Double(now &- allowance.at) / 1e9 * rate
        allowance = (min(Double(options.detailBurst), allowance.rows + saved) - Double(arrived), now)
        let thins = allowance.rows < (isThinning ? rate / 2 : 0)
        guard thins != isThinning else { return }
        isThinning = thins
        for place in 0..<LogCore.stripeCount { core.stripes[place].state.withLock { $0.thins = thins } }
    }

    // MARK: Collecting

    /// Takes the counters and the details of all stripes. While no buffer is free, details are thinned out.
    private func collect() {
        let known = full.count
        var thinned: Int64 = 0
        for place in 0..<LogCore.stripeCount {
            let free = free.popLast()
            let (taken, isCoarse) = core.stripes[place].state.withLock { state in
                swap(&state.counters, &counters)
                core.waiting.add(state.recipients, ordering: .relaxed)
                state.recipients = 0
                let isCoarse = state.isCoarse
                state.isCoarse = false
                guard state.details.used > 0 else { return (nil as DetailBuffer?, isCoarse) }
                let taken = state.details
                state.details = free ?? spare
                return (taken, isCoarse)
            }
            if isCoarse { coarse = true }
            var counts: [(CounterKey, Int64)] = []
            counters.forEach { counts.append(($0, $1)) }
            for (key, count) in counts {
                if key.reason == ReasonSlot.thinned.index { thinned &+= count }
                add(key, count)
            }
            if !counts.isEmpty { core.totals.add(counts) }
            counters.removeAll()
            guard let taken else {
                if let free { self.free.append(free) }
                continue
            }
            core.relieve()
            if free != nil { full.append(taken) } else { thinOut(taken) }
        }
        if thinned > 0 || full.count > known { tell(Array(full[known...]), thinned: Int(clamping: thinned)) }
    }

    /// Counts the records of a buffer as thinned out, and keeps it as the next spare one.
    private func thinOut(_ taken: DetailBuffer) {
        tell([taken], thinned: 0)
        taken.forEach { add(.thinned(minute: CounterKey.minute(ofMilliseconds: $0.time)), 1) }
        spare = taken
        spare.removeAll()
    }

    private func tell(_ buffers: [DetailBuffer], thinned: Int) {
        guard let stored = options.stored else { return }
        stored(
            StoredRows(
                buffers: buffers, domains: core.domains.names, reasons: core.reasons.names, thinned: thinned))
    }

    private func add(_ key: CounterKey, _ count: Int64) {
        if key.reason == ReasonSlot.thinned.index {
            core.thinned.add(Int(clamping: count), ordering: .relaxed)
        } else {
            waiting &+= count
        }
        var key = key
        if pending.count >= Self.pendingLimit, pending[key] == nil {
            coarse = true
            key = pending.count >= 2 * Self.pendingLimit ? key.ofItsHour : key.ofNoDomain
        }
        pending[key, default: 0] &+= count
    }

    // MARK: The database

    /// One transaction with all that is pending; false if it failed, and then all of it is still pending.
    ///
    /// - Parameter canBeginAnew: whether a damaged database may be moved aside, and a new one begun.
    private func store(canBeginAnew: Bool) -> Bool {
        let domains = core.domains.names
        let reasons = core.reasons.names
        do {
            try open(canBeginAnew: canBeginAnew)
            if let queue = log?.database.queue,
                !pending.isEmpty || !full.isEmpty || !indexes.isEmpty || !senders.isEmpty || !accepted.isEmpty
            {
                var rows = 0
                try queue.inDatabase { db in
                    try db.inTransaction(.immediate) {
                        rows =
                            try log?.books.enter(
                                db, counts: pending, details: full, domains: domains, reasons: reasons,
                                nameForeign: !coarse) ?? 0
                        for index in indexes { try index.enter(db) }
                        try SenderStore.enter(db, senders)
                        try AcceptedNetworkStore.enter(db, accepted)
                        return .commit
                    }
                }
                core.written.add(rows, ordering: .relaxed)
                arrived += rows
                nextDetail = log?.books.nextDetail ?? nextDetail
            }
        } catch {
            if canBeginAnew, let file = log?.database.file, LogError.isDamage(error) {
                do {
                    giveUp()
                    let isFirst = suspect(.store)
                    if isFirst {
                        try openAgain(file)
                    } else {
                        try beginAnew(file, error)
                        try open(file)
                    }
                    return store(canBeginAnew: isFirst)
                } catch {
                    return failed(.store, error)
                }
            }
            return failed(.store, error)
        }
        if suspicious == .store { suspicious = nil }
        let late = waiting
        indexes = []
        senders.removeAll()
        accepted = [:]
        pending.removeAll(keepingCapacity: pending.count < 4096)
        core.waiting.subtract(Int(clamping: waiting), ordering: .relaxed)
        waiting = 0
        coarse = false
        for var buffer in full {
            buffer.removeAll()
            free.append(buffer)
        }
        full.removeAll(keepingCapacity: true)
        health.works(.store, path: options.path, late: late)
        return true
    }

    /// Has the database open, if it isn't or has been moved away.
    private func open(canBeginAnew: Bool) throws {
        if let log {
            if log.database.isInPlace { return }
            options.report(
                "rejection log \(options.path): it was moved away or removed while it was in use; a new one is begun")
            giveUp()
        }
        let file = try LogFile(path: options.path)
        do {
            try open(file)
        } catch {
            guard canBeginAnew, LogError.isDamage(error) else { throw error }
            try openAgain(file)
        }
    }

    /// Opens a database that has been found damaged once; begins a new one where it is found so again.
    private func openAgain(_ file: LogFile) throws {
        do {
            try open(file)
        } catch {
            guard LogError.isDamage(error) else { throw error }
            try beginAnew(file, error)
            try open(file)
        }
    }

    /// Opens the database anew where this work finds it damaged for the first time; false where there is no second look.
    private func looksAgain(_ work: LogHealth.Work, after error: any Error) -> Bool {
        guard LogError.isDamage(error), let file = log?.database.file, suspect(work) else { return false }
        giveUp()
        try? openAgain(file)
        return log != nil
    }

    /// True the first time that this work finds the database damaged, which is then to be tried again: a page that the disk couldn't give
    /// looks the same to SQLite.
    private func suspect(_ work: LogHealth.Work) -> Bool {
        defer { suspicious = suspicious == work ? nil : work }
        return suspicious != work
    }

    private func open(_ file: LogFile) throws {
        let database = try LogDatabase(file, busyTimeout: options.busyTimeout)
        do {
            let steady = options.clocks.steady()
            log = try database.queue.inDatabase { db in
                if let trusted = try Pruner.trustedTime(db) { time.remember(trusted, steady: steady) }
                if let take = options.unlistedSenders { take(try SenderStore.all(db)) }
                return OpenLog(
                    database: database, books: try Books(db, path: file.path, from: nextDetail),
                    tallier: try Tallier(db))
            }
            core.isOpen.store(true, ordering: .relaxed)
        } catch {
            database.close()
            throw error
        }
    }

    /// Moves a damaged database aside; the next attempt makes a new one.
    private func beginAnew(_ file: LogFile, _ error: any Error) throws {
        let error = LogError(error, path: file.path, doing: "write")
        giveUp()
        if let code = FileProbe.failure(reading: [file.path, file.path + "-wal"]) {
            throw LogError(
                .failed, file.path, "can't read the rejection log \(file.path): \(systemMessage(code))",
                advice: "see the kernel's messages about the disk: dmesg; to begin a new log, move this one away")
        }
        let copy = try damage.moveAside(file, because: error)
        core.setDamagedCopy(copy)
        options.report("\(error.reason); it was moved to \(copy), and a new one is begun; counts in memory go there")
    }

    /// Adds to the tallies for a tenth of a second at most, or until all is done; in a flood no more than keeps the rows that
    /// wait from growing without bound.
    private func tally(everything: Bool, isAgain: Bool = false) -> Bool {
        let steady = options.clocks.steady()
        guard let queue = log?.database.queue, let newest = log?.books.lastDetail else { return false }
        let isDue =
            health.isFailing(.tally)
            ? health.isDue(.tally)
            : log?.tallier.isDue(steady, last: newest, arriving: isThinning ? .max : arrived) ?? false
        guard everything || isAgain || isDue else { return true }
        let start = DispatchTime.now().uptimeNanoseconds
        do {
            try queue.inDatabase { db in
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
            if suspicious == .tally { suspicious = nil }
            return true
        } catch {
            if looksAgain(.tally, after: error) { return tally(everything: everything, isAgain: true) }
            return failed(.tally, error)
        }
    }

    private func prune(_ wanted: Bool, isAgain: Bool = false) -> Bool {
        let steady = options.clocks.steady()
        guard let log else { return false }
        let isDue = health.isFailing(.prune) ? health.isDue(.prune) : pruner.isDue(steady)
        guard wanted || isAgain || isDue else { return true }
        do {
            try log.database.queue.inDatabase { db in
                repeat {
                    try pruner.step(
                        db, now: time.now, wall: options.clocks.wall(), steady: steady, wanted: wanted,
                        tallied: log.tallier.tallied)
                } while wanted && pruner.isBusy
            }
            health.works(.prune, path: options.path, late: 0)
            if suspicious == .prune { suspicious = nil }
            return true
        } catch {
            if looksAgain(.prune, after: error) { return prune(wanted, isAgain: true) }
            pruner.postpone()
            return failed(.prune, error)
        }
    }

    /// Gives the database up until the next attempt; always false.
    private func failed(_ work: LogHealth.Work, _ error: any Error) -> Bool {
        let path = log?.database.path ?? options.path
        // A damaged one is found damaged again by the next attempt, and moved aside.
        if work != .store, let file = log?.database.file, LogError.isDamage(error) {
            giveUp()
            do {
                try beginAnew(file, error)
                return false
            } catch {
                giveUp()
                health.failed(work, LogError(error, path: path, doing: "write"), waiting: waiting)
                return false
            }
        }
        giveUp()
        health.failed(work, LogError(error, path: path, doing: "write"), waiting: waiting)
        return false
    }

    private func giveUp() {
        log?.database.close()
        log = nil
        core.isOpen.store(false, ordering: .relaxed)
    }
}

// Made by the opener, then used by its own thread alone.
extension LogWriter: @unchecked Sendable {}
