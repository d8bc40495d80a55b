import Dispatch
import Foundation
import Synchronization
import System

/// What the callers' threads and the writer share.
final class LogCore: Sendable {
    /// A wish of a caller who waits for its fulfilment.
    final class Ticket: Sendable {
        enum Wish { case store, prune, tally }
        let wish: Wish
        let done = SteadySemaphore()
        let fulfilled = Atomic<Bool>(false)

        init(_ wish: Wish) {
            self.wish = wish
        }

        func answer(_ value: Bool) {
            fulfilled.store(value, ordering: .releasing)
            done.signal()
        }
    }

    private struct Requests {
        var tickets: [Ticket] = []
        /// Indexes that came into force; the newest ones where the database is long out of reach.
        var indexes: [RecordedIndex] = []
        /// Asked to end.
        var stopping = false
        /// Has ended: nobody answers tickets any more.
        var ended = false
    }

    /// How the database is doing.
    private struct Condition {
        var failure: PartFailure?
        var damagedCopy: String?
        /// Since when the writer has been at work without a rest; nil while it rests.
        var busySince: Date?
        /// Nobody waits for the writer any more: the process is about to end.
        var isAbandoned = false
    }

    static let stripeCount = 16

    let stripes: InlineArray<16, Stripe>
    let domains = NameRegistry(first: "", limit: Int(CounterKey.maximumSlot))
    let reasons = NameRegistry(first: "other", limit: Int(ReasonSlot.thinned.index))
    let written = Atomic<Int>(0)
    let thinned = Atomic<Int>(0)
    /// Recipients that the writer has taken over and not yet written.
    let waiting = Atomic<Int>(0)
    /// True while the writer has the database open.
    let isOpen = Atomic<Bool>(false)
    let totals = VerdictTotals()
    let accepted = AcceptedNetworks()
    /// Seconds that the writer may be at work before its disk is said to hang.
    private let patience: TimeInterval

    /// Every stripe was found full: until the writer has come, callers don't look further than their own.
    private let saturated = Atomic<Bool>(false)
    /// Rung when the writer has tried to open the database for the first time.
    let beginning = SteadySemaphore()
    private let bell = SteadySemaphore()
    /// The bell has been rung and not yet heard: saves ringing (a system call) for each record of a flood.
    private let rung = Atomic<Bool>(false)
    private let requests = Mutex(Requests())
    private let senders = Mutex(PendingSenders())
    private let condition = Mutex(Condition())

    init(detailCapacity: Int, patience: TimeInterval) {
        self.patience = patience
        stripes = InlineArray { _ in Stripe(detailCapacity: detailCapacity, counterPlaces: 256) }
    }

    /// How many recipients are counted in memory only.
    var uncounted: Int {
        var sum = waiting.load(ordering: .relaxed)
        for place in 0..<Self.stripeCount { sum &+= stripes[place].state.withLock { $0.recipients } }
        return max(0, sum)
    }

    func record(_ event: borrowing LogEvent, home: Int) {
        let event = copy event
        if event.outcome == .accepted { accepted.insert(event.client, day: event.time / 86_400_000) }
        let minute = CounterKey.minute(ofMilliseconds: event.time)
        let key = CounterKey(
            minute: minute, slot: event.domain.index, reason: event.reason.index, outcome: event.outcome,
            observed: event.observed)
        var full = false
        let reach = saturated.load(ordering: .relaxed) ? 1 : Self.stripeCount
        for step in 0..<reach {
            let place = (home &+ step) & (Self.stripeCount - 1)
            switch stripes[place].state.withLockIfAvailable({ $0.add(event, key) }) {
            case .done: return
            case .filling:
                ring()
                return
            case .full: full = true
            case nil: break
            }
        }
        if full, reach > 1 { saturated.store(true, ordering: .relaxed) }
        // Full or busy everywhere. A lock is only ever held for a few copies.
        let place = home & (Self.stripeCount - 1)
        stripes[place].state.withLock { state in
            if full || state.add(event, key) == .full { state.addThinned(key) }
        }
        ring()
    }

    /// The writer has made room.
    func relieve() {
        if saturated.load(ordering: .relaxed) { saturated.store(false, ordering: .relaxed) }
    }

    func ring() {
        if !rung.load(ordering: .relaxed), !rung.exchange(true, ordering: .acquiringAndReleasing) {
            bell.signal()
        }
    }

    /// The writer waits here; `patient`: until the time is over or somebody waits for an answer, whatever the bell says.
    func wait(milliseconds: Int, patient: Bool) {
        let deadline = ContinuousClock.now + .milliseconds(milliseconds)
        while bell.wait(within: deadline - .now) {
            if !patient || hasRequests { break }
        }
        rung.store(false, ordering: .releasing)
    }

    /// True if somebody waits for the writer or wants it to end.
    var hasRequests: Bool { requests.withLock { $0.stopping || !$0.tickets.isEmpty } }

    func takeTickets() -> (tickets: [Ticket], stopping: Bool) {
        requests.withLock { requests in
            let tickets = requests.tickets
            requests.tickets = []
            return (tickets, requests.stopping)
        }
    }

    /// Keeps an index's note for the writer's next round.
    func note(_ index: RecordedIndex) {
        requests.withLock { requests in
            if requests.indexes.count >= 1_000 { requests.indexes.removeFirst() }
            requests.indexes.append(index)
        }
        ring()
    }

    /// The indexes noted since the last call.
    func takeIndexes() -> [RecordedIndex] {
        requests.withLock { requests in
            defer { requests.indexes = [] }
            return requests.indexes
        }
    }

    /// Keeps a message of an unlisted sender for the writer's next round.
    func note(_ sender: UnlistedSender) {
        senders.withLock { $0.add(sender) }
        ring()
    }

    /// The messages of unlisted senders since the last call.
    func takeSenders() -> PendingSenders {
        senders.withLock { senders in
            defer { senders.removeAll() }
            return senders
        }
    }

    /// Called by the writer when it begins to work.
    func begin() { condition.withLock { $0.busySince = Date() } }

    /// Called by the writer when it has nothing to do.
    func rest() { condition.withLock { $0.busySince = nil } }

    func setFailure(_ failure: PartFailure?) { condition.withLock { $0.failure = failure } }

    func setDamagedCopy(_ path: String) { condition.withLock { $0.damagedCopy = path } }

    /// Where the last damaged database was moved to.
    var damagedCopy: String? { condition.withLock { $0.damagedCopy } }

    /// Why the database can't be written; also if the writer has been waiting for its disk for long.
    func failure(path: String) -> PartFailure? {
        condition.withLock { condition in
            guard let since = condition.busySince, case let age = Date().timeIntervalSince(since), age > patience
            else { return condition.failure }
            return PartFailure(
                reason: "the disk of the rejection log \(path) has not answered for \(Int(clamping: Int64(age))) s",
                advice: "see the kernel's messages about the disk: dmesg", since: condition.failure?.since ?? since)
        }
    }

    /// Called by whoever no longer waits for the writer.
    func abandon() { condition.withLock { $0.isAbandoned = true } }

    var isAbandoned: Bool { condition.withLock { $0.isAbandoned } }

    /// Called by the writer as its last act.
    func end() {
        let left = requests.withLock { requests in
            requests.ended = true
            return requests.tickets
        }
        for ticket in left { ticket.answer(false) }
    }

    /// Returns when the writer has fulfilled the wish: false if it couldn't, or has ended.
    func request(_ wish: Ticket.Wish) -> Bool {
        let ticket = Ticket(wish)
        let ended = requests.withLock { requests in
            if !requests.ended { requests.tickets.append(ticket) }
            return requests.ended
        }
        if ended { return false }
        bell.signal()
        ticket.done.wait()
        return ticket.fulfilled.load(ordering: .acquiring)
    }

    func stop() {
        requests.withLock { $0.stopping = true }
        bell.signal()
    }
}

/// One of several places to which the callers' threads spread: whoever finds a stripe busy takes the next.
struct Stripe: ~Copyable {
    /// What is under the lock; held for a few copies, or for the exchange of the two handles.
    struct State: Sendable {
        /// More different counters than this are kept by the hour and without the domain, so that they need little room however
        /// long the writer doesn't come.
        static let counterLimit = 16_384

        var details: DetailBuffer
        var counters: CounterTable
        /// How many recipients `counters` holds.
        var recipients = 0
        /// True while `counters` holds counts under another minute or domain than their own.
        var isCoarse = false
        /// Set by the writer while more detail rows come than it is to keep.
        var thins = false

        /// What became of a record.
        enum Admission {
            /// Counted, and its detail row queued if it has one.
            case done
            /// The same, and the writer should come before its time.
            case filling
            /// Nothing happened: the detail row doesn't fit.
            case full
        }

        /// Counts and queues, or neither; counts alone while details are thinned out.
        mutating func add(_ event: borrowing LogEvent, _ key: CounterKey) -> Admission {
            if event.outcome == .accepted {
                count(key)
                return .done
            }
            if thins {
                addThinned(key)
                return .done
            }
            guard details.append(event) else { return .full }
            count(key)
            return details.used &* 2 > details.capacity ? .filling : .done
        }

        /// Counts without a detail row, which is counted as thinned out.
        mutating func addThinned(_ key: CounterKey) {
            count(key)
            counters.add(.thinned(minute: counters.used < Self.counterLimit ? key.minute : key.ofItsHour.minute))
        }

        private mutating func count(_ key: CounterKey) {
            recipients &+= 1
            guard counters.used >= Self.counterLimit else { return counters.add(key) }
            // The writer hasn't come for long: its disk hangs.
            isCoarse = true
            counters.add(key.ofItsHour)
        }
    }

    let state: Mutex<State>
    // Keeps the locks of neighbours out of one cache line.
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
