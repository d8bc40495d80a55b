import ArgumentParser
import Foundation
import RecipientIndex
import System

/// `postern index`: the snapshot file.
struct IndexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index", abstract: "Looks at the published snapshot of recipients.",
        subcommands: [IndexInfoCommand.self, IndexVerify.self])
}

/// What `index info` and `index verify` share.
struct SnapshotOption: ParsableArguments {
    @OptionGroup var option: ConfigurationOption
    @Argument(help: ArgumentHelp("The snapshot file; default: index.path of the configuration.", valueName: "file"))
    var path: String?

    /// What the verified snapshot says of itself, and its path; an unsound one ends the command with exit status 1.
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
        commandName: "verify", abstract: "Tells whether the snapshot is sound, every octet of it.",
        discussion:
            "Exit status 0 when it is sound; 1 when it is damaged, of another version or missing, with the reason.")

    @OptionGroup var snapshot: SnapshotOption

    func run() throws {
        let (path, info) = try snapshot.read()
        try Results.write("\(path): sound, \(Words.count(info.recipients, "recipient"))")
    }
}

/// `postern index info`.
struct IndexInfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Tells what the snapshot holds: counts, age, sources. It holds no address.",
        discussion:
            "Exit status 0 when it is sound; 1 when it is damaged, of another version or missing, with the reason.")

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
                        + "\(Words.count(source.recipients, "recipient")), read "
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
