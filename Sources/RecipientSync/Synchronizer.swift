import Foundation
import GRDB
import Glibc
import MailAddress
import RecipientIndex
import RecipientSources
import System

/// Reads the sources, judges the list they give, and publishes it.
///
/// A run takes the lock, makes the snapshot good if a crash left it behind the state, reads the sources, compares their list with
/// the state's, asks the guards, commits the new list and makes the snapshot from it. Whatever fails on the way, the snapshot
/// in force is that of a list which passed the guards.
public final class Synchronizer: Sendable {
    /// A moment of a run that tests stop at.
    enum Step: CaseIterable {
        case opened, pulled, judged, committed, published
    }

    let configuration: SyncConfiguration
    let sources: [SourceReader]
    /// Keys in order.
    let canaries: [String]
    let clock: SyncClock
    let hook: @Sendable (Step) throws(SyncError) -> Void

    /// A synchronizer for this configuration; touches no file.
    ///
    /// - Throws: `SyncError` of kind `configuration` for names used twice and canaries that aren't addresses.
    public convenience init(_ configuration: SyncConfiguration) throws(SyncError) {
        try self.init(configuration) { _ throws(SyncError) in }
    }

    /// - Parameter sources: in place of those of the configuration.
    init(
        _ configuration: SyncConfiguration, sources: [any RecipientSource]? = nil, clock: SyncClock = .machine,
        hook: @escaping @Sendable (Step) throws(SyncError) -> Void
    ) throws(SyncError) {
        self.configuration = configuration
        self.clock = clock
        self.hook = hook
        var names: Set<String> = []
        for source in configuration.sources where !names.insert(source.name).inserted {
            throw SyncError(
                .configuration, "two sources have the name \"\(source.name)\"; the state needs to tell them apart")
        }
        try translatingErrors { () throws(SourceError) in try DirectoryEnvironment.check(configuration.sources) }
        self.sources = (sources ?? Self.sources(configuration)).map(SourceReader.init)
        var keys: Set<String> = []
        for canary in configuration.canaries {
            do throws(AddressError) {
                let address = try RecipientAddress(path: canary)
                if address.hasDomain {
                    keys.insert(address.key)
                    continue
                }
            } catch {
                throw SyncError(.configuration, "the canary \"\(canary)\" is not an address: \(error)")
            }
            throw SyncError(.configuration, "the canary \"\(canary)\" has no domain; accepted: user@domain")
        }
        canaries = keys.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
    }

    private static func sources(_ configuration: SyncConfiguration) -> [any RecipientSource] {
        let folder = folder(of: configuration.statePath)
        return configuration.sources.enumerated().map { $1.source(at: $0, folder: folder) }
    }

    /// The sources that are being read now, with how far they are; on any thread, without waiting.
    public var progress: [SourceProgress] { sources.compactMap(\.progress) }

    /// Opens the state once, creating it if there is none, and tells whether the snapshot can be written, so that a daemon
    /// learns of it at its start.
    ///
    /// - Throws: `SyncError` of kind `state`.
    public func prepare() throws(SyncError) {
        let place = folder(of: configuration.indexPath)
        guard access(place, W_OK | X_OK) == 0 else {
            throw SyncError(
                .state, "the index \(configuration.indexPath) can't be written: \(place): \(systemMessage())")
        }
        var status = stat()
        if stat(configuration.indexPath, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            throw SyncError(.state, "the index \(configuration.indexPath) can't be written: it is no regular file")
        }
        _ = try SyncState(path: configuration.statePath)
    }

    /// Reads all sources once and publishes what they list.
    ///
    /// A source that can't be reached keeps its last list, and the others are still published; it shows in the report's
    /// `failures`. The first time, and when all fail, that is an error. So is a malformed line in any source.
    ///
    /// - Parameters:
    ///   - dryRun: write neither state nor snapshot; a refusal is then told in the report instead of thrown.
    ///   - acceptShrink: let this run drop more than `max_shrink` allows; `minimum` and `canaries` hold nevertheless.
    /// - Throws: `SyncError`; the snapshot in force is then the one that was.
    ///   - readsAll: read every source in full, though only what has changed would do.
    public func run(
        dryRun: Bool = false, acceptShrink: Bool = false, readsAll: Bool = false
    ) throws(SyncError) -> SyncReport {
        let scope = Scope(readsAll: readsAll, acceptsReferences: acceptShrink)
        return try run(dryRun: dryRun, acceptShrink: acceptShrink, scope: scope) { () throws(SyncError) in }
    }

    /// Which sources a run reads, and how.
    struct Scope {
        /// By place; nil for all.
        var due: Set<Int>?
        /// Whether a thread goes on afterwards, for which connections may be kept.
        var isStaying = false
        /// Whether to read all of what is due, whatever is known.
        var readsAll = false
        /// Whether a person accepts search references that are new.
        var acceptsReferences = false

        func isDue(_ place: Int) -> Bool { due?.contains(place) ?? true }

        /// Whether all sources are read again whose list was refused.
        func covers(_ refusal: Refusal, _ sources: [SourceConfiguration]) -> Bool {
            guard let due, let names = refusal.sources else { return due == nil }
            return sources.indices.allSatisfy { due.contains($0) || !names.contains(sources[$0].name) }
        }

        /// The domains of a source change seldom: they are asked for when all is read, not at every change.
        func asksForDomains(_ place: Int) -> Bool { due == nil || readsAll && isDue(place) }
    }

    /// Runs, and then reads all of those sources again for which that is due.
    ///
    /// - Parameter check: called now and then; throws to give up.
    func run(
        dryRun: Bool, acceptShrink: Bool, scope: Scope = Scope(), check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> SyncReport {
        var report = try runOnce(dryRun: dryRun, acceptShrink: acceptShrink, scope: scope, check: check)
        if report.held > 0, !dryRun {
            // What came later is a list like any other.
            do throws(SyncError) {
                var scope = scope
                scope.acceptsReferences = false
                let later = try runOnce(dryRun: false, acceptShrink: false, scope: scope, check: check)
                report.append(later)
            } catch {
                throw SyncError(
                    error.kind,
                    "the list that was shown is accepted and published; more has gone since, which is judged by itself: "
                        + error.description, source: error.source, report: error.report, sources: error.sources,
                    advice: error.advice)
            }
        }
        guard !dryRun, !scope.readsAll, scope.due == nil else { return report }
        let late = try reconciliationsDue().subtracting(
            report.sources.indices.filter { report.sources[$0].failure != nil || report.sources[$0].reading == .full })
        guard !late.isEmpty else { return report }
        // What a person has accepted was the list before this one.
        let second = try runOnce(
            dryRun: false, acceptShrink: false,
            scope: Scope(due: late, isStaying: scope.isStaying, readsAll: true), check: check)
        report.append(reconciliation: second, of: late.sorted().map { sources[$0].configuration.name })
        return report
    }

    private func reconciliationsDue() throws(SyncError) -> Set<Int> {
        guard let state = try SyncState(reading: configuration.statePath) else { return [] }
        let records = try state.transaction(.deferred) { database in (try SyncState.sources(database), .commit) }
        let now = Date()
        return Set(
            sources.indices.filter { place in
                records.contains {
                    $0.name == sources[place].configuration.name && sources[place].isReconciliationDue($0, now: now)
                }
            })
    }

    private func runOnce(
        dryRun: Bool, acceptShrink: Bool, scope: Scope, check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> SyncReport {
        let began = ContinuousClock.now
        var report = SyncReport(started: Date())
        if dryRun {
            try tryOut(acceptShrink: acceptShrink, &report, scope, check)
        } else {
            let wasUsed = SyncState.wasUsed(configuration.statePath)
            // Before the lock beside it: its words for a missing folder are the better ones, and nothing is made beside a file of
            // somebody else's.
            if !wasUsed { try look() }
            try SyncState.createPrivately(configuration.statePath)
            let lock = try SyncLock(state: configuration.statePath, patience: .seconds(2), check: check)
            defer { lock.release() }
            do throws(SyncError) {
                try runTwiceIfDamaged(acceptShrink: acceptShrink, &report, scope, check)
            } catch {
                guard error.isDamage else { throw error }
                try check()
                let note = try setAside(error, wasUsed: wasUsed)
                report = SyncReport(started: report.started)
                report.notes.append(note)
                try beginAnew(after: note, acceptShrink: acceptShrink, &report, scope, check)
            }
        }
        report.duration = (ContinuousClock.now - began) / .seconds(1)
        return report
    }

    /// Runs on the state; a second time where it seems damaged, as a page that the disk couldn't give looks the same to SQLite.
    ///
    /// - Throws: an error that says damage only for a state that can be read and is damaged.
    private func runTwiceIfDamaged(
        acceptShrink: Bool, _ report: inout SyncReport, _ scope: Scope, _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) {
        let path = configuration.statePath
        do throws(SyncError) {
            return try run(
                SyncState(path: path), dryRun: false, acceptShrink: acceptShrink, &report, scope, check)
        } catch {
            guard error.isDamage else { throw error }
            if let code = FileProbe.failure(reading: [path, path + "-wal"]) {
                throw SyncError(
                    .state, "the sync state \(path) can't be read: \(systemMessage(code))",
                    advice: SyncState.advice(code, path: path))
            }
        }
        try check()
        report = SyncReport(started: report.started)
        try run(SyncState(path: path), dryRun: false, acceptShrink: acceptShrink, &report, scope, check)
    }

    /// Compares with the state, or with none where that is damaged.
    private func tryOut(
        acceptShrink: Bool, _ report: inout SyncReport, _ scope: Scope, _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) {
        do throws(SyncError) {
            let state: SyncState
            if let existing = try SyncState(reading: configuration.statePath) {
                state = existing
            } else {
                state = try SyncState()
            }
            try run(state, dryRun: true, acceptShrink: acceptShrink, &report, scope, check)
        } catch {
            guard error.isDamage else { throw error }
            try judge(error, wasUsed: SyncState.wasUsed(configuration.statePath))
            report = SyncReport(started: report.started)
            report.notes.append("\(error); a sync would move it aside and begin anew")
            try run(SyncState(), dryRun: true, acceptShrink: acceptShrink, &report, scope, check)
        }
    }

    /// An error if there is a file where no sync has been before, and it is no sync state.
    private func look() throws(SyncError) {
        do throws(SyncError) {
            _ = try SyncState(reading: configuration.statePath)
        } catch {
            guard error.isDamage else { throw error }
            try judge(error, wasUsed: false)
        }
    }

    /// An error unless a damaged file may be moved aside.
    private func judge(_ error: SyncError, wasUsed: Bool) throws(SyncError) {
        switch SyncState.wreck(configuration.statePath, wasUsed: wasUsed) {
        case .ours: return
        case .newer:
            throw SyncError(
                .state, "\(error); it is of a newer version, and was left alone",
                advice: "move it away with its -wal and -shm: the next sync makes a new one")
        case .foreign:
            throw SyncError(
                .state, "\(error); nothing shows that it ever was a sync state, so it was left alone",
                advice: "name another path as sync.state, or move that file away")
        }
    }

    /// Moves a damaged state out of the way; says so.
    private func setAside(_ error: SyncError, wasUsed: Bool) throws(SyncError) -> String {
        try judge(error, wasUsed: wasUsed)
        let place = try SyncState.moveAside(configuration.statePath)
        return "\(error); "
            + (place.map { "it was moved to \($0)" } ?? "it was removed, as several damaged ones are kept already")
            + ", and a new one is made from all sources"
    }

    private func beginAnew(
        after note: String, acceptShrink: Bool, _ report: inout SyncReport, _ scope: Scope,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) {
        do throws(SyncError) {
            try SyncState.createPrivately(configuration.statePath)
            let state = try SyncState(path: configuration.statePath)
            try run(state, dryRun: false, acceptShrink: acceptShrink, &report, scope, check)
        } catch {
            guard error.kind != .cancelled else { throw error }
            throw SyncError(
                error.kind, "\(note)\n\(error)", source: error.source, report: error.report, sources: error.sources,
                advice: error.advice)
        }
    }

    private func run(
        _ state: SyncState, dryRun: Bool, acceptShrink: Bool, _ report: inout SyncReport, _ scope: Scope,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) {
        do throws(SyncError) {
            try run(
                state, isSound: true, dryRun: dryRun, acceptShrink: acceptShrink, &report, scope, check)
        } catch {
            guard error.isUnsound else { throw error }
            try check()
            report = SyncReport(started: report.started)
            report.notes.append("\(error): all sources were read in full")
            try run(
                state, isSound: false, dryRun: dryRun, acceptShrink: acceptShrink, &report,
                Scope(isStaying: scope.isStaying, readsAll: true, acceptsReferences: scope.acceptsReferences), check)
        }
    }

    /// - Parameter isSound: whether the state's entries are believed to be those of its decision.
    private func run(
        _ state: SyncState, isSound: Bool, dryRun: Bool, acceptShrink: Bool, _ report: inout SyncReport, _ scope: Scope,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) {
        var known = try Knowledge(state, configuration, canaries: canaries, clock: clock, isSound: isSound)
        var baseline = try baseline(state, &known, dryRun: dryRun, &report, check)
        try hook(.opened)
        known.takeTables(from: baseline.sources)
        if !dryRun { try endGrace(state, &known, &baseline, &report, check) }
        try nameDomains(&known, scope, &report, check)
        var scope = scope
        let pulls: [Pull]
        let intake: EntryIntake
        do throws(SyncError) {
            (pulls, intake) = try pullAll(known, &report, &scope, check)
        } catch {
            try check()
            if !dryRun, error.kind != .cancelled { try? remember(failures: report, state) }
            throw error
        }
        try hook(.pulled)
        let decided = try decide(
            state, known, baseline, pulls, intake, scope, dryRun: dryRun, acceptShrink: acceptShrink, &report, check)
        defer { describeLeaving(state, &report) }
        guard !dryRun, let decided else { return }
        try hook(.committed)
        // A sync that was told to stop, and was left behind, publishes nothing.
        try check()
        try publish(state, decided.decision, edited: decided.edited)
        try hook(.published)
    }

    /// In how many seconds the next recipient that is leaving is to be rejected; nil where none is, and where the state can't be read.
    func nextLeaves() -> Double? {
        guard let state = try? SyncState(reading: configuration.statePath) else { return nil }
        var report = SyncReport(started: Date())
        describeLeaving(state, &report)
        return report.nextLeaves
    }

    private func describeLeaving(_ state: SyncState, _ report: inout SyncReport) {
        let found = try? state.transaction(.deferred) { database in
            let now = try SyncState.time(database, clock, isReading: true)
            let first = try SyncState.firstLeaving(database)
            let left = first.map { $0.subtractingReportingOverflow(graceStart(now)) }
            return ((try SyncState.leaving(database), left.map { $0.overflow ? 0 : $0.partialValue }), .commit)
        }
        guard let found else { return }
        report.leaving = found.0
        report.nextLeaves = found.1.map { max(0, Double($0) / 1_000) }
    }

    private func remember(failures report: SyncReport, _ state: SyncState) throws(SyncError) {
        try state.transaction(.immediate) { database in
            try SyncState.store(failures: Self.failures(report), at: report.started, database)
            _ = try SyncState.time(database, clock, isReading: false)
            return ((), .commit)
        }
    }

    static func failures(_ report: SyncReport) -> [(source: String, text: String)] {
        report.sources.compactMap { source in source.failure.map { (source.name, $0) } }
    }
}
