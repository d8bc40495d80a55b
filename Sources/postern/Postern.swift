import ArgumentParser
import Foundation
import Glibc
import System

@main
enum Main {
    static func main() {
        StandardDescriptors.secure()
        // Whoever reads the messages may be gone; results have Results.write(_:terminator:) for that.
        signal(SIGPIPE, SIG_IGN)
        if let fault = ProcessTimeZone.adopt() { Messages.write("note: \(fault)") }
        Postern.main()
    }
}

/// The command `postern`.
struct Postern: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "postern",
        abstract: "Rejects unknown recipients and foreign domains at RCPT TO, on Postfix and Sendmail.",
        discussion: """
            Postern stands beside the MTA as a milter, knows every valid recipient of every relayed domain, and rejects the \
            others before a byte of the message is accepted. A sync thread keeps the list current; every rejection is logged.

              postern migrate postfix                a configuration made from that of Postfix
              postern config sample > postern.toml   a configuration to start from
              postern config check                   check the configuration file
              postern serve                          the filter, in the foreground
              postern status                         show the state of the filter, the index and the sync
              postern reload                         load a changed configuration
              postern check someone@example.com      show the verdict on an address, and why
              postern report --since today           who was rejected, and why

            Exit statuses: 1 rejected, damaged or unhealthy (see each command); the others are those of sysexits.h: \
            64 usage, 65 unsound data, 66 no log yet, 69 unavailable, 70 a fault of Postern itself, 73 can't create a file, \
            74 can't read or write, 75 try again later, 77 not permitted, 78 faulty configuration.
            """,
        version: version,
        subcommands: [
            Serve.self, Status.self, Reload.self, SyncCommand.self, Check.self, ReportCommand.self, LogCommand.self,
            IndexCommand.self, ConfigCommand.self, MigrateCommand.self,
        ])
}

/// Exit statuses of sysexits.h as `postern` uses them.
enum ExitStatus {
    /// EX_DATAERR: a snapshot, a database or a table that is unsound.
    static let unsoundData: Int32 = 65
    /// EX_NOINPUT: there is no rejection log yet.
    static let noInput: Int32 = 66
    /// EX_UNAVAILABLE: the socket is in use.
    static let unavailable: Int32 = 69
    /// EX_SOFTWARE: a fault in Postern itself.
    static let software: Int32 = 70
    /// EX_CANTCREAT: a file or folder that must be written can't be.
    static let cannotCreate: Int32 = 73
    /// EX_IOERR: the disk, or SQLite, failed.
    static let inputOutput: Int32 = 74
    /// EX_TEMPFAIL: a source can't be reached, or another run holds the lock.
    static let temporaryFailure: Int32 = 75
    /// EX_NOPERM: the system doesn't permit it.
    static let notPermitted: Int32 = 77
    /// EX_CONFIG: the configuration is faulty.
    static let configuration: Int32 = 78
}

/// The option that all commands share.
struct ConfigurationOption: ParsableArguments {
    @Option(
        name: [.customShort("c"), .customLong("config")],
        help: ArgumentHelp("The configuration file.", valueName: "file"))
    var file = Configuration.defaultPath

    /// The configuration, or every fault of it on standard error and exit status 78.
    ///
    /// Where root runs the command, it goes on as the owner of the folders of log, state and index, with the configuration as that user reads it:
    /// so it sees what the filter sees, and leaves no file behind that the filter can't write.
    ///
    /// - Parameter announces: whether to say as whom root acts.
    func load(announces: Bool = false) throws -> Configuration {
        do {
            let configuration = try Configuration.load(file)
            guard let user = try FolderOwner.become(for: configuration.writtenFolders) else { return configuration }
            let notice = "run by root, postern acts as \(user), who owns the folders of its files"
            if announces { Messages.write(notice) }
            do {
                return try Configuration.load(file)
            } catch {
                if !announces { Messages.write(notice) }
                throw error
            }
        } catch let error as FolderOwner.Failure {
            throw Messages.fail(error, ExitStatus.notPermitted)
        } catch {
            throw Messages.fail("\(error)", ExitStatus.configuration)
        }
    }
}
