import ArgumentParser
import Foundation
import System

/// `postern config`: the configuration file.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Checks the configuration, or prints one to start from.",
        subcommands: [ConfigCheck.self, ConfigSample.self, ConfigManual.self])
}

/// `postern config check`.
struct ConfigCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Reports every fault of the configuration file at once.",
        discussion: """
            Each fault is one line on standard error: the file, the line, the key, the value, what is wrong with it and what is \
            accepted. The command also opens the files that the configuration names, and changes nothing. Exit status 0 for a \
            sound configuration, 78 for a faulty one.
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
        commandName: "sample", abstract: "Prints a configuration to start from, with every key explained.",
        discussion: "  postern config sample > /etc/postern/postern.toml")

    func run() throws {
        try Results.write(ConfigurationSample.text, terminator: "")
    }
}

/// `postern config manual`: for contrib/man.
struct ConfigManual: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "manual", abstract: "Prints the manual page postern.toml(5) as mdoc source.", shouldDisplay: false)

    func run() throws {
        try Results.write(ConfigurationManual.text, terminator: "")
    }
}
