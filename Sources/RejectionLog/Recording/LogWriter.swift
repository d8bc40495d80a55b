import Dispatch
import Foundation
import GRDB
import Glibc
import Synchronization
import System

/// The log's writer: a thread that takes the recorded recipients from the ``RecordingQueue`` four times a second and
/// writes them in one transaction.
///
/// While the database can't be written (its disk is full, read-only or damaged, or another program locks it):
/// - the writer closes the database after the failure and opens it again for each later attempt;
/// - ``LogHealth`` reports each reason once and sets the time of the next attempt;
/// - all counts stay in memory (``pending``), exact in sum; above ``pendingLimit`` without domain or minute;
/// - detail rows stay in ``fullBuffers`` until no buffer is free, then they are thinned out: counted, not kept;
/// - a damaged database is moved aside, and a new one is begun (``DamagedLogReplacement``).
final class LogWriter {
    /// Above this number, pending counters are kept without the domain; above twice this number, by the hour. The sums
    /// stay exact.
    static let pendingLimit = 65_536
    /// The milliseconds for which the writer tries to store the last counts when the log is closed.
    private static let lastAttemptsTime = 500

    /// The open database, and the ids and marks that the writer has read from it.
    struct OpenLog {
        let database: LogDatabase
        var counters: CounterStore
        var tallier: Tallier
    }

    let queue: RecordingQueue
    let options: RejectionLog.Options
    /// Nil while the database isn't open.
    var log: OpenLog?
    var health: LogHealth
    var replacement: DamagedLogReplacement
    /// The task that has found the database damaged once. If it finds no damage the next time, the disk was at fault.
    var suspicion: WriterTask?
    var time = TrustedTime()
    var pruner: Pruner
    /// The id of the next detail row, which a new database continues with.
    var nextDetail: Int64 = 1

    // MARK: Not in the database yet

    var pending: [CounterKey: Int64] = [:]
    /// How many recipients `pending` counts; it counts thinned rows, too, which are not among these.
    var waiting: Int64 = 0
    /// Whether `pending` has counts by the hour or without their domain.
    var isCoarse = false
    /// The detail rows.
    var fullBuffers: [DetailBuffer] = []
    var indexes: [RecordedIndex] = []
    var senders = PendingSenders()
    /// The networks from which a recipient was accepted, each with the day.
    var accepted: [IPAddress: Int64] = [:]

    // MARK: Collecting

    var freeBuffers: [DetailBuffer]
    /// Takes the place of a full buffer while no buffer is free; the records in the full buffer are thinned out.
    private var spareBuffer: DetailBuffer
    private var counters = CounterTable(places: 256)
    /// The detail rows of the last round.
    var arrived = 0
    /// How many detail rows may come before rows are thinned out, at a time on the steady clock (in nanoseconds).
    private var allowance: (rows: Double, at: UInt64)
    private(set) var isThinning = false

    init(queue: RecordingQueue, options: RejectionLog.Options, detailCapacity: Int) {
        self.queue = queue
        self.options = options
        health = LogHealth(queue: queue, options: options)
        replacement = DamagedLogReplacement(pause: options.damagePause)
        pruner = Pruner(options)
        allowance = (Double(options.detailBurst), DispatchTime.now().uptimeNanoseconds)
        freeBuffers = (0..<RecordingQueue.stripeCount).map { _ in DetailBuffer(capacity: detailCapacity) }
        spareBuffer = DetailBuffer(capacity: detailCapacity)
        time.observe(wall: options.clocks.wall(), steady: options.clocks.steady())
    }

    deinit {
        for buffer in fullBuffers + freeBuffers { buffer.deallocate() }
        spareBuffer.deallocate()
        counters.deallocate()
    }

    /// Writes until the queue is stopped; the thread's whole work.
    func run() {
        queue.beginWork()
        _ = storeRound(urgent: false)
        queue.firstOpening.signal()
        queue.endWork()
        var isStopping = false
        while !isStopping {
            let isFailing = health.isFailing(.store)
            let interval = isFailing ? min(1_000, options.retryPause.lowerBound) : options.interval
            queue.wait(milliseconds: interval, forRequests: isFailing)
            let (requests, stops) = queue.drainRequests()
            queue.beginWork()
            isStopping = stops
            var isStored = storeRound(urgent: isStopping || !requests.isEmpty)
            if isStopping { isStored = isStored || storeAtLast() }
            for request in requests where request.task == .store { request.answer(isDone: isStored) }
            // A thread that waited for `store` may read the rows before the next long transaction.
            var isDone = isStored
            if isStored, !isStopping, requests.allSatisfy({ $0.task != .store }) {
                isDone = tally(everything: requests.contains { $0.task != .store })
                isDone = isDone && prune(wanted: requests.contains { $0.task == .prune })
            }
            for request in requests where request.task != .store { request.answer(isDone: isDone) }
            queue.endWork()
        }
        if waiting > 0, !queue.isAbandoned {
            options.report(
                "rejection log \(options.path): closed with \(waiting) recipients uncounted: the log can't be written")
        }
        queue.beginWork()
        close()
        queue.endWork()
        queue.end()
    }

    /// Tries the last round again for a moment, so that a short failure costs no counts.
    private func storeAtLast() -> Bool {
        let deadline = DispatchTime.now() + .milliseconds(Self.lastAttemptsTime)
        while waiting > 0, DispatchTime.now() < deadline, !queue.isAbandoned {
            usleep(50_000)
            if storeRound(urgent: true) { return true }
        }
        return false
    }

    /// Takes everything from the queue and stores it.
    ///
    /// - Parameter urgent: whether to store even before the next attempt after a failure is due.
    /// - Returns: whether everything is stored.
    private func storeRound(urgent: Bool) -> Bool {
        arrived = 0
        time.observe(wall: options.clocks.wall(), steady: options.clocks.steady())
        let notes = queue.drainNotes()
        indexes = Array((indexes + notes.indexes).suffix(1_000))
        senders.add(notes.senders)
        if accepted.count < 100_000 { accepted.merge(queue.accepted.drain()) { max($0, $1) } }
        if let now = time.now { options.day(now / Timestamp.day) }
        collect()
        guard urgent || health.isDue(.store) else { return false }
        guard store(mayReplace: true) else { return false }
        limitDetailRate()
        return true
    }

    /// Has the stripes thin out detail rows while more come than the options allow, until half a second's allowance is
    /// saved again.
    private func limitDetailRate() {
        let now = DispatchTime.now().uptimeNanoseconds
        let rate = Double(options.detailRate)
        let saved = Double(now &- allowance.at) / 1e9 * rate
        allowance = (min(Double(options.detailBurst), allowance.rows + saved) - Double(arrived), now)
        let thins = allowance.rows < (isThinning ? rate / 2 : 0)
        guard thins != isThinning else { return }
        isThinning = thins
        for place in 0..<RecordingQueue.stripeCount { queue.stripes[place].state.withLock { $0.thins = thins } }
    }

    /// Takes the counters and detail records of all stripes. While no buffer is free, detail rows are thinned out.
    private func collect() {
        let known = fullBuffers.count
        var thinned: Int64 = 0
        for place in 0..<RecordingQueue.stripeCount {
            let free = freeBuffers.popLast()
            let (details, isCoarse) = queue.stripes[place].state.withLock { state in
                swap(&state.counters, &counters)
                queue.waiting.add(state.recipients, ordering: .relaxed)
                state.recipients = 0
                let isCoarse = state.isCoarse
                state.isCoarse = false
                guard state.details.used > 0 else { return (nil as DetailBuffer?, isCoarse) }
                let details = state.details
                state.details = free ?? spareBuffer
                return (details, isCoarse)
            }
            if isCoarse { self.isCoarse = true }
            var counts: [(CounterKey, Int64)] = []
            counters.forEach { counts.append(($0, $1)) }
            for (key, count) in counts {
                if key.reason == ReasonSlot.thinned.index { thinned &+= count }
                addPending(key, count)
            }
            if !counts.isEmpty { queue.totals.add(counts) }
            counters.removeAll()
            guard let details else {
                if let free { freeBuffers.append(free) }
                continue
            }
            queue.noteRoom()
            if free != nil { fullBuffers.append(details) } else { thinOut(details) }
        }
        if thinned > 0 || fullBuffers.count > known {
            passOn(Array(fullBuffers[known...]), thinned: Int(clamping: thinned))
        }
    }

    /// Counts the records of a buffer as thinned out; the buffer becomes the spare one.
    private func thinOut(_ details: DetailBuffer) {
        passOn([details], thinned: 0)
        details.forEach { addPending(.thinned(minute: CounterKey.minute(ofMilliseconds: $0.time)), 1) }
        spareBuffer = details
        spareBuffer.removeAll()
    }

    /// Gives the rows to ``RejectionLog/Options/received``.
    private func passOn(_ buffers: [DetailBuffer], thinned: Int) {
        guard let received = options.received else { return }
        received(
            ReceivedRows(
                buffers: buffers, domains: queue.domains.names, reasons: queue.reasons.names, thinned: thinned))
    }

    private func addPending(_ key: CounterKey, _ count: Int64) {
        if key.reason == ReasonSlot.thinned.index {
            queue.thinned.add(Int(clamping: count), ordering: .relaxed)
        } else {
            waiting &+= count
        }
        var key = key
        if pending.count >= Self.pendingLimit, pending[key] == nil {
            isCoarse = true
            key = pending.count >= 2 * Self.pendingLimit ? key.ofItsHour : key.ofNoDomain
        }
        pending[key, default: 0] &+= count
    }
}

// Made by the thread that opens the log, then used by the writer's thread only.
extension LogWriter: @unchecked Sendable {}
