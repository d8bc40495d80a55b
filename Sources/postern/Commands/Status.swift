import ArgumentParser
import Foundation

/// `postern status`: the filter, its index and its sync on one screen.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows the running filter, its index and its sync at a glance.",
        discussion: """
            What needs a look comes first, with what to do about it. Verdicts are those of today (local time) and of the last \
            hour, from the rejection log. Live figures come from the filter itself, by a socket beside the log (log.database, \
            with -status behind it), which root and the filter's own user may ask; others see the rest.

            Exit status: 0 when all is well; 1 when something needs a look: no filter is running, there is no sound index or it \
            is too old, a source can't be read, a guard has refused the last list, or the log can't be written.
            """)

    @OptionGroup var option: ConfigurationOption
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func run() throws {
        let status = StatusDocument(try option.load())
        switch format {
        case .json: try Results.write(try JSON.text(status))
        case .text: try Results.write(status.text(width: Terminal.isTerminal ? Terminal.width : nil))
        }
        if !status.troubles.isEmpty { throw ExitCode(1) }
    }
}
