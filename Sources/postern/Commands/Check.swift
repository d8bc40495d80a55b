import ArgumentParser
import DirectorySync
import Foundation
import MailAddress
import Milter
import RecipientFilter
import RecipientIndex

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
        if let client, (try? ClientAddress(client)) == nil {
            throw ValidationError(
                "--client \(client): not an IP address; accepted: such as 203.0.113.7 or 2001:db8::7.")
        }
    }

    func run() throws {
        let read = try option.load()
        let index = try snapshot(read)
        let configuration = read.naming(index?.info.sources ?? [])
        let policy = configuration.compiledPolicy { _ in 0 }
        let standing = ClientStanding(
            isTrusted: policy.trusts(client.flatMap { try? ClientAddress($0) })
                || authenticated && configuration.policy.trustAuthenticated, isBounce: bounce)
        if batch {
            try BatchCheck(policy: policy, standing: standing, index: index).run()
            return
        }
        guard let address else { return }
        let explanation = VerdictExplanation(
            of: address, client: client, standing: standing, index: index, policy: policy, configuration: configuration)
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

/// `postern check --batch`: verdicts on standard input's lines, without a `String` in between.
private struct BatchCheck {
    let policy: Policy
    let standing: ClientStanding
    let index: IndexSnapshot?

    func run() throws {
        let now = Int64(Date().timeIntervalSince1970)
        var pending: [UInt8] = []
        var output: [UInt8] = []
        output.reserveCapacity(1 << 17)
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = chunk.withUnsafeMutableBytes { read(STDIN_FILENO, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else {
                throw Messages.fail("standard input: \(String(cString: strerror(errno)))", ExitStatus.software)
            }
            if count == 0 { break }
            chunk.withUnsafeBufferPointer { bytes in
                var rest = UnsafeBufferPointer(rebasing: bytes[..<count])
                while let newline = rest.firstIndex(of: 0x0a) {
                    let line = UnsafeBufferPointer(rebasing: rest[..<newline])
                    if pending.isEmpty {
                        judge(line, now, &output)
                    } else {
                        pending.append(contentsOf: line)
                        pending.withUnsafeBufferPointer { judge($0, now, &output) }
                        pending.removeAll(keepingCapacity: true)
                    }
                    rest = UnsafeBufferPointer(rebasing: rest[(newline + 1)...])
                }
                pending.append(contentsOf: rest)
            }
            try write(&output)
        }
        if !pending.isEmpty { pending.withUnsafeBufferPointer { judge($0, now, &output) } }
        try write(&output)
    }

    private func judge(_ line: UnsafeBufferPointer<UInt8>, _ now: Int64, _ output: inout [UInt8]) {
        var address = line
        if address.last == 0x0d { address = UnsafeBufferPointer(rebasing: address.dropLast()) }
        if address.isEmpty { return }
        let recipient = Result { () throws(AddressError) in try RecipientAddress(path: address) }
        let verdict = policy.verdict(for: recipient, client: standing, index: index, now: now)
        output.append(contentsOf: verdict.action.rawValue.utf8)
        output.append(0x09)
        output.append(contentsOf: verdict.reason.name.utf8)
        output.append(0x09)
        output.append(contentsOf: address)
        output.append(0x0a)
    }

    private func write(_ output: inout [UInt8]) throws {
        try output.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(STDOUT_FILENO, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                if count < 0 && errno == EINTR { continue }
                // A reader that has seen enough, such as head, is no fault.
                guard count >= 0 else {
                    if errno == EPIPE { throw ExitCode(0) }
                    throw Messages.fail(
                        "standard output can't be written: \(String(cString: strerror(errno)))", ExitStatus.inputOutput)
                }
                done += count
            }
        }
        output.removeAll(keepingCapacity: true)
    }
}
