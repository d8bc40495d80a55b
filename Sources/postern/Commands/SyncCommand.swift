import ArgumentParser
import Foundation
import Glibc
import Logging
import Milter
import RecipientSources
import RecipientSync
import Synchronization
import System

/// `postern sync`: reads the sources and publishes the recipient index.
struct SyncCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync", abstract: "Reads all sources and publishes the recipient index.",
        discussion: """
            Shows which recipients the new list adds and removes, and publishes the new index; a running filter loads it within a \
            second. Without --once, the command keeps running and syncs again at every change, as the sync thread of postern serve \
            does. Run it this way or from a timer if the filter's own configuration has no [[source]].

            Postern rejects a list that would lose too many recipients (sync.max_shrink), is too short (sync.minimum) or lacks \
            a canary (sync.canaries); the index in use stays. All losses within sync.shrink_window count for max_shrink. \
            --accept-shrink accepts the losses that were rejected last; recipients lost since then are checked separately. If no list was \
            rejected, it accepts the list as it is now: look at it first with --dry-run.

            A recipient that no source lists any more is deferred for sync.grace, then rejected.

            Exit status: 0 published or unchanged; 1 Postern rejected the list; 65 a malformed line in a source; 74 the state or the \
            index can't be written; 75 a source can't be reached, or another sync is running; 78 faulty configuration.

              postern sync --once --dry-run     show what would change
              postern sync --once               publish it
            """)

    @OptionGroup var option: ConfigurationOption
    @Flag(help: "Sync once and exit.")
    var once = false
    @Flag(name: .customLong("dry-run"), help: "Show what would change and write nothing; implies --once.")
    var dryRun = false
    @Flag(name: .customLong("accept-shrink"), help: "Accept the losses that max_shrink has rejected; implies --once.")
    var acceptShrink = false
    @Flag(help: "Read every directory in full instead of its changes; implies --once.")
    var full = false
    @Option(help: "text or json.")
    var format = OutputFormat.text

    /// Whether to sync once only. A person accepts the one list that was shown, not the lists to come.
    private var isSingle: Bool { once || dryRun || acceptShrink || full }

    func run() throws {
        if !isSingle { try prepareSignals() }
        let configuration = try option.load(announces: true)
        guard !configuration.sync.sources.isEmpty else {
            throw Messages.fail(
                "\(option.file): there is no [[source]] to read; accepted: at least one", ExitStatus.configuration)
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

    /// Syncs until SIGTERM or SIGINT.
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

/// Shows on a terminal how far a sync is: a line for each source that is being read, updated twice a second. Shows nothing if standard
/// error is no terminal.
final class SyncProgressDisplay: Sendable {
    private let synchronizer: Synchronizer
    /// How many lines are on the terminal; nil once the display has ended.
    private let lines = Mutex<Int?>(nil)

    init(_ synchronizer: Synchronizer) {
        self.synchronizer = synchronizer
        guard isatty(STDERR_FILENO) == 1 else { return }
        lines.withLock { $0 = 0 }
        NamedThread.start("progress", stackSize: 256 << 10) { [self] in
            // A quick sync needs no display.
            usleep(500_000)
            while draw() { usleep(500_000) }
        }
    }

    /// Removes the lines.
    func end() {
        lines.withLock { lines in
            if let count = lines { Self.write(Self.clearing(count)) }
            lines = nil
        }
    }

    /// Draws the lines anew; false once the display has ended.
    private func draw() -> Bool {
        lines.withLock { lines in
            guard let count = lines else { return false }
            let progress = synchronizer.progress
            let rows = progress.map { source in
                let seconds = max(0, Int(Date().timeIntervalSince(source.since)))
                let name = String(source.name.escapedForMessage.prefix(30))
                return
                    "\(name): \(source.entries) entries read in \(Words.duration(seconds: seconds)), \(Int(source.rate)) a second\n"
            }
            Self.write(Self.clearing(count) + rows.joined())
            lines = rows.count
            return true
        }
    }

    /// The control sequence that goes up to the first of the lines and clears the screen from there.
    private static func clearing(_ count: Int) -> String { count > 0 ? "\u{1B}[\(count)F\u{1B}[J" : "" }

    private static func write(_ text: String) {
        guard !text.isEmpty else { return }
        var text = text
        text.withUTF8 { bytes in _ = Glibc.write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
    }
}
