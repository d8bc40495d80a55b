import Foundation
import Glibc
import RecipientIndex
import RecipientSources
import Synchronization
import System

/// Reads a source on a thread of its own, so that a slow source delays no other. One reading at a time; its result waits until it is
/// removed.
final class SourceReader: Sendable {
    /// A request to read one source.
    struct Order: Sendable {
        /// The row of the source in the sync state, if its entries are right under this configuration.
        var previous: SourceRecord?
        /// The fingerprint of the configuration and domains for which it is read.
        var fingerprint: String
        /// Whether a sync thread runs the sync: connections stay open for the next one.
        var keepsConnections: Bool
        var readsAll: Bool
        var hasReportedChange: Bool
        var acceptsNewReferences: Bool
        var domains: DomainFilter
        /// Where entries are written that don't fit into memory.
        var folder: String
        /// How many bytes of entries are kept in memory.
        var capacity: Int
        /// How long it may take.
        var deadline: Duration
    }

    /// The result of a reading.
    struct EndedReading {
        var result: Result<SourceResult, SyncError>
        var report: SourceReport
        var entries: SourceEntries
        /// In seconds.
        var duration: Double
    }

    /// A reading that runs, or has ended and whose result wasn't fetched yet.
    final class Reading: Sendable {
        let order: Order
        let since = Date()
        let began = ContinuousClock.now
        let progress = ReadingProgress()
        private let ended = Mutex<EndedReading?>(nil)
        private let givenUp = Atomic(false)

        init(_ order: Order) { self.order = order }

        var isDone: Bool { result != nil }
        var result: EndedReading? { ended.withLock { $0 } }
        func end(with result: EndedReading) { ended.withLock { $0 = result } }

        var isOverdue: Bool { ContinuousClock.now - began >= order.deadline }

        /// Makes the reading end at its next check.
        func giveUp() { givenUp.store(true, ordering: .sequentiallyConsistent) }

        /// Whether the sync has cancelled the reading; its result is useless then.
        var isGivenUp: Bool { givenUp.load(ordering: .sequentiallyConsistent) }

        /// Throws if the reading takes too long or is cancelled.
        func check(_ name: String) throws(SyncError) {
            if isOverdue { throw deadlineError(name) }
            if isGivenUp {
                throw SyncError(.unreachable, "source \"\(name)\": the sync ended the reading", source: name)
            }
        }

        func deadlineError(_ name: String) -> SyncError {
            SyncError(
                .unreachable,
                "source \"\(name)\": reading took longer than \(order.deadline.inSeconds) (sync.deadline) and was given up after "
                    + "\(progress.entries) entries; find out why it is slow, or set a longer deadline", source: name)
        }
    }

    /// How long reading the relay domains of a source, which are few, may take.
    private static let patienceForDomains = Duration.seconds(60)

    let source: any RecipientSource
    private let current = Mutex<Reading?>(nil)
    private let isClosed = Atomic(false)
    /// Readable once a reading has ended that nobody waited for.
    private let ending = WakeUp()

    init(_ source: any RecipientSource) { self.source = source }

    var configuration: SourceConfiguration { source.configuration }

    /// The reading that runs, or has ended and whose result wasn't fetched yet; nil if there is none.
    var reading: Reading? { current.withLock { $0 } }

    /// Whether a reading runs: until it ends, nothing else is asked of the source.
    var isBusy: Bool { reading.map { !$0.isDone } ?? false }

    /// The progress of the running reading; nil if none runs.
    var progress: SourceProgress? {
        guard let reading, !reading.isDone else { return nil }
        return SourceProgress(
            name: configuration.name, since: reading.since, entries: reading.progress.entries,
            waitsFor: reading.progress.waitsFor)
    }

    /// Begins a reading; the source isn't busy.
    func start(_ order: Order, _ check: SharedCheck) -> Reading {
        let reading = Reading(order)
        current.withLock { $0 = reading }
        NamedThread.start("source", stackSize: 1 << 20) { [self] in
            reading.end(with: read(reading, check))
            if isClosed.load(ordering: .sequentiallyConsistent) { source.closeConnections() }
            ending.signal()
        }
        return reading
    }

    private func read(_ reading: Reading, _ check: SharedCheck) -> EndedReading {
        let order = reading.order
        let name = configuration.name
        let entries = SourceEntries(
            folder: order.folder, domains: order.domains, capacity: order.capacity, progress: reading.progress)
        var report = SourceReport()
        let request = ReadRequest(
            previous: order.previous?.previous, keepsConnections: order.keepsConnections, readsAll: order.readsAll,
            hasReportedChange: order.hasReportedChange, acceptsNewReferences: order.acceptsNewReferences
        ) { () throws(SourceError) in
            try askingSync { () throws(SyncError) in
                try reading.check(name)
                try check()
            }
        }
        let result = Result { () throws(SyncError) in
            try translatingErrors { () throws(SourceError) in try source.read(request, into: entries, report: &report) }
        }
        let duration = (ContinuousClock.now - reading.began) / .seconds(1)
        return EndedReading(result: result, report: report, entries: entries, duration: duration)
    }

    /// Removes and returns the result of the last reading, if it has ended.
    func removeResult() -> EndedReading? {
        current.withLock { reading -> EndedReading? in
            guard let result = reading?.result else { return nil }
            reading = nil
            ending.clear()
            return result
        }
    }

    /// The relay domains that the source names; nil if it isn't asked for any.
    func relayDomains(_ request: ReadRequest) throws(SyncError) -> [RelayDomain]? {
        let deadline = ContinuousClock.now + Self.patienceForDomains
        let name = configuration.name
        var bounded = request
        bounded.check = { () throws(SourceError) in
            try request.check()
            guard ContinuousClock.now < deadline else {
                throw SourceError(
                    .unreachable,
                    "source \"\(name)\": reading its relay domains took longer than \(Self.patienceForDomains.inSeconds)",
                    source: name)
            }
        }
        return try translatingErrors { () throws(SourceError) in try source.relayDomains(bounded) }
    }

    // MARK: News

    /// A descriptor that becomes readable when the source reports a change, or when a reading ends after the sync went
    /// on without it.
    var changeDescriptor: Int32? { reading == nil ? source.changeDescriptor : ending.descriptor }

    /// Whether the source has reported a change, or a reading has ended after the sync went on without it.
    func hasReportedChanges() -> Bool {
        guard let reading else { return source.hasReportedChanges() }
        // Emptied first: a reading that ends now makes it readable again.
        ending.clear()
        return reading.isDone
    }

    // MARK: The end

    /// Closes the source's connections, at once or when the running reading has ended.
    func closeConnections() {
        isClosed.store(true, ordering: .sequentiallyConsistent)
        if isBusy { interrupt() } else { source.closeConnections() }
    }

    /// Makes the running reading end soon.
    func interrupt() {
        reading?.giveUp()
        source.interrupt()
    }
}

// Made by the thread of the reading, and used by others only when that has ended.
extension SourceReader.EndedReading: @unchecked Sendable {}

/// A check that several threads call, one at a time.
final class SharedCheck {
    private let check: () throws(SyncError) -> Void
    private let turn = Mutex(())

    init(_ check: @escaping () throws(SyncError) -> Void) { self.check = check }

    func callAsFunction() throws(SyncError) {
        let result = turn.withLock { _ in Result { () throws(SyncError) in try check() } }
        try result.get()
    }
}

// The closure is called by one thread at a time.
extension SharedCheck: @unchecked Sendable {}

/// Wakes a thread that waits in poll(2), through a pipe.
final class WakeUp: Sendable {
    /// Readable once it was signalled.
    let descriptor: Int32
    private let writing: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        _ = pipe(&ends)
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        (descriptor, writing) = (ends[0], ends[1])
    }

    deinit {
        close(descriptor)
        close(writing)
    }

    func signal() { _ = write(writing, [0], 1) }

    /// Makes the descriptor unreadable again.
    func clear() {
        var bytes: [UInt8] = [0, 0, 0, 0]
        while read(descriptor, &bytes, bytes.count) > 0 {}
    }
}
