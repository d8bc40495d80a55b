import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import RejectionLog
import System

/// `postern check`: explains the verdict on a recipient, or prints the verdicts on many recipients.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Explains the verdict on a recipient: its rule, its reason and its source.",
        discussion: """
            The verdict is the one that the filter gives with this configuration and the published recipient index. Harvest \
            limits, which depend on what a client asked for before, are left out.

            Exit status: 0 accepted, 1 rejected, 75 deferred; 65 the recipient index is damaged, 77 it can't be read.

            With --batch, postern reads addresses from standard input, one a line, and prints for each a line with the \
            verdict (accept, reject, tempfail), the reason and the address, separated by tabs; exit status 0.

              postern check nobody@example.com
              postern check --client 203.0.113.7 --authenticated someone@example.com
              cut -f1 addresses.txt | postern check --batch | grep -v ^accept
            """)

    @OptionGroup var option: ConfigurationOption
    @Argument(help: "The recipient's address.")
    var address: String?
    @Flag(help: "Judge the addresses on standard input, one a line.")
    var batch = false
    @Option(help: ArgumentHelp("The client's IP address; default: a client that is not trusted.", valueName: "ip"))
    var client: String?
    @Flag(help: "Judge as for a client that has authenticated.")
    var authenticated = false
    @Flag(help: "Judge as the recipient of a bounce, MAIL FROM:<>.")
    var bounce = false
    @Option(help: "The output: text or json.")
    var format = OutputFormat.text

    func validate() throws {
        if batch && address != nil { throw ValidationError("Give an address or --batch, not both.") }
        if !batch && address == nil {
            throw ValidationError("Give an address, or --batch and addresses on standard input.")
        }
        if batch && format != .text { throw ValidationError("--batch has its own format: leave out --format.") }
        if let client, (try? IPAddress(client)) == nil {
            throw ValidationError(
                "--client \(client): not an IP address; accepted: an address such as 203.0.113.7 or 2001:db8::7.")
        }
    }

    func run() throws {
        let read = try option.load()
        let index = try snapshot(read)
        let configuration = read.addingDomains(of: index?.info.sources ?? [])
        let policy = configuration.compiledPolicy()
        let trust = ClientTrust(
            isTrusted: policy.trusts(client.flatMap { try? IPAddress($0) })
                || authenticated && configuration.policy.trustAuthenticated, isBounce: bounce)
        let senders = LoggedSenders(configuration, isNeeded: !batch || policy.defersUnlistedSenders)
        if batch {
            try BatchCheck(policy: policy, trust: trust, index: index, senders: senders.lately).run()
            return
        }
        guard let address else { return }
        let explanation = VerdictExplanation(
            of: address, client: client, trust: trust, index: index, policy: policy, senders: senders,
            configuration: configuration)
        switch format {
        case .text: try Results.write(explanation.text)
        case .json: try Results.write(try JSON.text(explanation))
        }
        switch explanation.outcome {
        case .accepted: break
        case .rejected: throw ExitCode(1)
        case .deferred: throw ExitCode(ExitStatus.temporaryFailure)
        }
    }

    /// The published snapshot; nil if there is none, with a message if one is expected. Throws if there is one that can't be read or is damaged: a
    /// running filter would go on with its own.
    private func snapshot(_ configuration: Configuration) throws -> IndexSnapshot? {
        do {
            return try IndexSnapshot(path: configuration.index.path)
        } catch {
            switch error.kind {
            case .missing: break
            case .unreadable:
                throw Messages.fail("can't judge without the recipient index: \(error)", ExitStatus.notPermitted)
            default: throw Messages.fail("can't judge without the recipient index: \(error)", ExitStatus.unsoundData)
            }
            if configuration.policy.indexExpected { Messages.write("note: judged without a recipient index: \(error)") }
            return nil
        }
    }
}

/// The unlisted senders in the rejection log, for commands that judge as the filter does.
struct LoggedSenders {
    /// The senders that count for a verdict.
    let lately = UnlistedSenders()
    private var days: [String: Int64] = [:]

    /// Reads the senders. Without a log there are none; a message says so if the log can't be read and the verdict may depend on it.
    ///
    /// - Parameter isNeeded: false to leave the log alone.
    init(_ configuration: Configuration, isNeeded: Bool) {
        guard isNeeded else { return }
        let today = Int64(Date().timeIntervalSince1970) / 86_400
        do {
            let senders = try RejectionReader(path: configuration.log.database).unlistedSenders(since: .min)
            for sender in senders {
                days[sender.address] = sender.lastDay
                if sender.lastDay >= today - UnlistedSenders.days { lately.insert(sender.address, day: sender.lastDay) }
            }
        } catch {
            guard error.code != .notFound, configuration.defersUnlistedSenders else { return }
            Messages.write("note: judged without the senders of the log (policy.unlisted_sender): \(error)")
        }
    }

    /// The day on which an unlisted address last sent, as 2026-11-30; nil if it hasn't sent.
    func day(of address: String) -> String? { days[address].map(Words.day) }
}
