import ArgumentParser
import Foundation
import Monitoring
import System

/// `postern status`: the filter, its index and its sync on one screen.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows the running filter, its index and its sync on one screen.",
        discussion: """
            Troubles come first, with what to do about them. Verdicts are those of the last hour and of today (local time), from \
            the rejection log. The rest comes from the running filter, by a socket beside the log (log.database, followed by \
            -status), which only root and the filter's user may use, and from the index file and the sync state.

            Exit status: 0 if all is well; 1 if there are troubles: no filter is running, there is no sound index or it is too \
            old, a source can't be read, a guard has refused the last list, or the log can't be written.
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
