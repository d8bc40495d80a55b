import Foundation
import GRDB
import Glibc
import MailAddress
import RecipientIndex

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
    let sources: [any RecipientSource]
    let filters: [DomainFilter]
    let relay: DomainSet
    /// Keys in order.
    let canaries: [String]
    let hook: @Sendable (Step) throws(SyncError) -> Void

    /// A synchronizer for this configuration; touches no file.
    ///
    /// - Throws: `SyncError` of kind `configuration` for names used twice and canaries that aren't addresses.
    public convenience init(_ configuration: SyncConfiguration) throws(SyncError) {
        try self.init(configuration) { _ throws(SyncError) in }
    }

    init(
        _ configuration: SyncConfiguration, hook: @escaping @Sendable (Step) throws(SyncError) -> Void
    ) throws(SyncError) {
        self.configuration = configuration
        self.hook = hook
        var names: Set<String> = []
        for source in configuration.sources where !names.insert(source.name).inserted {
            throw SyncError(
                .configuration, "two sources have the name \"\(source.name)\"; the state needs to tell them apart")
        }
        sources = configuration.sources.enumerated().map { index, source in
            switch source.kind {
            case .file(let format, let path):
                FileSource(configuration: source, index: index, format: format, path: path)
            }
        }
        filters = configuration.sources.map { DomainFilter(configuration, $0) }
        relay = DomainSet(configuration.relayDomains, subdomains: configuration.subdomains)
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
    public func run(dryRun: Bool = false, acceptShrink: Bool = false) throws(SyncError) -> SyncReport {
        try run(dryRun: dryRun, acceptShrink: acceptShrink) { () throws(SyncError) in }
    }

    /// - Parameter check: called now and then; throws to give up.
    func run(
        dryRun: Bool, acceptShrink: Bool, check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) -> SyncReport {
        let began = ContinuousClock.now
        var report = SyncReport(started: Date())
        if dryRun {
            let state: SyncState
            if let existing = try SyncState(reading: configuration.statePath) {
                state = existing
            } else {
                state = try SyncState()
            }
            try run(state, dryRun: true, acceptShrink: acceptShrink, &report, check)
        } else {
            // Before the lock beside it: its words for a missing folder are the better ones.
            try SyncState.createPrivately(configuration.statePath)
            let lock = try SyncLock(state: configuration.statePath, patience: .seconds(2))
            defer { lock.release() }
            let state = try SyncState(path: configuration.statePath)
            try run(state, dryRun: false, acceptShrink: acceptShrink, &report, check)
        }
        report.duration = (ContinuousClock.now - began) / .seconds(1)
        return report
    }

    private func run(
        _ state: SyncState, dryRun: Bool, acceptShrink: Bool, _ report: inout SyncReport,
        _ check: @escaping () throws(SyncError) -> Void
    ) throws(SyncError) {
        var known = try Knowledge(state, fingerprint: fingerprint)
        let baseline = try baseline(state, &known, dryRun: dryRun, &report)
        try hook(.opened)
        let intake = EntryIntake(folder: folder(of: configuration.statePath), filters: filters)
        let pulls: [Pull]
        do throws(SyncError) {
            pulls = try pullAll(known, intake, &report, check)
        } catch {
            if !dryRun, error.kind != .cancelled { try? remember(failures: report, state) }
            throw error
        }
        try hook(.pulled)
        let decided = try decide(
            state, known, baseline, pulls, intake, dryRun: dryRun, acceptShrink: acceptShrink, &report, check)
        guard !dryRun, let decided else { return }
        try hook(.committed)
        try publish(state, decided)
        try hook(.published)
    }

    /// Tells a configuration under which a source's entries were right from others. The guards are in it so that a change of
    /// theirs is judged at once.
    func fingerprint(of source: SourceConfiguration) -> String {
        struct Parts: Encodable {
            var source: SourceConfiguration.Kind
            var domains: [String]?
            var relay: [String]
            var subdomains: Bool
            var canaries: [String]
            var minimum: Int
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let parts = Parts(
            source: source.kind, domains: source.domains?.sorted(), relay: configuration.relayDomains.sorted(),
            subdomains: configuration.subdomains, canaries: canaries, minimum: configuration.minimum)
        let text = (try? encoder.encode(parts)) ?? Data()
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }

    private func remember(failures report: SyncReport, _ state: SyncState) throws(SyncError) {
        try state.transaction(.immediate) { database in
            try SyncState.store(failures: Self.failures(report), at: report.started, database)
            return ((), .commit)
        }
    }

    static func failures(_ report: SyncReport) -> [(source: String, text: String)] {
        report.sources.compactMap { source in source.failure.map { (source.name, $0) } }
    }
}
