import ArgumentParser
import Foundation
import MailAddress
import RejectionLog
import RejectionReport
import System

/// `postern report`: which recipients were rejected, and why.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Reports which recipients were rejected in a period, by whom and why.",
        discussion: """
            Times are now, today, yesterday, an age (30m, 12h, 7d, 2w), a date (2026-11-24) or a date with a time, with or \
            without a zone; a time without a zone is local time. The period is rounded to whole minutes.

            Totals, reasons, domains and the trend come from exact counters. The other lists come from log entries, of which some \
            may be missing after a flood; for older times they have the most frequent values of each day. The report says what \
            is missing.

            --by adds a table by one key: recipient, domain, client, network, sender, reason, hour, day or host (the MTA that \
            asked). A report with --client reaches back as far as log.detail_retention keeps log entries.

            Any user who may read the database can run the command, also while the filter writes. The exit status is 0; 66 when \
            there is no log yet; with --send that of sendmail.

            The text form begins with what to do. It is as wide as the terminal. It is in colour on a terminal, unless NO_COLOR \
            is set, and in ASCII where the locale isn't UTF-8. Its trend has one number for each step; beyond 48 steps it is only \
            a chart. HTML is one file without scripts or outside resources. JSON has every value as it is; the other forms spell \
            out characters that aren't plainly visible, such as \\x1b.

            CSV (RFC 4180, UTF-8, times in UTC) is one long table: section names the section of a line, key its subject, and the \
            other columns have the names of the JSON form. With --by it is that table alone: the key, count and share in percent; \
            its last line, (others), counts everything that is in none of the rows. A value that a spreadsheet would run as a \
            formula, because it begins with = + - or @, has an apostrophe in front.

            With --skip-empty, nothing is written or sent after a quiet period: nothing was rejected, deferred or observed, and \
            there is no problem. The exit status is 0 then.

            --mail writes a message with the text and the HTML form to standard output; with --send it goes to sendmail instead.

              postern report --since today
              postern report --since yesterday --until today --domain example.com
              postern report --since 7d --by network --top 50
              postern report --since 7d --client 203.0.113.0/24 --format json
              postern report --since 7d --format html > report.html
              postern report --since yesterday --until today --mail postmaster@example.com --send
            """)

    @OptionGroup var log: LogOptions
    @Option(help: ArgumentHelp("The beginning of the period.", valueName: "time"))
    var since = "24h"
    @Option(help: ArgumentHelp("The end of the period.", valueName: "time"))
    var until = "now"
    @Option(help: ArgumentHelp("The greatest length of a list.", valueName: "n"))
    var top = 10
    @Option(
        name: .customLong("by"),
        help: ArgumentHelp(
            "Add a table by recipient, domain, client, network, sender, reason, hour, day or host.", valueName: "key"),
        transform: Self.key)
    var key: ReportQuery.Key?
    @Flag(name: .customLong("fold-verp"), help: "Show senders that differ by a VERP, SRS or BATV tag only as one.")
    var foldVERP = false
    @Flag(help: "Write and send nothing where nothing was rejected and nothing is a problem.")
    var skipEmpty = false
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard (1...10_000).contains(top) else {
            throw ValidationError("--top \(top) is out of range; accepted: 1 to 10000.")
        }
    }

    private static func key(_ text: String) throws -> ReportQuery.Key {
        guard let key = ReportQuery.Key(rawValue: text) else {
            let accepted = ReportQuery.Key.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--by \(text): there is no such key; accepted: \(accepted).")
        }
        return key
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
                    LogSelection(
                        since: since, until: until, domain: log.domainLabel, reason: log.reason, client: try log.network
                    ),
                    top: top, key: key, foldVERP: foldVERP, redact: log.redact),
                ReportContext(try log.option.load()))
            if skipEmpty, report.isQuiet { return }
            try output.write(report)
        } catch let error as LogError {
            throw Messages.fail(error, error.readingExitStatus)
        }
    }
}

/// The formats of `postern report`.
enum ReportFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json, csv, html
}

/// The form of a report, and where it goes.
struct ReportOutput: ParsableArguments {
    @Option(help: "text, json, csv or html; all have the same figures.")
    var format: ReportFormat?
    @Option(
        help: ArgumentHelp(
            "Write a mail with a text and an HTML part to these addresses, for sendmail -t.", valueName: "address,…"))
    var mail: [String] = []
    @Option(help: ArgumentHelp("The sender of the mail; default: postern at this host.", valueName: "address"))
    var from: String?
    @Flag(help: "Send the mail with sendmail; the exit status is that of sendmail.")
    var send = false
    @Option(help: ArgumentHelp("The sendmail program for --send; default: \(Sendmail.defaultPath).", valueName: "path"))
    var sendmail: String?

    /// The mail of the options; nil without --mail.
    private var delivery: ReportMail? {
        get throws {
            guard !mail.isEmpty else { return nil }
            let recipients = mail.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }
                .map { Self.plain($0.trimmingCharacters(in: .whitespaces)) }
            let host = Machine.hostName
            do {
                return try ReportMail(from: Self.plain(from ?? "postern@\(host)"), to: recipients, host: host)
            } catch {
                throw ValidationError("--mail, --from: \(error).")
            }
        }
    }

    func validate() throws {
        if mail.isEmpty {
            for (name, isGiven) in [("--from", from != nil), ("--send", send)] where isGiven {
                throw ValidationError("\(name) needs --mail.")
            }
        } else if format != nil {
            throw ValidationError("--mail has a text and an HTML part; leave out --format.")
        }
        if let sendmail {
            guard send else { throw ValidationError("--sendmail needs --send.") }
            guard sendmail.hasPrefix("/") else {
                throw ValidationError(
                    "--sendmail \(sendmail) is not an absolute path; accepted: a path such as \(Sendmail.defaultPath).")
            }
        }
        _ = try delivery
    }

    /// Writes the report to standard output, or hands it to sendmail.
    func write(_ report: RejectionReport) throws {
        if let delivery = try delivery {
            let message = try delivery.message(report)
            guard send else { return try Results.write(message, terminator: "") }
            return try Sendmail.send(message, path: sendmail ?? Sendmail.defaultPath, sender: from.map(Self.plain))
        }
        switch format ?? .text {
        case .text: try Results.write(report.text(Terminal.reportStyle), terminator: "")
        case .json: try Results.write(try report.json(), terminator: "")
        case .csv: try Results.write(report.csv(), terminator: "")
        case .html: try Results.write(try report.html(host: Machine.hostName), terminator: "")
        }
    }

    /// The address with its domain as A-labels, as a header needs it.
    private static func plain(_ address: String) -> String {
        guard let at = address.lastIndex(of: "@") else { return address }
        let domain = String(address[address.index(after: at)...])
        guard !domain.utf8.allSatisfy({ $0 < 0x80 }), let name = try? DomainName(domain) else { return address }
        return address[...at] + name.aLabel
    }
}

/// Sends a complete mail with the MTA's sendmail(1).
enum Sendmail {
    static let defaultPath = "/usr/sbin/sendmail"

    /// Sends the message to the recipients of its header. A failure ends the command with a message and sendmail's exit
    /// status.
    ///
    /// - Parameter sender: the envelope sender; nil leaves the choice to sendmail.
    static func send(_ message: String, path: String, sender: String?) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        // Without a shell, nothing has to be quoted.
        process.arguments = ["-t", "-i"] + (sender.map { ["-f", $0] } ?? [])
        // A file, not a pipe: a pipe would fail if sendmail ended before it has read everything.
        guard let file = tmpfile() else {
            throw Messages.fail(
                "can't make a temporary file for the mail: \(systemMessage())", ExitStatus.cannotCreate
            )
        }
        defer { fclose(file) }
        let input = FileHandle(fileDescriptor: fileno(file), closeOnDealloc: false)
        do {
            try input.write(contentsOf: Data(message.utf8))
            try input.seek(toOffset: 0)
        } catch {
            throw Messages.fail(
                "can't write the temporary file for the mail: \(error.localizedDescription)",
                ExitStatus.inputOutput)
        }
        process.standardInput = input
        do {
            try process.run()
        } catch {
            throw Messages.fail(
                "\(path) can't be started, so the report was not sent: \(error.localizedDescription)",
                ExitStatus.unavailable)
        }
        process.waitUntilExit()
        let status = process.terminationStatus
        if process.terminationReason == .uncaughtSignal {
            throw Messages.fail(
                "\(path) was killed by signal \(status), so the report was not sent", ExitStatus.software)
        }
        guard status == 0 else {
            throw Messages.fail(
                "\(path) did not accept the report: exit status \(status)\(meaning(status))", status)
        }
    }

    /// The meaning of an exit status (sysexits.h).
    private static func meaning(_ status: Int32) -> String {
        switch status {
        case 64: ", wrong usage"
        case 65: ", the mail is malformed"
        case 67: ", a recipient is unknown"
        case 68: ", a host is unknown"
        case 69: ", the mail system is not available"
        case 75: ", temporary failure: try again later"
        case 77: ", not permitted"
        case 78: ", the mail system's configuration is faulty"
        default: ""
        }
    }
}
