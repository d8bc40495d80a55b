import ArgumentParser
import Foundation
import MailAddress
import RecipientFilter
import RecipientIndex
import System

/// `postern check`: the verdict on an address, explained; or on many, a line each.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Explains the verdict on a recipient: its reason, its source, what decided.",
        discussion: """
            The verdict is the one that the filter would give with this configuration and the published snapshot, by the same \
            code. Harvest limits depend on what a client did before and are left out.

            Exit status: 0 accepted, 1 refused for good, 75 refused for now; 65 the index is unsound, 77 it can't be read.

            With --batch, addresses are read from standard input, one a line, and for each a line is printed with the verdict \
            (accept, reject, tempfail), the reason and the address, separated by tabs; exit status 0.

              postern check nobody@example.com
              postern check --client 203.0.113.7 --authenticated someone@example.com
              cut -f1 addresses.txt | postern check --batch | grep -v ^accept
            """)

    @OptionGroup var option: ConfigurationOption
    @Argument(help: "The recipient's address.")
    var address: String?
    @Flag(help: "Judge the addresses on standard input, one a line.")
    var batch = false
    @Option(help: ArgumentHelp("The client's IP address; default: one that is not trusted.", valueName: "ip"))
    var client: String?
    @Flag(help: "Judge as for a client that has logged in.")
    var authenticated = false
    @Flag(help: "Judge as a recipient of a bounce, MAIL FROM:<>.")
    var bounce = false
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func validate() throws {
        if batch && address != nil { throw ValidationError("Give an address or --batch, not both.") }
        if !batch && address == nil {
            throw ValidationError("Give an address, or --batch and addresses on standard input.")
        }
        if batch && format != .text { throw ValidationError("--batch has a format of its own: leave out --format.") }
        if let client, (try? IPAddress(client)) == nil {
            throw ValidationError(
                "--client \(client): not an IP address; accepted: such as 203.0.113.7 or 2001:db8::7.")
        }
    }

    func run() throws {
        let read = try option.load()
        let index = try snapshot(read)
        let configuration = read.addingDomains(of: index?.info.sources ?? [])
        let policy = configuration.compiledPolicy { _ in 0 }
        let standing = ClientStanding(
            isTrusted: policy.trusts(client.flatMap { try? IPAddress($0) })
                || authenticated && configuration.policy.trustAuthenticated, isBounce: bounce)
        let senders = LoggedSenders(configuration, isNeeded: !batch || policy.defersUnlistedSenders)
        if batch {
            try BatchCheck(policy: policy, standing: standing, index: index, senders: senders.lately).run()
            return
        }
        guard let address else { return }
        let explanation = VerdictExplanation(
            of: address, client: client, standing: standing, index: index, policy: policy, senders: senders,
            configuration: configuration)
        switch format {
        case .text: try Results.write(explanation.text)
        case .json: try Results.write(try JSON.text(explanation))
        }
        switch explanation.action {
        case .accept: break
        case .reject: throw ExitCode(1)
        case .tempfail: throw ExitCode(ExitStatus.temporaryFailure)
        }
    }

    /// The published snapshot; without one, nil, and a word about it where one is expected. One that is there and can't be used
    /// gives no verdict: a running filter goes on with the one that it has.
    private func snapshot(_ configuration: Configuration) throws -> IndexSnapshot? {
        do {
            return try IndexSnapshot(path: configuration.index.path)
        } catch {
            switch error.kind {
            case .missing: break
            case .unreadable: throw Messages.fail("can't judge without the index: \(error)", ExitStatus.notPermitted)
            default: throw Messages.fail("can't judge without the index: \(error)", ExitStatus.unsoundData)
            }
            if configuration.policy.indexExpected { Messages.write("note: judged without an index: \(error)") }
            return nil
        }
    }
}
