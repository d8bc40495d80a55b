import ArgumentParser
import Foundation
import RejectionLog
import System

/// `postern log`: the refusals one by one.
struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Shows the refusals one by one, oldest first.",
        discussion: """
            A line each: time (UTC), refused or tempfailed (with observed: in front where observe mode let it pass), reason, \
            recipient, sender, client, HELO name, queue id, reply.

            With --format json, one JSON object a line: id (a number that grows in the order of writing), time (ISO 8601, UTC, \
            milliseconds), outcome ("refused", "tempfailed"), observed (true: let pass in observe mode), reason ("unknown", \
            "relay", …; "mta": refused by the MTA itself), recipient, domain (its A-label), sender ("" for bounces), client \
            (address), client_name, helo, session (queue or session id), authenticated, mta, reply. A text that isn't known is "". \
            Fields may be added; none is renamed.

            In --recipient and --sender, * stands for any text; upper and lower case are the same. All that is given must apply.

              postern log --since today --reason unknown
              postern log --recipient '*@example.com' --client 192.0.2.0/24 --limit 20
              postern log --follow
            """)

    @OptionGroup var log: LogOptions
    @Option(
        help: ArgumentHelp(
            "From this time on; default: 24h, with --limit everything, and with --follow from now on.",
            valueName: "time"))
    var since: String?
    @Option(help: ArgumentHelp("Up to this time.", valueName: "time"))
    var until: String?
    @Option(help: ArgumentHelp("Only this client, or those of a network such as 192.0.2.0/24.", valueName: "address"))
    var client: String?
    @Option(help: ArgumentHelp("Only this recipient.", valueName: "address"))
    var recipient: String?
    @Option(help: ArgumentHelp("Only this sender; '' or '<>': bounces.", valueName: "address"))
    var sender: String?
    @Option(help: ArgumentHelp("Only this queue or session id.", valueName: "id"))
    var session: String?
    @Option(help: ArgumentHelp("Only the newest, at most so many.", valueName: "n"))
    var limit: Int?
    @Flag(help: "Hide the local parts of all addresses.")
    var redact = false
    @Flag(help: "Go on with new refusals as they come, until interrupted.")
    var follow = false
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func validate() throws {
        if follow && until != nil { throw ValidationError("--follow has no end: leave out --until.") }
        if let limit, !(1...1_000_000).contains(limit) {
            throw ValidationError("--limit \(limit): accepted: 1 to 1000000.")
        }
        _ = try clients()
    }

    func run() throws {
        let beginning = since ?? (limit != nil ? nil : follow ? "now" : "24h")
        var query = RejectionReader.EntryQuery(domain: log.domainLabel, reason: log.reason)
        query.clients = try clients()
        query.recipient = recipient.map(Self.bare)
        query.sender = sender.map(Self.bare)
        query.session = session
        // New rows are after the others, whatever their time: a clock may have been set.
        let filter = query
        query.since = try beginning.map { try LogOptions.moment($0, of: "--since") }
        query.until = try until.map { try LogOptions.moment($0, of: "--until") }
        let reader = try log.open()
        do {
            var last = try reader.lastEntryID()
            if let limit {
                for entry in try reader.newestEntries(limit, query) {
                    try show(entry)
                    last = max(last, entry.id)
                }
            } else {
                for result in try reader.entries(query) {
                    let entry = try result.get()
                    try show(entry)
                    last = max(last, entry.id)
                }
            }
            guard follow else { return }
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
        let entry = redact ? entry.redacted() : entry
        let line =
            switch format {
            case .text: entry.textLine()
            case .json: entry.jsonLine()
            }
        try Results.write(line)
    }

    /// The addresses of `--client`.
    private func clients() throws -> ClosedRange<IPAddress>? {
        guard let client else { return nil }
        do {
            return try IPNetwork(client).range
        } catch {
            throw ValidationError("--client: \(error)")
        }
    }

    /// An address without the angle brackets that it may be copied with.
    private static func bare(_ address: String) -> String {
        address.hasPrefix("<") && address.hasSuffix(">") ? String(address.dropFirst().dropLast()) : address
    }
}
