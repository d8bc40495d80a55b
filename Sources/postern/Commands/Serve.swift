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
            The filter answers from the snapshot at index.path, which the sync thread publishes, and takes a new one over \
            within a second, whoever wrote it. Messages go to standard error, for the journal.

            A snapshot of an older generation than the one in use is refused until postern reload --accept-older; at the start, where none is in \
            use, what is there is taken. SIGTERM and SIGINT end it within 5 seconds: the recipients in judgement get their answers, the log is written out. A \
            second one, more than a second later, ends it at once. SIGHUP is ignored. SIGUSR1 has the configuration read again, as postern reload does; with milter.reload = "auto" it is \
            read again by itself when it has changed. A faulty one is refused with its faults, and the one in force stays.

            Only what keeps recipients from being judged ends it. A log, a sync state or an HTTP port that can't be used, or a \
            standard error that can't be written, is said once, shown by postern status, and tried again.

            Exit status: 0 after a clean stop; 69 the milter's socket is in use or unusable, or another filter keeps its log \
            there; 70 a part didn't end in time; 77 not permitted; 78 faulty configuration.
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
        // After all that only one thread may do: the acting user, the environment.
        StandardErrorLog.startThread()
        let service = try FilterService(configuration, configurationFile: option.file)
        try service.start()
        serving: while true {
            switch MilterSignals.wait() {
            case .reload: service.reload()
            case .request(Reload.acceptsOlder): service.reloadAcceptingOlderIndex()
            case .request: service.reload()
            case .terminate, .interrupt: break serving
            }
        }
        service.stop()
        // libmilter's threads are held back, not gone: nothing may be torn down beneath them.
        fflush(nil)
        _exit(0)
    }
}
