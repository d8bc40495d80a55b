import ArgumentParser
import Foundation
import Logging
import Milter
import RecipientFilter
import RecipientIndex
import RecipientSources
import RecipientSync
import RejectionLog

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

            Exit status: 0 after a clean stop; 69 the milter's socket is in use or unusable, or another filter keeps its log in \
            the same place; 70 a part didn't end in time; 77 not permitted; 78 faulty configuration.
            """)

    @OptionGroup var option: ConfigurationOption

    func run() throws {
        do {
            try MilterSignals.prepare()
        } catch {
            throw Messages.fail(error, ExitStatus.software)
        }
        let configuration = try option.load(announces: true)
        do {
            try DirectoryEnvironment.prepare(for: configuration.syncConfiguration)
        } catch {
            throw Messages.fail(error, error.exitStatus)
        }
        // Only a process of one thread may change its user and its environment, as the above does.
        StandardErrorLog.startThread()
        let service = try FilterService(configuration, configurationFile: option.file)
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
