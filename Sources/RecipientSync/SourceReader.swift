import Foundation
import Glibc
import RecipientSources
import Synchronization
import System

/// What a pull gave, and where its entries are.
struct SourceResult {
    var outcome: Result<Pull, SyncError>
    var report: SourceReport
    var intake: EntryIntake
    /// In seconds.
    var duration: Double
}

// Made by the thread of the pull, and handed over when that has ended.
extension SourceResult: @unchecked Sendable {}

/// What a pull is begun with.
struct PullOrder: Sendable {
    /// What the state knows of the source.
    var previous: SourceRecord?
    /// Tells the configuration and domains that it is read under from others.
    var fingerprint: String
    var isStaying: Bool
    var readsAll: Bool
    var isNews: Bool
    var acceptsReferences: Bool
    var filters: [DomainFilter]
    /// Where entries are put that don't fit into memory.
    var folder: String
    /// How many bytes of entries are kept in memory.
    var capacity: Int
    /// How long it may take.
    var deadline: Duration
}

/// Asked by several threads whether to give up, one at a time.
final class SharedCheck {
    private let check: () throws(SyncError) -> Void
    private let turn = Mutex(())

    init(_ check: @escaping () throws(SyncError) -> Void) { self.check = check }

    func callAsFunction() throws(SyncError) {
        let result = turn.withLock { _ in Result { () throws(SyncError) in try check() } }
        try result.get()
    }
}

// The closure is only called in one's turn.
extension SharedCheck: @unchecked Sendable {}

/// Reads a source on a thread of its own, so that it holds up nobody: one pull at a time, whose result waits until it is taken.
final class SourceReader: Sendable {
    /// One pull.
    final class Reading: Sendable {
        let order: PullOrder
        let since = Date()
        let began = ContinuousClock.now
        let progress = PullProgress()
        private let state = Mutex<SourceResult?>(nil)
        private let givenUp = Atomic(false)

        init(_ order: PullOrder) { self.order = order }

        var isDone: Bool { state.withLock { $0 != nil } }
        var result: SourceResult? { state.withLock { $0 } }
        func finish(_ result: SourceResult) { state.withLock { $0 = result } }

        var isOverdue: Bool { ContinuousClock.now - began >= order.deadline }

        /// Has the pull end at its next check.
        func giveUp() { givenUp.store(true, ordering: .sequentiallyConsistent) }

        /// Whether it was told to end; what it gives then is of no use.
        var isGivenUp: Bool { givenUp.load(ordering: .sequentiallyConsistent) }

        /// The error of a pull that took too long, or is given up.
        func check(_ name: String) throws(SyncError) {
            if isOverdue { throw deadlineError(name) }
            if isGivenUp {
                throw SyncError(.unreachable, "source \"\(name)\": reading was given up", source: name)
            }
        }

        func deadlineError(_ name: String) -> SyncError {
            SyncError(
                .unreachable,
                "source \"\(name)\": reading it took longer than \(order.deadline.text) (sync.deadline) and was given up after "
                    + "\(progress.entries) entries; see why it is slow, or set a longer deadline", source: name)
        }
    }

    let source: any RecipientSource
    /// The pull that is under way, or whose result waits.
    private let current = Mutex<Reading?>(nil)
    private let isHungUp = Atomic(false)
    /// Readable once a pull has ended that nobody waited for.
    private let ending = WakeUp()

    init(_ source: any RecipientSource) { self.source = source }

    var configuration: SourceConfiguration { source.configuration }

    /// The pull that is under way, or whose result waits.
    var reading: Reading? { current.withLock { $0 } }

    /// Whether a pull is under way: until it ends, nothing else is asked of the source.
    var isBusy: Bool { reading.map { !$0.isDone } ?? false }

    /// How far the pull is that is under way.
    var progress: SourceProgress? {
        guard let reading, !reading.isDone else { return nil }
        return SourceProgress(
            name: configuration.name, since: reading.since, entries: reading.progress.entries,
            waitsFor: reading.progress.waitsFor)
    }

    /// Begins a pull; the source isn't busy.
    func start(_ order: PullOrder, _ check: SharedCheck) -> Reading {
        let reading = Reading(order)
        current.withLock { $0 = reading }
        NamedThread.start("source", stackSize: 1 << 20) { [self] in
            let intake = EntryIntake(
                folder: order.folder, filters: order.filters, capacity: order.capacity, progress: reading.progress)
            var report = SourceReport()
            let name = configuration.name
            let request = PullRequest(
                previous: order.previous?.previous, isStaying: order.isStaying, readsAll: order.readsAll,
                isNews: order.isNews,
                acceptsReferences: order.acceptsReferences
            ) { () throws(SourceError) in
                try askingSync { () throws(SyncError) in
                    try reading.check(name)
                    try check()
                }
            }
            let outcome = Result { () throws(SyncError) in
                try translatingErrors { () throws(SourceError) in
                    try source.pull(request, into: intake, report: &report)
                }
            }
            let duration = (ContinuousClock.now - reading.began) / .seconds(1)
            reading.finish(SourceResult(outcome: outcome, report: report, intake: intake, duration: duration))
            if isHungUp.load(ordering: .sequentiallyConsistent) { source.hangUp() }
            ending.signal()
        }
        return reading
    }

    /// Hands over the result of the last pull, if it has ended; once.
    func take() -> SourceResult? {
        current.withLock { reading -> SourceResult? in
            guard let result = reading?.result else { return nil }
            reading = nil
            ending.clear()
            return result
        }
    }

    // MARK: RecipientSource

    func relayDomains(_ request: PullRequest) throws(SyncError) -> [RelayDomain]? {
        let deadline = ContinuousClock.now + Self.patienceForDomains
        let name = configuration.name
        var bounded = request
        bounded.check = { () throws(SourceError) in
            try request.check()
            guard ContinuousClock.now < deadline else {
                throw SourceError(
                    .unreachable,
                    "source \"\(name)\": its relay domains took longer than \(Self.patienceForDomains.text) to read",
                    source: name)
            }
        }
        return try translatingErrors { () throws(SourceError) in try source.relayDomains(bounded) }
    }

    /// Relay domains are few.
    private static let patienceForDomains = Duration.seconds(60)

    func isReconciliationDue(_ record: SourceRecord, now: Date) -> Bool {
        source.isReconciliationDue(record.previous, now: now)
    }

    var newsDescriptor: Int32? { reading == nil ? source.newsDescriptor : ending.descriptor }

    func hasNews() -> Bool {
        guard let reading else { return source.hasNews() }
        // Emptied first: what comes later wakes again.
        ending.clear()
        return reading.isDone
    }

    func hangUp() {
        isHungUp.store(true, ordering: .sequentiallyConsistent)
        if isBusy {
            reading?.giveUp()
            source.interrupt()
        } else {
            source.hangUp()
        }
    }

    func interrupt() {
        reading?.giveUp()
        source.interrupt()
    }

    var restsUntil: ContinuousClock.Instant? { source.restsUntil }
}
