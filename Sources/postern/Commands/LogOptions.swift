import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RejectionLog
import RejectionReport

/// What `postern report` and `postern log` share: the log, the period, the cut.
struct LogOptions: ParsableArguments {
    @OptionGroup var option: ConfigurationOption
    @Option(help: ArgumentHelp("Only this domain.", valueName: "domain"))
    var domain: String?
    @Option(help: ArgumentHelp("Only this reason, such as unknown or relay; mta: what the MTA refused itself."))
    var reason: String?

    func validate() throws {
        let known = Reason.allCases.map(\.name) + [RejectionLog.mtaReason]
        if let reason, !known.contains(reason) {
            throw ValidationError("--reason \(reason): no such reason; accepted: \(known.joined(separator: ", ")).")
        }
        if let domain, (try? DomainName(domain)) == nil {
            throw ValidationError("--domain \(domain): no domain name; accepted: a name such as example.com.")
        }
    }

    /// The domain as an A-label, as the log has it.
    var domainLabel: String? { domain.map { (try? DomainName($0))?.aLabel ?? $0 } }

    /// The log for reading, or why it can't be read on standard error.
    func open() throws -> RejectionReader {
        let configuration = try option.load()
        do {
            return try RejectionReader(path: configuration.log.database)
        } catch {
            throw Messages.fail(error, error.readingExitStatus)
        }
    }
}

extension LogOptions {
    /// Reads `--since` or `--until`; a text that is no time ends the command with its fault.
    static func moment(_ text: String, of option: String) throws -> Date {
        do {
            return try TimeExpression.parse(text)
        } catch {
            throw ValidationError("\(option): \(error)")
        }
    }
}

extension LogError {
    /// After sysexits for a command that reads: 65 unsound or of another version, 66 there is none, 77 not permitted, 74 any
    /// other failure.
    var readingExitStatus: Int32 {
        switch code {
        case .newerVersion, .notALog, .corrupt: ExitStatus.unsoundData
        case .notFound: ExitStatus.noInput
        case .permission: ExitStatus.notPermitted
        case .inUse, .failed: ExitStatus.inputOutput
        }
    }
}
