import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RejectionLog
import RejectionReport

/// The options that `postern report` and `postern log` share.
struct LogOptions: ParsableArguments {
    @OptionGroup var option: ConfigurationOption
    @Option(help: ArgumentHelp("Only this domain.", valueName: "domain"))
    var domain: String?
    @Option(help: ArgumentHelp("Only this reason, such as unknown or relay; mta for the MTA's own rejections."))
    var reason: String?

    func validate() throws {
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

    /// Opens the log for reading; a failure ends the command with a message.
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
