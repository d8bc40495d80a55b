import ArgumentParser
import Foundation
import MailAddress
import RejectionReport

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
