import ArgumentParser
import Foundation
import Logging
import Milter
import RecipientSources
import RecipientSync
import System

/// `postern sync`: the sources into the index.
struct SyncCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync", abstract: "Pulls all sources and publishes the index.",
        discussion: """
            Shows what is added and removed since the last index, and publishes the new one, which a running filter takes over \
            within a second. Without --once it stays and goes on as the sync thread of postern serve would; run it so, or from \
            a timer, where the filter itself has no [[source]].

            A list that would lose too much (sync.max_shrink), is too short (sync.minimum) or lacks a canary (sync.canaries) \
            is refused, and the index in use stays. What counts for max_shrink is all that has gone within sync.shrink_window. \
            --accept-shrink accepts what was refused last; what has gone since is judged by itself. Where nothing was refused, it \
            accepts the list as it is now: see it first with --dry-run.

            A recipient that no source lists any more is deferred for sync.grace, then rejected.

            Exit status: 0 published or nothing to do; 1 refused by a guard; 65 a malformed line in a source; 74 the state or \
            the index can't be written; 75 a source can't be reached, or another sync is at work; 78 faulty configuration.

              postern sync --once --dry-run     what would change
              postern sync --once               change it
            """)

    @OptionGroup var option: ConfigurationOption
    @Flag(help: "Sync once and end.")
    var once = false
    @Flag(name: .customLong("dry-run"), help: "Show what would change and write nothing; implies --once.")
    var dryRun = false
    @Flag(name: .customLong("accept-shrink"), help: "Accept what max_shrink has refused; implies --once.")
    var acceptShrink = false
    @Flag(help: "Read every directory in full, though only its changes would do; implies --once.")
    var full = false
    @Option(help: "text or json.")
    var format = OutputFormat.text

    /// Accepting a shrink is for one list that a person has seen, not for those to come.
    private var isSingle: Bool { once || dryRun || acceptShrink || full }

    func run() throws {
        if !isSingle { try prepareSignals() }
        let configuration = try option.load(announces: true)
        guard !configuration.sync.sources.isEmpty else {
            throw Messages.fail(
                "\(option.file): there is no [[source]] to pull; accepted: at least one", ExitStatus.configuration)
        }
        do {
            for notice in configuration.notices { Messages.write("note: \(notice)") }
            try DirectoryEnvironment.prepare(for: configuration.syncConfiguration)
            let synchronizer = try Synchronizer(configuration.syncConfiguration)
            guard isSingle else {
                try stay(synchronizer)
                return
            }
            let progress = SyncProgressDisplay(synchronizer)
            defer { progress.end() }
            let report = try synchronizer.run(dryRun: dryRun, acceptShrink: acceptShrink, readsAll: full)
            progress.end()
            try show(report)
            for source in report.failures {
                Messages.write("source \(source.name): \(source.failure ?? ""); its last list stays in use")
            }
            if report.refusal != nil { throw ExitCode(1) }
            if !report.failures.isEmpty { throw ExitCode(ExitStatus.temporaryFailure) }
        } catch let error as SyncError {
            if let report = error.report { try show(report) }
            throw Messages.fail(error, error.exitStatus)
        }
    }

    private func show(_ report: SyncReport) throws {
        switch format {
        case .json: try Results.write(try JSON.text(report))
        case .text: try Results.write(SyncReportText(report).text)
        }
    }

    private func prepareSignals() throws {
        do {
            try MilterSignals.prepare()
        } catch {
            throw Messages.fail(error, ExitStatus.software)
        }
    }

    /// Goes on until SIGTERM or SIGINT.
    private func stay(_ synchronizer: Synchronizer) throws {
        let logger = StandardErrorLog.logger
        try synchronizer.prepare()
        let faults = FaultLog(logger)
        let thread = SyncThread(
            synchronizer, onFileFailure: { SyncReportText.log($0, logger) }, onSync: { faults.write($0) }
        ) {
            SyncReportText.log($0, logger)
        }
        thread.start()
        while ![.terminate, .interrupt].contains(MilterSignals.wait()) {}
        thread.stop()
    }
}
