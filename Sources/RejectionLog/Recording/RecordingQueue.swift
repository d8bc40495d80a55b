import Dispatch
import Foundation
import Synchronization
import System

/// A task of the log's writer.
enum WriterTask {
    /// Write the recorded recipients to the database.
    case store
    /// Add written detail rows to the tallies.
    case tally
    /// Delete data that is older than its retention or over the size limit.
    case prune
}

/// The queue between the sessions' threads, which record, and the writer's thread; with the requests to the writer and
/// the state of its database.
final class RecordingQueue: Sendable {
    /// A request to the writer by a thread that waits until it is done.
    final class Request: Sendable {
        let task: WriterTask
        private let answered = SteadySemaphore()
        private let isDone = Atomic<Bool>(false)

        init(_ task: WriterTask) { self.task = task }

        /// Ends the wait; the writer calls it.
        func answer(isDone: Bool) {
            self.isDone.store(isDone, ordering: .releasing)
            answered.signal()
        }

        /// Waits for the answer: whether the task is done.
        func wait() -> Bool {
            answered.wait()
            return isDone.load(ordering: .acquiring)
        }
    }

    private struct Requests {
        var requests: [Request] = []
        /// Whether the writer is to end.
        var isStopping = false
        /// Whether the writer has ended, and answers no more requests.
        var hasEnded = false
    }

    /// Facts beside the recipients that wait for the writer.
    struct Notes: Sendable {
        /// Indexes that came into force; while the database can't be written, the newest of them.
        var indexes: [RecordedIndex] = []
        /// Messages of unlisted senders.
        var senders = PendingSenders()
    }

    /// The state of the writer, for other threads.
    struct WriterState: Sendable {
        /// Why the database can't be written.
        var failure: PartFailure?
        /// The path to which the last damaged database was moved.
        var damagedCopy: String?
        /// Since when the writer has been working without a pause; nil while it waits for work.
        var workingSince: Date?
        /// Whether the process is about to end without waiting for the writer.
        var isAbandoned = false
    }

    static let stripeCount = 16

    let stripes: InlineArray<16, QueueStripe>
    let domains = NameRegistry(first: "", limit: Int(CounterKey.maximumSlot))
    let reasons = NameRegistry(first: "other", limit: Int(ReasonSlot.thinned.index))
    let written = Atomic<Int>(0)
    let thinned = Atomic<Int>(0)
    /// The recipients that the writer has taken and not written yet.
    let waiting = Atomic<Int>(0)
    /// Whether the writer has the database open.
    let isOpen = Atomic<Bool>(false)
    let totals = VerdictTotals()
    let accepted = AcceptedNetworks()
    /// Signalled when the writer has tried to open the database for the first time.
    let firstOpening = SteadySemaphore()
    /// How many seconds the writer may work before its disk counts as hanging.
    private let patience: TimeInterval

    /// Whether a session found every stripe full. Until the writer has made room, a session tries its own stripe only.
    private let isFull = Atomic<Bool>(false)
    private let wakeUp = SteadySemaphore()
    /// Whether the writer was woken and hasn't begun yet: saves a system call for each recipient of a flood.
    private let isWoken = Atomic<Bool>(false)
    private let requests = Mutex(Requests())
    private let notes = Mutex(Notes())
    let writer = Mutex(WriterState())

    init(detailCapacity: Int, patience: TimeInterval) {
        self.patience = patience
        stripes = InlineArray { _ in QueueStripe(detailCapacity: detailCapacity, counterPlaces: 256) }
    }

    // MARK: For the sessions' threads

    /// Counts the recipient, and keeps its detail row for the writer.
    ///
    /// - Parameter home: a number of the caller's thread; threads with different numbers mostly use different stripes.
    func record(_ event: borrowing RecipientEvent, home: Int) {
        let event = copy event
        if event.outcome == .accepted { accepted.insert(event.client, day: event.time / 86_400_000) }
        let minute = CounterKey.minute(ofMilliseconds: event.time)
        let key = CounterKey(
            minute: minute, slot: event.domain.index, reason: event.reason.index, outcome: event.outcome,
            observed: event.observed)
        var hasNoRoom = false
        let reach = isFull.load(ordering: .relaxed) ? 1 : Self.stripeCount
        for step in 0..<reach {
            let place = (home &+ step) & (Self.stripeCount - 1)
            switch stripes[place].state.withLockIfAvailable({ $0.add(event, key) }) {
            case .added: return
            case .addedAndHalfFull:
                wakeWriter()
                return
            case .noRoom: hasNoRoom = true
            case nil: break
            }
        }
        if hasNoRoom, reach > 1 { isFull.store(true, ordering: .relaxed) }
        // All stripes are full or locked. A lock is only ever held for a few copies.
        let place = home & (Self.stripeCount - 1)
        stripes[place].state.withLock { state in
            if hasNoRoom || state.add(event, key) == .noRoom { state.addThinned(key) }
        }
        wakeWriter()
    }

    /// Keeps the note of an index that came into force for the writer.
    func note(_ index: RecordedIndex) {
        notes.withLock { notes in
            if notes.indexes.count >= 1_000 { notes.indexes.removeFirst() }
            notes.indexes.append(index)
        }
        wakeWriter()
    }

    /// Keeps a message of an unlisted sender for the writer.
    func note(_ sender: UnlistedSender) {
        notes.withLock { $0.senders.add(sender) }
        wakeWriter()
    }

    // MARK: For other threads

    /// How many recipients are counted in memory only.
    var uncounted: Int {
        var sum = waiting.load(ordering: .relaxed)
        for place in 0..<Self.stripeCount { sum &+= stripes[place].state.withLock { $0.recipients } }
        return max(0, sum)
    }

    /// Has the writer do a task, and waits for it; false if the task failed, or the writer has ended.
    func request(_ task: WriterTask) -> Bool {
        let request = Request(task)
        let hasEnded = requests.withLock { requests in
            if !requests.hasEnded { requests.requests.append(request) }
            return requests.hasEnded
        }
        if hasEnded { return false }
        wakeUp.signal()
        return request.wait()
    }

    /// Tells the writer to end.
    func stop() {
        requests.withLock { $0.isStopping = true }
        wakeUp.signal()
    }

    var isAbandoned: Bool { writer.withLock { $0.isAbandoned } }

    /// Why the database can't be written: the last failure, or a disk that doesn't answer.
    func failure(path: String) -> PartFailure? {
        writer.withLock { writer in
            guard let since = writer.workingSince, case let age = Date().timeIntervalSince(since), age > patience
            else { return writer.failure }
            return PartFailure(
                reason: "the disk of the rejection log \(path) has not answered for \(Int(clamping: Int64(age))) s",
                advice: "see the kernel's messages about the disk: dmesg", since: writer.failure?.since ?? since)
        }
    }

    // MARK: For the writer

    /// Waits until there is work, for the time at most.
    ///
    /// - Parameter forRequests: whether only a request ends the wait early, not a recorded recipient.
    func wait(milliseconds: Int, forRequests: Bool) {
        let deadline = ContinuousClock.now + .milliseconds(milliseconds)
        while wakeUp.wait(within: deadline - .now) {
            if !forRequests || hasRequests { break }
        }
        isWoken.store(false, ordering: .releasing)
    }

    /// Whether a request waits, or the writer is to end.
    var hasRequests: Bool { requests.withLock { $0.isStopping || !$0.requests.isEmpty } }

    /// Removes and returns the requests; and whether the writer is to end.
    func drainRequests() -> (requests: [Request], isStopping: Bool) {
        requests.withLock { requests in
            defer { requests.requests = [] }
            return (requests.requests, requests.isStopping)
        }
    }

    /// Removes and returns the notes.
    func drainNotes() -> Notes {
        notes.withLock { notes in
            defer { notes = Notes() }
            return notes
        }
    }

    /// Notes that the writer has made room in a stripe.
    func noteRoom() {
        if isFull.load(ordering: .relaxed) { isFull.store(false, ordering: .relaxed) }
    }

    /// Notes that the writer begins to work.
    func beginWork() { writer.withLock { $0.workingSince = Date() } }

    /// Notes that the writer has nothing to do.
    func endWork() { writer.withLock { $0.workingSince = nil } }

    /// Notes that the writer has ended, and answers the open requests: not done.
    func end() {
        let left = requests.withLock { requests in
            requests.hasEnded = true
            return requests.requests
        }
        for request in left { request.answer(isDone: false) }
    }

    private func wakeWriter() {
        if !isWoken.load(ordering: .relaxed), !isWoken.exchange(true, ordering: .acquiringAndReleasing) {
            wakeUp.signal()
        }
    }
}

/// A part of a ``RecordingQueue``, with a lock of its own: a thread that finds its stripe locked uses the next stripe.
struct QueueStripe: ~Copyable {
    /// What the lock protects. The lock is held for a few copies, or for the writer's exchange of the buffers.
    struct State: Sendable {
        /// The number of different counters above which further ones are kept by the hour and without the domain: they
        /// need little memory even if the writer doesn't come for long.
        static let counterLimit = 16_384

        var details: DetailBuffer
        var counters: CounterTable
        /// How many recipients `counters` counts.
        var recipients = 0
        /// Whether `counters` has counts by the hour and without their domain.
        var isCoarse = false
        /// Whether detail rows are thinned out; the writer sets it while too many rows come.
        var thins = false

        enum Addition {
            /// The recipient is counted, and its detail row queued if it has one.
            case added
            /// Like ``added``; the queue is half full, so the writer should be woken.
            case addedAndHalfFull
            /// There is no room for the detail row: the recipient isn't counted either.
            case noRoom
        }

        /// Counts a recipient and queues its detail row; only counts it while detail rows are thinned out.
        mutating func add(_ event: borrowing RecipientEvent, _ key: CounterKey) -> Addition {
            if event.outcome == .accepted {
                count(key)
                return .added
            }
            if thins {
                addThinned(key)
                return .added
            }
            guard details.append(event) else { return .noRoom }
            count(key)
            return details.used &* 2 > details.capacity ? .addedAndHalfFull : .added
        }

        /// Counts a recipient, and a detail row that was thinned out.
        mutating func addThinned(_ key: CounterKey) {
            count(key)
            counters.add(.thinned(minute: counters.used < Self.counterLimit ? key.minute : key.ofItsHour.minute))
        }

        private mutating func count(_ key: CounterKey) {
            recipients &+= 1
            guard counters.used >= Self.counterLimit else { return counters.add(key) }
            isCoarse = true
            counters.add(key.ofItsHour)
        }
    }

    let state: Mutex<State>
    // Keeps neighbouring locks out of one cache line.
    private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)

    init(detailCapacity: Int, counterPlaces: Int) {
        state = Mutex(
            State(details: DetailBuffer(capacity: detailCapacity), counters: CounterTable(places: counterPlaces)))
    }

    deinit {
        state.withLock {
            $0.details.deallocate()
            $0.counters.deallocate()
        }
    }
}
