import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RejectionLog
import RejectionReport
import System

/// `postern log`: the rejections one by one.
struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Shows rejected and deferred recipients one by one, oldest first.",
        discussion: """
            Each line has: time (UTC), rejected or deferred (with observed: in front where observe mode accepted the recipient), \
            reason, recipient, sender, client, HELO name, queue id, reply.

            With --format json, each line is a JSON object: id (a number that grows in the order of writing), time (ISO 8601, \
            UTC, milliseconds), outcome ("refused", "tempfailed"), observed (true: accepted in observe mode), reason ("unknown", \
            "relay", …; "mta": the MTA itself rejected the recipient), recipient, domain (its A-label), sender ("" for bounces), \
            client (address), client_name, helo, session (queue or session id), authenticated, mta, reply. An unknown text is "". \
            Fields may be added; none is renamed.

            In --recipient and --sender, * stands for any text, and upper and lower case are the same. An entry is shown if all \
            given filters match.

              postern log --since today --reason unknown
              postern log --recipient '*@example.com' --client 192.0.2.0/24 --limit 20
              postern log --follow
            """)

    @OptionGroup var log: LogOptions
    @Option(
        help: ArgumentHelp(
            "From this time on; default: 24h, with --limit the whole log, with --follow now.",
            valueName: "time"))
    var since: String?
    @Option(help: ArgumentHelp("Up to this time.", valueName: "time"))
    var until: String?
    @Option(help: ArgumentHelp("Only this recipient.", valueName: "address"))
    var recipient: String?
    @Option(help: ArgumentHelp("Only this sender; '' or '<>' for bounces.", valueName: "address"))
    var sender: String?
    @Option(help: ArgumentHelp("Only this queue or session id.", valueName: "id"))
    var session: String?
    @Option(help: ArgumentHelp("At most this number of entries, the newest.", valueName: "n"))
    var limit: Int?
    @Flag(help: "Keep showing new entries until interrupted.")
    var follow = false
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func validate() throws {
        if follow && until != nil { throw ValidationError("--follow has no end; leave out --until.") }
        if let limit, !(1...1_000_000).contains(limit) {
            throw ValidationError("--limit \(limit) is out of range; accepted: 1 to 1000000.")
        }
    }

    func run() throws {
        let beginning = since ?? (limit != nil ? nil : follow ? "now" : "24h")
        var query = RejectionReader.EntryQuery(domain: log.domainLabel, reason: log.reason)
        query.client = try log.network
        query.recipient = recipient.map(Self.bare)
        query.sender = sender.map(Self.bare)
        query.session = session
        // New entries follow the others, whatever their time: somebody may have set the clock.
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
        let entry = log.redact ? entry.redacted() : entry
        let line =
            switch format {
            case .text: entry.textLine()
            case .json: entry.jsonLine()
            }
        try Results.write(line)
    }

    /// The address without angle brackets around it.
    private static func bare(_ address: String) -> String {
        address.hasPrefix("<") && address.hasSuffix(">") ? String(address.dropFirst().dropLast()) : address
    }
}

/// The options that `postern report` and `postern log` share.
struct LogOptions: ParsableArguments {
    @OptionGroup var option: ConfigurationOption
    @Option(help: ArgumentHelp("Only this domain.", valueName: "domain"))
    var domain: String?
    @Option(help: ArgumentHelp("Only this reason, such as unknown or relay; mta for the MTA's own rejections."))
    var reason: String?
    @Option(
        help: ArgumentHelp("Only this client, or the clients of a network such as 192.0.2.0/24.", valueName: "address"))
    var client: String?
    @Flag(help: "Hide the local parts of all addresses.")
    var redact = false

    func validate() throws {
        _ = try network
        let known = Reason.allCases.map(\.name) + [RejectionLog.mtaReason]
        if let reason, !known.contains(reason) {
            throw ValidationError(
                "--reason \(reason): there is no such reason; accepted: \(known.joined(separator: ", ")).")
        }
        if let domain, (try? DomainName(domain)) == nil {
            throw ValidationError("--domain \(domain) is not a domain name; accepted: a name such as example.com.")
        }
    }

    /// The domain as an A-label, as the log has it.
    var domainLabel: String? { domain.map { (try? DomainName($0))?.aLabel ?? $0 } }

    /// The network of `--client`.
    var network: IPNetwork? {
        get throws {
            guard let client else { return nil }
            do {
                return try IPNetwork(client)
            } catch {
                throw ValidationError("--client: \(error)")
            }
        }
    }

    /// Opens the log for reading; a failure ends the command with a message.
    func open() throws -> RejectionReader {
        let configuration = try option.load()
        do {
            return try RejectionReader(path: configuration.log.database)
        } catch {
            throw Messages.fail(error, error.readingExitStatus)
        }
    }

    /// The moment that `--since` or `--until` names; another text ends the command with a message.
    static func moment(_ text: String, of option: String) throws -> Date {
        do {
            return try TimeExpression.parse(text)
        } catch {
            throw ValidationError("\(option): \(error)")
        }
    }
}

extension LogError {
    /// The exit status (sysexits) of a command that reads the log: 65 damaged or of another version, 66 not found, 77
    /// not permitted, 74 any other failure.
    var readingExitStatus: Int32 {
        switch code {
        case .newerVersion, .notALog, .corrupt: ExitStatus.unsoundData
        case .notFound: ExitStatus.noInput
        case .permission: ExitStatus.notPermitted
        case .inUse, .failed: ExitStatus.inputOutput
        }
    }
}
