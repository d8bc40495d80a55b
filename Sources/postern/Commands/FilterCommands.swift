import ArgumentParser
import Foundation
import Logging
import Milter
import Monitoring
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog
import System

/// `postern serve`: the filter with its sync thread.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Runs the filter with its sync thread, in the foreground.",
        discussion: """
            The filter judges by the index file at index.path, which the sync thread publishes, and takes over a new one within a \
            second, whichever program wrote it. Messages go to standard error, for the journal.

            The filter refuses an index file of an older generation than that of the index in use, until postern reload \
            --accept-older; at the start it takes any sound one. SIGTERM and SIGINT end it within 5 seconds: it answers the \
            recipients that it is judging, and writes out the log. A second signal, more than a second later, ends it at once. \
            SIGHUP is ignored. SIGUSR1 makes it read the configuration again, as postern reload does; with milter.reload = \
            "auto" it does so by itself when the configuration has changed. It refuses a faulty configuration, names the \
            faults, and keeps the former one.

            Only what keeps recipients from being judged ends the filter. A log, a sync state or an HTTP port that can't be \
            used, or a standard error that can't be written, is announced once, shown by postern status, and tried again.

            Exit status: 0 after a clean stop; 69 the milter's socket is in use or unusable, or another filter writes the \
            same log; 70 a part didn't end in time; 77 not permitted; 78 faulty configuration.
            """)

    @OptionGroup var option: ConfigurationOption

    @Flag(
        name: .customLong("no-sync"),
        help: "Read no source: another process, such as postern sync, publishes the index.")
    var noSync = false

    func run() throws {
        do {
            try MilterSignals.prepare()
        } catch {
            throw Messages.fail(error, ExitStatus.software)
        }
        let configuration = try option.load(announces: true)
        do {
            if !noSync { try DirectoryEnvironment.prepare(for: configuration.syncConfiguration) }
        } catch {
            throw Messages.fail(error, error.exitStatus)
        }
        // Only a process of one thread may change its user and its environment, as the above does.
        StandardErrorLog.startThread()
        let service = try FilterService(configuration, configurationFile: option.file, syncs: !noSync)
        try service.start()
        serving: while true {
            switch MilterSignals.wait() {
            case .reload, .request: service.reload()
            case .terminate, .interrupt: break serving
            }
        }
        service.stop()
        // libmilter's threads still exist: their memory must stay.
        fflush(nil)
        _exit(0)
    }
}

/// `postern status`: the filter, its index and its sync on one screen.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows the running filter, its index and its sync on one screen.",
        discussion: """
            Problems come first, with what to do about them. Verdicts are those of the last hour and of today (local time), from \
            the rejection log. The rest comes from the running filter, by a socket beside the log (log.database, followed by \
            -status), which only root and the filter's user may use, and from the index file and the sync state.

            Exit status: 0 if all is well; 1 if there are problems: no filter is running, there is no sound index or it is too \
            old, a source can't be read, Postern rejected the last list, or the log can't be written.
            """)

    @OptionGroup var option: ConfigurationOption
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func run() throws {
        let status = StatusReport(try option.load().monitoringSettings)
        switch format {
        case .json: try Results.write(try JSON.text(status))
        case .text: try Results.write(status.text(width: Terminal.isTerminal ? Terminal.width : nil))
        }
        if !status.troubles.isEmpty { throw ExitCode(1) }
    }
}

/// `postern reload`: has the running filter read its configuration again.
struct Reload: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload", abstract: "Has the running filter read its configuration again.",
        discussion: """
            The command checks the configuration, then asks the filter to read it, and waits for the result. Connections and \
            sessions go on; each uses the new configuration from its next recipient on. A configuration that the filter \
            refuses changes nothing. The filter also reads the tables of relay.domains_from and all sources again. The socket, \
            the index file and the log can't change before a restart; the command names the keys that wait for it.

            With --accept-older the filter also takes over the index file if its generation is older than that of the index in \
            use, which it refuses otherwise: for an older list that was put back on purpose. This holds for the file as it is \
            now, and the command says what became of it.

            The command reaches the filter by a socket beside the log (log.database, followed by -status), which only root and \
            the filter's user may use.

            Exit status: 0 in force; 65 in force, but the index file of --accept-older can't be used; 69 no filter is running; \
            75 the filter hasn't answered in time; 77 not permitted; 78 faulty configuration, refused by the command or the \
            filter.
            """)

    /// How long the command waits for the filter: a sync in progress has to reach its next step.
    private static let patience = Duration.seconds(60)

    @OptionGroup var option: ConfigurationOption
    @Flag(help: "Take over the index file even if it is older than the index in use.")
    var acceptOlder = false

    func run() throws {
        let configuration = try option.load()
        // The filter judges whether the sources' files can be read: it may be another user, or read none.
        do {
            let filter = try ControlClient(database: configuration.log.database)
            try show(
                try filter.reload(acceptsOlderIndex: acceptOlder, within: Self.patience), process: filter.process)
        } catch let error as ControlClient.Failure {
            throw Messages.fail(error, Self.exitStatus(error))
        }
    }

    private func show(_ result: ControlSocket.ReloadResult, process: pid_t) throws {
        if let index = result.olderIndex, index.isInUse {
            try Results.write("process \(process): \(index.message)")
        }
        guard result.isInForce else {
            Messages.write(result.message)
            throw Messages.fail(
                "process \(process) has refused the configuration; the former one stays in force",
                ExitStatus.configuration)
        }
        try Results.write("process \(process): in force: \(result.message)")
        if let index = result.olderIndex, !index.isInUse {
            throw Messages.fail("process \(process): \(index.message)", ExitStatus.unsoundData)
        }
    }

    private static func exitStatus(_ failure: ControlClient.Failure) -> Int32 {
        switch failure.kind {
        case .notRunning, .ended, .otherVersion: ExitStatus.unavailable
        case .notPermitted: ExitStatus.notPermitted
        case .unusable: ExitStatus.inputOutput
        case .noAnswer: ExitStatus.temporaryFailure
        }
    }
}

extension Configuration {
    /// The settings that monitoring shows.
    var monitoringSettings: MonitoringSettings {
        let observing = domains.filter(\.rules.observe).count
        return MonitoringSettings(
            version: Postern.version, socket: "\(socket)", maximumConnections: maximumConnections,
            mode: policy.observe || observing > 0 && observing == domains.count ? "observe" : "enforce",
            indexPath: index.path, maximumIndexAge: index.maximumAge, syncState: sync.state,
            sources: sync.sources.map(\.name), logDatabase: log.database, redactsLog: log.redact,
            http: httpAddress.map { "http://\($0)/" }, notices: notices)
    }
}
