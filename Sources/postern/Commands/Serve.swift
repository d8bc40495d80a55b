import ArgumentParser
import DirectorySync
import Foundation
import Logging
import Milter
import RecipientFilter
import RecipientIndex
import RejectionLog

/// `postern serve`: the filter with its sync thread.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Runs the filter with its sync thread, in the foreground.",
        discussion: """
            The filter answers from the snapshot at index.path, which the sync thread publishes, and takes a new one over \
            within a second, whoever wrote it. Messages go to standard error, for the journal.

            SIGTERM and SIGINT end it cleanly: the recipients in judgement get their answers, the log is written out. \
            SIGHUP is ignored. SIGUSR1 has the configuration read again, as postern reload does; with milter.reload = "auto" it is \
            read again by itself when it has changed. A faulty one is refused with its faults, and the one in force stays.

            Exit status: 0 after a clean stop; 69 the socket is in use or can't be had; 65 the database is damaged or of a \
            newer version; 73 a file can't be made; 77 not permitted; 78 faulty configuration.
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
        while MilterSignals.wait() == .reload { service.reload() }
        service.stop()
        // libmilter's threads are held back, not gone: nothing may be torn down beneath them.
        fflush(nil)
        _exit(0)
    }
}
