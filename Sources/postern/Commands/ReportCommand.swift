import ArgumentParser
import Foundation
import RejectionLog

/// `postern report`: who was refused, and why.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Tells who was refused in a period, by whom and why.",
        discussion: """
            Times are now, today, yesterday, an age (30m, 12h, 7d, 2w), a date (2026-11-24) or a date with a time, with or \
            without a zone; without one in local time. The period goes by whole minutes.

            Totals, reasons and domains come from exact counters. The other lists come from the log's rows, of which some may \
            be missing after a flood; the report says how many.

            It may be run while the filter writes, by any user who may read the database. Exit status 0; 66 when there is no \
            log yet.

              postern report --since today
              postern report --since yesterday --until today --domain example.com
              postern report --since 7d --format json
            """)

    @OptionGroup var log: LogOptions
    @Option(help: ArgumentHelp("The beginning of the period.", valueName: "time"))
    var since = "24h"
    @Option(help: ArgumentHelp("The end of the period.", valueName: "time"))
    var until = "now"
    @Option(help: ArgumentHelp("How long the lists are at most.", valueName: "n"))
    var top = 10
    @Flag(help: "Hide the local parts of all addresses.")
    var redact = false
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard (1...10_000).contains(top) else { throw ValidationError("--top \(top): accepted: 1 to 10000.") }
    }

    func run() throws {
        let since = try LogOptions.moment(since, of: "--since")
        let until = try LogOptions.moment(until, of: "--until")
        guard since < until else {
            throw ValidationError("--since \(self.since) is not before --until \(self.until).")
        }
        let reader = try log.open()
        do {
            let report = try reader.report(
                ReportQuery(
                    since: since, until: until, top: top, domain: log.domainLabel, reason: log.reason, redact: redact))
            try output.write(redact ? report.redacted : report)
        } catch let error as LogError {
            throw Messages.fail(error, error.readingExitStatus)
        }
    }
}
