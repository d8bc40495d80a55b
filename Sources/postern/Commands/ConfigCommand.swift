import ArgumentParser
import Foundation
import System

/// `postern config`: the configuration file.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Checks the configuration, or prints one to start from.",
        subcommands: [ConfigCheck.self, ConfigSample.self])
}

/// `postern config check`.
struct ConfigCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Tells every fault of the configuration file at once.",
        discussion: """
            Each fault is one line on standard error: the file and line, the key, what was given, what is accepted. The files \
            that the configuration names are opened too; nothing is written. Exit status 0 when sound, 78 when faulty.
            """)

    @OptionGroup var option: ConfigurationOption

    func run() throws {
        let configuration = try option.load()
        for notice in configuration.notices { Messages.write("note: \(notice)") }
        guard configuration.sourceFaults.isEmpty else {
            throw Messages.fail(
                ConfigurationError(file: option.file, faults: configuration.sourceFaults), ExitStatus.configuration)
        }
        try Results.write(
            "\(option.file): sound; \(Words.count(configuration.domains.count, "relay domain")), "
                + "\(Words.count(configuration.sync.sources.count, "source")), socket \(configuration.socket)")
    }
}

/// `postern config sample`.
struct ConfigSample: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sample", abstract: "Prints a configuration to start from, every key explained.",
        discussion: "  postern config sample > /etc/postern/postern.toml")

    func run() throws {
        try Results.write(ConfigurationSample.text, terminator: "")
    }
}
