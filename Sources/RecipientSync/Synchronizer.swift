import Foundation
import GRDB
import Glibc
import MailAddress
import RecipientIndex
import RecipientSources
import System

/// Reads the sources, compares their list with the last one, has the guards judge it, and publishes it as the recipient index.
///
/// Whichever step fails, the index in force is that of a list that passed the guards. The steps are in ``SyncPass``; this class
/// holds what outlives a sync, takes the lock, and repairs or replaces a damaged state.
public final class Synchronizer: Sendable {
    /// A moment of a sync that tests stop at.
    enum Step: CaseIterable {
        case opened, read, judged, committed, published
    }

    let configuration: SyncConfiguration
    let sources: [SourceReader]
    /// The keys of the canaries, sorted.
    let canaries: [String]
    let clock: SyncClock
    let hook: @Sendable (Step) throws(SyncError) -> Void

    /// Creates a synchronizer; no file is opened yet.
    ///
    /// - Throws: `SyncError` of kind `configuration` if two sources have the same name, or a canary isn't an address.
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
                .configuration, "two sources have the name \"\(source.name)\": each needs a name of its own")
        }
        try translatingErrors { () throws(SourceError) in try DirectoryEnvironment.check(configuration.sources) }
        let folder = folder(of: configuration.statePath)
        let readers = sources ?? configuration.sources.map { $0.source(folder: folder) }
        self.sources = readers.map(SourceReader.init)
        canaries = try Self.keys(ofCanaries: configuration.canaries)
    }

    private static func keys(ofCanaries canaries: [String]) throws(SyncError) -> [String] {
        var keys: Set<String> = []
        for canary in canaries {
            let address: RecipientAddress
            do throws(AddressError) { address = try RecipientAddress(path: canary) } catch {
                throw SyncError(.configuration, "the canary \"\(canary)\" is not an address: \(error)")
            }
            guard address.hasDomain else {
                throw SyncError(.configuration, "the canary \"\(canary)\" has no domain; accepted: user@domain")
            }
            keys.insert(address.key)
        }
        return keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// How far the sources are that are being read now; on any thread, without waiting.
    public var progress: [SourceProgress] { sources.compactMap(\.progress) }

    /// Opens the state, creating it if there is none, and checks that the index can be written: a daemon finds faults at its start.
    ///
    /// - Throws: `SyncError` of kind `state`.
    public func prepare() throws(SyncError) {
        let place = folder(of: configuration.indexPath)
        let failure = "the index \(configuration.indexPath) can't be written: "
        guard access(place, W_OK | X_OK) == 0 else { throw SyncError(.state, failure + "\(place): \(systemMessage())") }
        var status = stat()
        if stat(configuration.indexPath, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            throw SyncError(.state, failure + "it is not a regular file")
        }
        _ = try SyncState(path: configuration.statePath)
    }

    /// Reads all sources once and publishes what they list.
    ///
    /// A source that can't be reached keeps its last list and is among the report's `failures`; the others are still published. A source
    /// without a list, a malformed line in any source, and the failure of all sources are errors.
    ///
    /// - Parameters:
    ///   - dryRun: write neither state nor index; a refusal is then in the report instead of thrown.
    ///   - acceptShrink: publish a list that `max_shrink` refuses; `minimum` and `canaries` hold nevertheless.
    ///   - readsAll: read every source in full, though reading its changes would do.
    /// - Throws: `SyncError`; the index in force then stays.
    public func run(
        dryRun: Bool = false, acceptShrink: Bool = false, readsAll: Bool = false
    ) throws(SyncError) -> SyncReport {
        try run(SyncOptions(readsAll: readsAll, isDryRun: dryRun, acceptsShrink: acceptShrink))
    }

    /// Runs one sync, then a second one for the losses that a person was not shown, and one for the sources that are due to be read in
    /// full.
    func run(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        var report = try runOnce(options)
        if report.held > 0, !options.isDryRun {
            do throws(SyncError) {
                var later = options
                later.acceptsShrink = false
                report.append(try runOnce(later))
            } catch {
                throw error.prefixed(
                    "Postern published the list that was shown; it checks recipients lost since then separately: ")
            }
        }
        guard !options.isDryRun, !options.readsAll, options.due == nil else { return report }
        let due = try reconciliationsDue().subtracting(
            report.sources.indices.filter { report.sources[$0].failure != nil || report.sources[$0].reading == .full })
        guard !due.isEmpty else { return report }
        // A person who accepted the list above has not seen this one.
        let second = try runOnce(
            SyncOptions(due: due, isThread: options.isThread, readsAll: true, check: options.check))
        report.append(reconciliation: second, of: due.sorted().map { sources[$0].configuration.name })
        return report
    }

    /// The indices in `configuration.sources` of the sources that are to be read in full again, to find changes that
    /// were missed.
    private func reconciliationsDue() throws(SyncError) -> Set<Int> {
        guard let state = try SyncState(reading: configuration.statePath) else { return [] }
        let records = try state.transaction(.deferred) { database in (try SyncState.sources(database), .commit) }
        let now = Date()
        let due = sources.indices.filter { place in
            records.contains {
                $0.name == sources[place].configuration.name
                    && sources[place].source.isReconciliationDue($0.previous, now: now)
            }
        }
        return Set(due)
    }

    private func runOnce(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        var options = options
        options.started = Date()
        let began = ContinuousClock.now
        var report = try options.isDryRun ? tryOut(options) : runLocked(options)
        report.duration = (ContinuousClock.now - began) / .seconds(1)
        return report
    }

    /// Runs a pass on a state; if the state holds other entries than its list counts, a second one that reads all
    /// sources in full.
    func run(on state: SyncState, _ options: SyncOptions, notes: [String] = []) throws(SyncError) -> SyncReport {
        do throws(SyncError) {
            return try SyncPass(self, on: state, options, notes: notes).run()
        } catch {
            guard error.isUnsound else { throw error }
            try options.check()
            var full = options
            (full.due, full.readsAll) = (nil, true)
            let note = "\(error): all sources were read in full"
            return try SyncPass(self, on: state, full, isSound: false, notes: [note]).run()
        }
    }

    /// The seconds until the next leaving recipient is rejected; nil if none is leaving, or the state can't be read.
    func nextLeaves() -> Double? {
        guard let state = try? SyncState(reading: configuration.statePath) else { return nil }
        return leaving(in: state)?.next
    }

    /// The number of leaving recipients, and the seconds until the next of them is rejected.
    func leaving(in state: SyncState) -> (count: Int, next: Double?)? {
        try? state.transaction(.deferred) { database in
            let start = graceStart(try SyncState.time(database, clock))
            let remaining = try SyncState.firstLeaving(database).map { first -> Double in
                let (milliseconds, overflow) = first.subtractingReportingOverflow(start)
                return overflow ? 0 : max(0, Double(milliseconds) / 1_000)
            }
            return ((try SyncState.leavingCount(database), remaining), .commit)
        }
    }

    /// The time (of ``SyncClock``) when the window of the guard begins.
    func windowStart(_ now: Int64) -> Int64 { Self.time(now, before: configuration.shrinkWindow) }

    /// The time (of ``SyncClock``) `sync.grace` ago: recipients that left the list at or before it are rejected now.
    func graceStart(_ now: Int64) -> Int64 { Self.time(now, before: configuration.grace) }

    private static func time(_ now: Int64, before duration: Duration) -> Int64 {
        let length = Int64(exactly: (max(.zero, duration) / .milliseconds(1)).rounded()) ?? .max
        let (time, overflow) = now.subtractingReportingOverflow(length)
        return overflow ? .min : time
    }
}

extension Synchronizer {
    /// Runs a sync on the state under its lock. A damaged state is moved aside, and the sync runs on a new one.
    func runLocked(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        let path = configuration.statePath
        let wasUsed = SyncState.wasUsed(path)
        // Before the lock beside it: the state's messages for a missing folder are better, and no lock is made beside another program's file.
        if !wasUsed { try checkForOtherFile() }
        try SyncState.createPrivately(path)
        let lock = try SyncLock(state: path, patience: .seconds(2), check: options.check)
        defer { lock.release() }
        do throws(SyncError) {
            return try runTwiceIfDamaged(options)
        } catch {
            guard error.isDamage else { throw error }
            try options.check()
            return try runOnNewState(options, note: try moveAside(error, wasUsed: wasUsed))
        }
    }

    /// Runs a sync without writing anything: on the state, or on an empty one if there is none or it is damaged.
    func tryOut(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        let path = configuration.statePath
        do throws(SyncError) {
            if let state = try SyncState(reading: path) { return try run(on: state, options) }
            return try run(on: SyncState(), options)
        } catch {
            guard error.isDamage else { throw error }
            try checkIsSyncState(error, wasUsed: SyncState.wasUsed(path))
            return try run(
                on: SyncState(), options, notes: ["\(error); a sync would move it aside and make a new one"])
        }
    }

    /// Runs a sync on the state; a second time if it seems damaged, since to SQLite a page that the disk failed to read looks the same.
    ///
    /// - Throws: an error that says damage only if the file can be read and is damaged.
    private func runTwiceIfDamaged(_ options: SyncOptions) throws(SyncError) -> SyncReport {
        let path = configuration.statePath
        do throws(SyncError) {
            return try run(on: SyncState(path: path), options)
        } catch {
            guard error.isDamage else { throw error }
            if let code = FileProbe.failure(reading: [path, path + "-wal"]) {
                throw SyncError(
                    .state, "the sync state \(path) can't be read: \(systemMessage(code))",
                    advice: SyncState.advice(code, path: path))
            }
        }
        try options.check()
        return try run(on: SyncState(path: path), options)
    }

    /// Runs a sync on a new state, and says in its report or error what happened to the old one.
    private func runOnNewState(_ options: SyncOptions, note: String) throws(SyncError) -> SyncReport {
        do throws(SyncError) {
            try SyncState.createPrivately(configuration.statePath)
            return try run(on: SyncState(path: configuration.statePath), options, notes: [note])
        } catch {
            throw error.kind == .cancelled ? error : error.prefixed(note + "\n")
        }
    }

    /// Throws if there is a file where no sync has been before, and it is no sync state.
    private func checkForOtherFile() throws(SyncError) {
        do throws(SyncError) { _ = try SyncState(reading: configuration.statePath) } catch {
            guard error.isDamage else { throw error }
            try checkIsSyncState(error, wasUsed: false)
        }
    }

    /// Throws unless a damaged file is a sync state of this version, which may be moved aside.
    private func checkIsSyncState(_ error: SyncError, wasUsed: Bool) throws(SyncError) {
        switch SyncState.damagedFile(configuration.statePath, wasUsed: wasUsed) {
        case .syncState: return
        case .newerSyncState:
            throw SyncError(
                .state, "\(error); a newer version wrote it, so it was left alone", advice: SyncState.moveAway)
        case .other:
            throw SyncError(
                .state, "\(error); nothing shows that it ever was a sync state, so it was left alone",
                advice: "name another path as sync.state, or move that file away")
        }
    }

    /// Moves a damaged state aside; returns a note that says so.
    private func moveAside(_ error: SyncError, wasUsed: Bool) throws(SyncError) -> String {
        try checkIsSyncState(error, wasUsed: wasUsed)
        let place = try SyncState.moveAside(configuration.statePath)
        let end =
            place.map { "it was moved to \($0)" } ?? "it was removed, because several damaged ones are kept already"
        return "\(error); \(end), and a new one is made from all sources"
    }
}
