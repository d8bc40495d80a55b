import ArgumentParser
import Foundation
import System

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

/// Standard error, for messages: results go to standard output.
enum Messages {
    /// Writes a message of one or more lines, each with the program's name in front.
    static func write(_ message: some CustomStringConvertible) {
        let text = message.description.split(separator: "\n").map { "postern: \($0)\n" }.joined()
        MessageStream.standardError.write(text)
    }

    /// Says why a command ends, and ends it with this exit status.
    static func fail(_ message: some CustomStringConvertible, _ status: Int32) -> ExitCode {
        write(message)
        MessageStream.standardError.flush(within: .seconds(1))
        return ExitCode(status)
    }
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
