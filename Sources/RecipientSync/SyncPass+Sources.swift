import Foundation
import Glibc
import RecipientSources
import System

extension SyncPass {
    /// How long the sync waits for the end of a reading that it has cancelled.
    private static let patienceForEnd = Duration.seconds(3)
    /// How long a sync thread waits for a source whose last list can be used.
    static let patience = Duration.seconds(1)

    /// Reads every source that is due, side by side, also after one failed, so that all failures are reported at once.
    ///
    /// A sync thread doesn't wait long for a source whose last list can be used: the reading goes on, and a later pass uses its result.
    /// This pass removes the source from those that are due.
    func readSources() throws(SyncError) {
        let check = SharedCheck(options.check)
        let due = sources.indices.filter { place in
            domainFailures[place] == nil
                && (options.isDue(place) || previous.validRecord(of: sources[place].configuration) == nil)
        }
        let filters = previous.domainFilters
        var readings: [Int: SourceReader.Reading] = [:]
        for place in due {
            let source = sources[place].configuration
            let order = SourceReader.Order(
                previous: previous.validRecord(of: source), fingerprint: previous.fingerprint(of: source),
                keepsConnections: options.isThread, readsAll: options.readsAll, hasReportedChange: options.due != nil,
                acceptsNewReferences: options.acceptsShrink, domains: filters[place],
                folder: folder(of: configuration.statePath), capacity: max(1 << 20, (8 << 20) / due.count),
                deadline: configuration.deadline)
            readings[place] = try reading(of: sources[place], order, check)
        }
        let pending = try wait(for: readings, check)
        if !pending.isEmpty { options.due = (options.due ?? Set(sources.indices)).subtracting(pending) }
        try collect(readings, pending: pending)
    }

    /// The reading of a source: the running one if it fits the order, or a new one.
    private func reading(
        of source: SourceReader, _ order: SourceReader.Order, _ check: SharedCheck
    ) throws(SyncError) -> SourceReader.Reading {
        guard let reading = source.reading else { return source.start(order, check) }
        let fits =
            !reading.isGivenUp && reading.order.fingerprint == order.fingerprint
            && reading.order.previous?.cursor == order.previous?.cursor
        if fits { return reading }
        // The reading under way is for other domains.
        if !reading.isDone { source.interrupt() }
        let limit = ContinuousClock.now + Self.patienceForEnd
        while !reading.isDone, ContinuousClock.now < limit {
            try check()
            usleep(5_000)
        }
        guard reading.isDone else { return reading }
        _ = source.removeResult()
        return source.start(order, check)
    }

    /// Waits until all readings have ended, or as long as they are worth waiting for.
    ///
    /// - Returns: the indices in `configuration.sources` of the sources that are still being read.
    private func wait(
        for readings: [Int: SourceReader.Reading], _ check: SharedCheck
    ) throws(SyncError) -> Set<Int> {
        let began = ContinuousClock.now
        var pause: UInt32 = 500
        do throws(SyncError) {
            while true {
                let open = readings.filter { !$0.value.isDone }
                for (place, reading) in open where reading.isOverdue { sources[place].source.interrupt() }
                let waits = open.values.contains { reading in
                    ContinuousClock.now - reading.began < reading.order.deadline + Self.patienceForEnd
                        && (!options.isThread || reading.order.previous == nil
                            || ContinuousClock.now - began < Self.patience)
                }
                if !waits { return Set(open.keys) }
                try check()
                usleep(pause)
                pause = min(pause * 2, 20_000)
            }
        } catch {
            for place in readings.keys { sources[place].interrupt() }
            throw error
        }
    }

    /// Puts the results of all sources together, in the order of the configuration.
    private func collect(_ readings: [Int: SourceReader.Reading], pending: Set<Int>) throws(SyncError) {
        var errors: [SyncError] = []
        var parts: [(place: Int, entries: SourceEntries)] = []
        for (place, source) in sources.enumerated() {
            let name = source.configuration.name
            let record = previous.validRecord(of: source.configuration)
            var described = SourceState(name: name, type: source.configuration.type)
            var read: SourceEntries?
            let result: Result<SourceResult, SyncError>
            if let error = domainFailures[place] {
                result = .failure(error)
            } else if let reading = readings[place], let ended = reading.isDone ? source.removeResult() : nil {
                (described.report, described.duration) = (ended.report, ended.duration)
                (result, read) = (ended.result, ended.entries)
            } else if let reading = readings[place], record == nil || reading.isOverdue {
                result = .failure(reading.deadlineError(name))
            } else {
                // The source isn't read now. If the last sync could not read it, it has still failed.
                described.failure = previous.failures[name]?.text
                described.progress = pending.contains(place) ? source.progress : nil
                result = .success(
                    SourceResult(
                        reading: described.failure == nil ? .unchanged : .failed,
                        asOf: record?.lastSynced ?? .distantPast, cursor: record?.cursor))
            }
            do throws(SyncError) {
                let result = try result.get()
                complete(&described, result, last: record?.state, changes: read?.changes, isRead: read != nil)
                report.notes += described.report.remarks.map { "source \"\(name)\": \($0)" }
                described.report.remarks = []
                results.append(result)
                if let read { parts.append((place, read)) }
                if record == nil, previous.isSound, previous.records[name] != nil {
                    report.notes.append(
                        "source \"\(name)\" was read in full: its configuration, its relay domains or how Postern reads it changed"
                    )
                }
            } catch {
                if error.kind == .cancelled { throw error }
                let duration = described.duration
                if let last = record?.state { described = last }
                (described.reading, described.failure) = (.failed, error.description)
                (described.lastSynced, described.duration) = (record?.lastSynced, duration)
                errors.append(error)
                results.append(
                    SourceResult(reading: .failed, asOf: record?.lastSynced ?? .distantPast, cursor: record?.cursor))
            }
            described.failedAt = described.failure == nil ? nil : report.started
            report.sources.append(described)
        }
        try throwUnlessUsable(errors)
        entries = JoinedEntries(parts)
    }

    /// Completes the description of a source that wasn't read in full with what is known of the rest.
    ///
    /// - Parameter isRead: whether the source was asked at all.
    private func complete(
        _ described: inout SourceState, _ result: SourceResult, last: SourceState?, changes: ObjectChanges?,
        isRead: Bool
    ) {
        described.reading = result.reading
        described.lastSynced = result.asOf
        guard result.reading != .full, let last else { return }
        let now = described
        if result.reading == .changes {
            func isReplaced(_ object: [UInt8]) -> Bool { changes?.replaces(object) ?? false }
            described.report.faults = last.report.faults
            described.report.faults.replace(with: now.report.faults, replaced: isReplaced)
            described.report.doubts = last.report.doubts
            described.report.doubts.replace(with: now.report.doubts, replaced: isReplaced)
            described.report.nextExpiry = [last.report.nextExpiry, now.report.nextExpiry].compactMap { $0 }.min()
            return
        }
        described.report = last.report
        described.recipients = last.recipients
        described.report.remarks = now.report.remarks
        described.report.server = now.report.server ?? last.report.server
        if isRead { described.report.domainFaults = now.report.domainFaults }
    }

    /// Goes on without the sources that can't be reached if their last list can be used.
    private func throwUnlessUsable(_ errors: [SyncError]) throws(SyncError) {
        guard let first = errors.first else { return }
        let grave = errors.first { $0.kind != .unreachable }
        let missing = report.failures.filter { failed in
            configuration.sources.first { $0.name == failed.name }.flatMap { previous.validRecord(of: $0) } == nil
        }
        guard grave != nil || !missing.isEmpty || errors.count == sources.count else {
            report.notes += report.failures.map {
                "source \"\($0.name)\" can't be read now: its last list stays in use"
            }
            return
        }
        throw SyncError(
            (grave ?? first).kind, errors.map(\.description).joined(separator: "\n"), source: (grave ?? first).source,
            sources: report.sources)
    }
}
