import ArgumentParser
import Foundation
import Monitoring

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
        guard configuration.sourceFaults.isEmpty else {
            throw Messages.fail(
                ConfigurationError(file: option.file, faults: configuration.sourceFaults), ExitStatus.configuration)
        }
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
