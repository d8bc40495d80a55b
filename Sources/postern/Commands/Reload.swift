import ArgumentParser
import Foundation

/// `postern reload`: has the running filter read its configuration again.
struct Reload: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload", abstract: "Has the running filter read its configuration again.",
        discussion: """
            The configuration is checked here first, then the filter is sent SIGUSR1 and its answer waited for. Connections \
            and sessions go on; each takes the new configuration over at its next recipient. One that the filter refuses \
            changes nothing. The tables of relay.domains_from are read again, too, and all sources are pulled. The socket, the \
            index file and the log stay as they are until a restart; what would change there is told.

            With --accept-older the index file is taken over even if its generation is older than that of the index in use, \
            which is otherwise refused: for when an older list has been put back on purpose. It holds for the file as it is now.

            The filter is found by the file beside its log (log.database, with -serve behind it), which it keeps locked: so \
            the command needs to be run as root or as the filter's own user.

            Exit status: 0 in force; 69 no filter is running; 75 it gave no answer in time; 77 not permitted; 78 faulty \
            configuration, refused here or by the filter.
            """)

    /// How long the filter's answer is waited for, in seconds: a sync in progress has to come to its next step.
    private static let patience = 60

    /// The number that goes with SIGUSR1 to say ``acceptOlder``.
    static let acceptsOlder: Int32 = 1

    @OptionGroup var option: ConfigurationOption
    @Flag(help: "Take the index file over even if it is older than the index in use.")
    var acceptOlder = false

    func run() throws {
        let configuration = try option.load()
        guard configuration.sourceFaults.isEmpty else {
            throw Messages.fail(
                ConfigurationError(file: option.file, faults: configuration.sourceFaults), ExitStatus.configuration)
        }
        let absence = "no filter is running that keeps its log in \(configuration.log.database)"
        do {
            guard let filter = try ServiceFile.Visitor(database: configuration.log.database),
                let process = filter.process
            else { throw Messages.fail(absence, ExitStatus.unavailable) }
            try reload(filter, process, absence)
        } catch let error as ServiceFile.Failure {
            throw Messages.fail(error, error.exitStatus)
        }
    }

    private func reload(_ filter: ServiceFile.Visitor, _ process: pid_t, _ absence: String) throws {
        guard process > 0 else {
            throw Messages.fail(
                "the filter runs in another container, where this command has to be run", ExitStatus.unavailable)
        }
        // A reload that has begun by now may have read an older file.
        let before = filter.reloads?.begun ?? 0
        let value = sigval(sival_int: acceptOlder ? Self.acceptsOlder : 0)
        guard sigqueue(process, SIGUSR1, value) == 0 else {
            let code = errno
            if code == ESRCH { throw Messages.fail(absence, ExitStatus.unavailable) }
            throw Messages.fail(
                "process \(process) can't be signalled: \(String(cString: strerror(code)))", ExitStatus.notPermitted)
        }
        let deadline = ContinuousClock.now + .seconds(Self.patience)
        while ContinuousClock.now < deadline {
            if let reloads = filter.reloads, reloads.ended > before {
                switch reloads.outcome {
                case .accepted: try Results.write("process \(process): in force: \(reloads.message)")
                case .refused:
                    Messages.write(reloads.message)
                    throw Messages.fail(
                        "process \(process) has refused the configuration; the one in force stays",
                        ExitStatus.configuration)
                }
                return
            }
            guard filter.process == process else {
                throw Messages.fail("process \(process) has ended meanwhile", ExitStatus.unavailable)
            }
            usleep(20_000)
        }
        throw Messages.fail(
            "process \(process) hasn't answered in \(Self.patience) seconds; see its messages",
            ExitStatus.temporaryFailure)
    }
}
