import ArgumentParser
import Foundation
import RejectionLog

/// `postern log`: the refusals one by one.
struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Shows the refusals one by one, oldest first.",
        discussion: """
            A line each: time (UTC), refused or tempfailed (with observed: in front where observe mode let it pass), reason, \
            recipient, sender, client, HELO name, queue id, reply. With --format json, one JSON object a line.

              postern log --since today --reason unknown
              postern log --follow
            """)

    @OptionGroup var log: LogOptions
    @Option(help: ArgumentHelp("From this time on; default: 24h, and with --follow from now on.", valueName: "time"))
    var since: String?
    @Option(help: ArgumentHelp("Up to this time.", valueName: "time"))
    var until: String?
    @Flag(help: "Go on with new refusals as they come, until interrupted.")
    var follow = false
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func validate() throws {
        if follow && until != nil { throw ValidationError("--follow has no end: leave out --until.") }
    }

    func run() throws {
        let since = try LogOptions.moment(since ?? (follow ? "now" : "24h"), of: "--since")
        let until = try until.map { try LogOptions.moment($0, of: "--until") }
        let reader = try log.open()
        do {
            var last = try reader.lastEntryID()
            let query = RejectionReader.EntryQuery(
                since: since, until: until, domain: log.domainLabel, reason: log.reason)
            for result in try reader.entries(query) {
                let entry = try result.get()
                try show(entry)
                last = max(last, entry.id)
            }
            guard follow else { return }
            let filter = RejectionReader.EntryQuery(domain: log.domainLabel, reason: log.reason)
            while true {
                let entries = try reader.entries(after: last, filter)
                try entries.forEach(show)
                last = entries.last?.id ?? last
                if entries.isEmpty { Thread.sleep(forTimeInterval: 0.25) }
            }
        } catch let error as LogError {
            throw Messages.fail(error, error.readingExitStatus)
        }
    }

    private func show(_ entry: LogEntry) throws {
        let line =
            switch format {
            case .text: entry.textLine()
            case .json: entry.jsonLine()
            }
        try Results.write(line)
    }
}
