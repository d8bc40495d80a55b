import ArgumentParser
import Foundation
import RecipientIndex
import System

/// `postern index`: examines the snapshot file.
struct IndexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index", abstract: "Examines the published snapshot of recipients.",
        subcommands: [IndexInfoCommand.self, IndexVerify.self])
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
