import ArgumentParser
import Foundation
import RecipientIndex
import RecipientSync
import System

/// `postern index`: examines the snapshot file, and prints the list that it was made from.
struct IndexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index", abstract: "Examines the published snapshot of recipients, or exports the list.",
        subcommands: [IndexInfoCommand.self, IndexVerify.self, IndexExport.self])
}

/// The file argument that `index info` and `index verify` share.
struct SnapshotOption: ParsableArguments {
    @OptionGroup var option: ConfigurationOption
    @Argument(help: ArgumentHelp("The snapshot file; default: index.path of the configuration.", valueName: "file"))
    var path: String?

    /// The path and the description of the verified snapshot; an unsound snapshot ends the command with exit status 1.
    func read() throws -> (path: String, info: IndexInfo) {
        let path = try self.path ?? option.load().index.path
        do {
            return (path, try IndexInfo(path: path))
        } catch {
            throw Messages.fail(error, 1)
        }
    }
}

/// `postern index verify`.
struct IndexVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Verifies every byte of the snapshot.",
        discussion:
            "Exit status 0 if the snapshot is sound; 1, with the reason, if it is damaged, missing or of another version."
    )

    @OptionGroup var snapshot: SnapshotOption

    func run() throws {
        let (path, info) = try snapshot.read()
        try Results.write("\(path): sound, \(Words.count(info.recipients, "recipient"))")
    }
}

/// `postern index info`.
struct IndexInfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Shows the counts, age and sources of the snapshot. It contains no addresses.",
        discussion:
            "Exit status 0 if the snapshot is sound; 1, with the reason, if it is damaged, missing or of another version."
    )

    @OptionGroup var snapshot: SnapshotOption
    @Option(help: "text or json.")
    var format = OutputFormat.text

    func run() throws {
        let (path, info) = try snapshot.read()
        switch format {
        case .json:
            try Results.write(
                try JSON.text(
                    Document(
                        path: path, version: Int(info.version), generation: info.generation, created: info.created,
                        recipients: info.recipients, leaving: info.leaving,
                        catchAllDomains: info.catchAllDomains, fileSize: info.fileSize, sources: info.sources)))
        case .text:
            try Results.write("snapshot    \(path)")
            try Results.write("created     \(Words.time(info.created)), \(Words.age(of: info.created))")
            try Results.write("recipients  \(info.recipients)")
            try Results.write("leaving     \(info.leaving)")
            try Results.write("catch-all   \(Words.count(info.catchAllDomains, "domain"))")
            try Results.write("size        \(info.fileSize) bytes, format version \(info.version)")
            for source in info.sources where !source.isRelayTable {
                try Results.write(
                    "source      \(source.name.escapedForMessage) (\(source.type)): "
                        + "\(Words.count(source.recipients, "recipient")), last synced "
                        + Words.time(source.asOf))
                for alias in source.aliasDomains {
                    try Results.write(
                        "alias       \(alias.name.escapedForMessage) of \(alias.target.escapedForMessage)")
                }
            }
        }
    }

    private struct Document: Encodable {
        let path: String
        let version: Int
        let generation: UInt64
        let created: Date
        let recipients: Int
        let leaving: Int
        let catchAllDomains: Int
        let fileSize: Int
        let sources: [IndexSource]
    }
}

/// `postern index export`.
struct IndexExport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Prints the list of recipients, for example as a table for an MTA.",
        discussion: """
            The addresses come from the sync state, since the snapshot has none. The user who runs the command must be able to \
            read the state.

              postern index export --format postfix > relay_recipients   for relay_recipient_maps, then postmap
              postern index export --format sendmail                     lines for the access table
              postern index export                                       an address a line; @domain: all of a domain

            json has every address with its flags. The other formats hold the recipients that strangers may write to: \
            recipients for trusted clients only and disabled mailboxes are left out, and so are addresses that the format \
            can't hold. A message says how many.

            Exit status: 0; 66 there is no sync state; 74 the state can't be read; 78 faulty configuration.
            """)

    /// The formats of an export.
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case postfix, sendmail, list, json
    }

    @OptionGroup var option: ConfigurationOption
    @Option(help: "postfix, sendmail, list or json.")
    var format = Format.list

    func run() throws {
        let path = try option.load().sync.state
        var output = ExportOutput(format: format)
        let isFound: Bool
        do {
            isFound = try RecipientList.forEach(state: path) { try output.add($0, $1) }
        } catch let error as SyncError {
            throw Messages.fail(error, error.exitStatus)
        }
        guard isFound else {
            throw Messages.fail("there is no sync state \(path): run postern sync --once first", ExitStatus.noInput)
        }
        try output.finish()
    }
}

/// Writes the lines of an export, and counts what is left out.
private struct ExportOutput {
    let format: IndexExport.Format
    private var text = ""
    private var isFirst = true
    private var restricted = 0
    private var unfit = 0

    init(format: IndexExport.Format) { self.format = format }

    mutating func add(_ address: String, _ flags: RecipientFlags) throws {
        // Relay domains and alias domains are no recipients.
        guard flags.contains(.catchAll) || !address.hasPrefix("@") else { return }
        if format == .json {
            text += (isFirst ? "[\n" : ",\n") + (try JSON.line(Entry(address, flags)))
        } else if !flags.isDisjoint(with: [.internalOnly, .disabled]) {
            restricted += 1
        } else if format != .list,
            address.contains(where: { " \t\"\\#,:;()<>".contains($0) }) || address.hasPrefix("@@")
        {
            unfit += 1
        } else {
            switch format {
            case .postfix: text += "\(address) OK\n"
            case .sendmail: text += "To:\(address.hasPrefix("@") ? String(address.dropFirst()) : address) RELAY\n"
            case .list, .json: text += "\(address)\n"
            }
        }
        isFirst = false
        if text.utf8.count > 1 << 16 {
            try Results.write(text, terminator: "")
            text = ""
        }
    }

    mutating func finish() throws {
        if format == .json { text += isFirst ? "[]\n" : "\n]\n" }
        try Results.write(text, terminator: "")
        if restricted > 0 {
            Messages.write("left out: \(Words.count(restricted, "recipient")) that not every client may write to")
        }
        if unfit > 0 {
            Messages.write(
                "left out: \(Words.count(unfit, "address", plural: "addresses")) with characters that a table can't hold"
            )
        }
    }

    private struct Entry: Encodable {
        let address: String
        let internalOnly, disabled, catchAll: Bool

        init(_ address: String, _ flags: RecipientFlags) {
            self.address = address
            internalOnly = flags.contains(.internalOnly)
            disabled = flags.contains(.disabled)
            catchAll = flags.contains(.catchAll)
        }
    }
}
