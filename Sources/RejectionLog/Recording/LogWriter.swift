import Dispatch
import Foundation
import GRDB
import Synchronization

/// The thread that takes what the stripes hold and writes it, one transaction a round.
final class LogWriter {
    /// More pending counters than this (the database has been out of reach for long) are kept coarser: first without the
    /// domain, at twice as many by the hour. The sums stay exact.
    static let pendingLimit = 65_536

    let core: LogCore
    let options: RejectionLog.Options
    let database: LogDatabase
    var books: Books
    var pruner: Pruner
    var tallier: Tallier

    /// Counts that aren't in the database yet.
    private var pending: [CounterKey: Int64] = [:]
    /// True while `pending` holds counts under another minute or domain than their own.
    private var coarse = false
    /// Detail records that aren't in the database yet.
    private var full: [DetailBuffer] = []
    private var free: [DetailBuffer]
    private var counters = CounterTable(places: 256)
    /// Indexes that came into force and aren't in the database yet.
    private var indexes: [IndexNote] = []
    /// Detail rows of the last round.
    private var arrived = 0
    /// How many detail rows may come before they are thinned out, as of a moment on the steady clock (nanoseconds).
    private var allowance: (rows: Double, at: UInt64)
    private var isThinning = false
    /// How many of the rows that have arrived in this round are off the allowance.
    private var rationed = 0
    /// The writer's view of a trouble with the database: when it began and was last reported (milliseconds), nil if none.
    private var trouble: (since: Int64, reported: Int64)?

    init(core: LogCore, options: RejectionLog.Options, detailCapacity: Int) throws(LogError) {
        self.core = core
        self.options = options
        let database = try LogDatabase(path: options.path, busyTimeout: options.busyTimeout)
        do {
            (books, tallier) = try database.queue.inDatabase { (try Books($0), try Tallier($0)) }
        } catch {
            database.close()
            throw LogError(error, path: database.path, doing: "read")
        }
        self.database = database
        pruner = Pruner(options)
        allowance = (Double(options.detailBurst), DispatchTime.now().uptimeNanoseconds)
        free = (0..<LogCore.stripeCount).map { _ in DetailBuffer(capacity: detailCapacity) }
    }

    deinit {
        for buffer in full + free { buffer.deallocate() }
        counters.deallocate()
    }

    /// The thread's life.
    func run() {
        var stopping = false
        while !stopping {
            core.wait(milliseconds: trouble == nil ? options.interval : options.retryInterval, patient: trouble != nil)
            let requests = core.takeTickets()
            stopping = requests.stopping
            let stored = round(everything: stopping || !requests.tickets.isEmpty)
            for ticket in requests.tickets where ticket.wish == .store { ticket.answer(stored) }
            // Whoever has waited for the rows finds the database at rest.
            if stored, !stopping, requests.tickets.allSatisfy({ $0.wish != .store }) {
                tally(everything: requests.tickets.contains { $0.wish != .store })
                prune(requests.tickets.contains { $0.wish == .prune })
            }
            for ticket in requests.tickets where ticket.wish != .store { ticket.answer(stored) }
        }
        let lost = pendingRecipients
        if lost > 0 {
            options.report(
                "rejection log \(database.path): closed with \(lost) recipients uncounted: it can't be written")
        }
        database.close()
        core.end()
    }

    /// How many recipients wait to be entered; thinned rows, which are counted beside them, are none.
    private var pendingRecipients: Int64 {
        pending.reduce(0) { $1.key.reason == ReasonSlot.thinned.index ? $0 : $0 &+ $1.value }
    }

    /// Takes and stores; `everything`: until nothing is left of what was there at the beginning.
    private func round(everything: Bool) -> Bool {
        arrived = 0
        rationed = 0
        indexes += core.takeIndexes()
        while true {
            let complete = collect(details: everything || trouble == nil)
            guard store() else { return false }
            ration()
            if complete || !everything { return true }
        }
    }

    /// Has the stripes thin out detail rows once more have come than are to be kept, until half a second's worth is saved again.
    private func ration() {
        let now = DispatchTime.now().uptimeNanoseconds
        let rate = Double(options.detailRate)
        let saved = Double(now &- allowance.at) / 1e9 * rate
        allowance = (min(Double(options.detailBurst), allowance.rows + saved) - Double(arrived - rationed), now)
        rationed = arrived
        let thins = allowance.rows < (isThinning ? rate / 2 : 0)
        guard thins != isThinning else { return }
        isThinning = thins
        for place in 0..<LogCore.stripeCount { core.stripes[place].state.withLock { $0.thins = thins } }
    }

    /// Takes the counters of all stripes, and their details as far as there are buffers to exchange; true if all were taken.
    private func collect(details: Bool) -> Bool {
        var complete = true
        for place in 0..<LogCore.stripeCount {
            var fresh = details ? free.popLast() : nil
            let (taken, left) = core.stripes[place].state.withLock { state in
                swap(&state.counters, &counters)
                guard state.details.used > 0 else { return (nil as DetailBuffer?, false) }
                guard let buffer = fresh else { return (nil, true) }
                let taken = state.details
                state.details = buffer
                fresh = nil
                return (taken, false)
            }
            if let fresh { free.append(fresh) }
            if let taken {
                full.append(taken)
                core.relieve()
            }
            if left { complete = false }
            var counts: [(CounterKey, Int64)] = []
            counters.forEach { counts.append(($0, $1)) }
            for (key, count) in counts { add(key, count) }
            if !counts.isEmpty { core.totals.add(counts) }
            counters.removeAll()
        }
        return complete
    }

    private func add(_ key: CounterKey, _ count: Int64) {
        if key.reason == ReasonSlot.thinned.index { core.thinned.add(Int(count), ordering: .relaxed) }
        var key = key
        if pending.count >= Self.pendingLimit, pending[key] == nil {
            coarse = true
            let minute = pending.count >= 2 * Self.pendingLimit ? key.minute - key.minute % 60 : key.minute
            key = CounterKey(
                minute: minute, slot: 0, reason: key.reason, outcome: Outcome(rawValue: key.outcome) ?? .refused,
                observed: key.observed)
        }
        pending[key, default: 0] &+= count
    }

    /// One transaction with all that is pending; false if it failed, and then all of it is still pending.
    private func store() -> Bool {
        guard !pending.isEmpty || !full.isEmpty || !indexes.isEmpty else { return trouble == nil || probe() }
        let domains = core.domains.names
        let reasons = core.reasons.names
        do {
            var rows = 0
            try database.queue.inDatabase { db in
                try db.inTransaction(.immediate) {
                    rows = try books.enter(
                        db, counts: pending, details: full, domains: domains, reasons: reasons, nameForeign: !coarse)
                    for index in indexes { try index.enter(db) }
                    return .commit
                }
            }
            core.written.add(rows, ordering: .relaxed)
            arrived += rows
        } catch {
            books.forget()
            failed(error)
            return false
        }
        if let stored = options.stored {
            let thinned = pending.reduce(0) { $1.key.reason == ReasonSlot.thinned.index ? $0 &+ Int($1.value) : $0 }
            if thinned > 0 || !full.isEmpty {
                stored(StoredRows(buffers: full, domains: domains, reasons: reasons, thinned: thinned))
            }
        }
        indexes = []
        pending.removeAll(keepingCapacity: pending.count < 4096)
        coarse = false
        for var buffer in full {
            buffer.removeAll()
            free.append(buffer)
        }
        full.removeAll(keepingCapacity: true)
        recovered()
        return true
    }

    /// Whether the database can be written again, when there is nothing to write.
    private func probe() -> Bool {
        do {
            try database.queue.inDatabase { db in
                try db.inTransaction(.immediate) {
                    try db.execute(sql: "PRAGMA user_version = \(LogSchema.version)")
                    return .commit
                }
            }
        } catch {
            failed(error)
            return false
        }
        recovered()
        return true
    }

    /// Adds to the tallies for a tenth of a second at most, or until all is done; in a flood no more than keeps the rows that
    /// wait from growing without bound.
    private func tally(everything: Bool) {
        let now = options.clock()
        guard everything || tallier.isDue(now, last: books.lastDetail, arriving: isThinning ? .max : arrived) else {
            return
        }
        let start = DispatchTime.now().uptimeNanoseconds
        do {
            try database.queue.inDatabase { db in
                while try tallier.step(db, now: now) {
                    if everything { continue }
                    if isThinning || arrived > Tallier.busy
                        || DispatchTime.now().uptimeNanoseconds &- start > 100_000_000
                    {
                        break
                    }
                }
            }
        } catch {
            tallier.postpone(now)
            failed(error)
        }
    }

    private func prune(_ wanted: Bool) {
        guard wanted || pruner.isDue(options.clock()) else { return }
        do {
            try database.queue.inDatabase { db in
                repeat {
                    try pruner.step(db, now: options.clock(), tallied: tallier.tallied)
                } while wanted && pruner.isBusy
            }
        } catch {
            pruner.postpone()
            failed(error)
        }
    }

    private func failed(_ error: any Error) {
        core.failing.store(true, ordering: .relaxed)
        let now = options.clock()
        if let trouble, now - trouble.reported < 60_000, now >= trouble.reported { return }
        trouble = (trouble?.since ?? now, now)
        let counts = pendingRecipients
        options.report(
            "\(LogError(error, path: database.path, doing: "write")); \(counts) recipients are counted in memory "
                + "and written as soon as it goes on; detail rows that find no room are thinned out")
    }

    private func recovered() {
        guard let trouble else { return }
        self.trouble = nil
        core.failing.store(false, ordering: .relaxed)
        let seconds = max(0, (options.clock() - trouble.since) / 1000)
        options.report("rejection log \(database.path): written again after \(seconds) s; no count was lost")
    }
}

// Made by the opener, then used by its own thread alone.
extension LogWriter: @unchecked Sendable {}
