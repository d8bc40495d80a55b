import ArgumentParser
import Foundation
import Migration
import RecipientFilter
import System

/// `postern migrate`: a configuration from what the mail server has now.
struct MigrateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "Writes a configuration from the one of Postfix, Sendmail or getadsmtp.",
        discussion: """
            The command reads relay domains, lists of recipients, directories and trusted networks, and writes them as a commented \
            postern.toml to standard output, or to the file of --output. The configuration is in observe mode: Postern accepts what the \
            mail server accepts, and logs whom it would have rejected. What the command can't translate is an open question, \
            in the file and on standard error. There the command also says which lines of main.cf or sendmail.mc to change, and what differs from \
            now.

            Passwords go to files of their own with mode 0600, in the folder of --output or of --secrets, never to the terminal. Without \
            --output the command writes no such file: a comment says where the password is now.

            With --apply the command changes main.cf or sendmail.mc, so that the mail server asks Postern. It keeps two copies beside the \
            file: FILE.before-postern and FILE.after-postern. --revert puts the first one back, byte for byte, unless somebody has \
            changed the file since. Neither reloads the mail server: they print the command for that.

              postern migrate postfix --output /etc/postern/postern.toml
              postern config check
              postern migrate postfix --apply
              postern migrate postfix --revert

            Exit status: 0 done; 64 wrong usage; 65 a file isn't what it should be, or was changed by others; 66 a file or table doesn't \
            exist; 69 postconf or another program is missing; 73 a file exists already or can't be made; 77 not permitted.
            """,
        subcommands: [MigratePostfix.self, MigrateSendmail.self, MigrateGetadsmtp.self])
}

/// The options that all kinds of migration share.
struct MigrationOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Write the configuration to this file (mode 0640).", valueName: "file"))
    var output: String?
    @Option(
        help: ArgumentHelp("The folder for the files with passwords; default: that of --output.", valueName: "folder"))
    var secrets: String?
    @Flag(help: "Replace files that --output and --secrets would write and that exist already.")
    var force = false
    @Option(
        help: ArgumentHelp(
            "The socket at which Postern listens, as in milter.socket; default: one that the mail server can reach.",
            valueName: "socket"))
    var socket: String?

    /// What this Postern can do.
    static let abilities = MigrationAbilities(sourceTypes: Set(SourceType.allCases.map(\.rawValue))) { expression in
        do throws(PatternError) {
            _ = try RecipientPattern(expression, action: .accept)
            return nil
        } catch {
            return error.description
        }
    }

    func validate() throws {
        if secrets != nil, output == nil { throw ValidationError("--secrets needs --output") }
        if force, output == nil { throw ValidationError("--force needs --output") }
    }

    /// Writes the configuration, and the text about it to standard error.
    ///
    /// - Parameter applyCommand: the command that changes the mail server's configuration; nil not to name one.
    func write(_ migrated: MigratedConfiguration, applyCommand: String?) throws {
        if let output {
            let files = try MigrationOutput(file: output, secrets: secrets, replaces: force).write(migrated)
            MessageStream.standardError.write("Written: \(output) (0640)\n")
            for file in files { MessageStream.standardError.write("Written: \(file) (0600), a password\n") }
            try checkWritten(output)
        } else {
            let folder = (Configuration.defaultPath as NSString).deletingLastPathComponent
            try Results.write(
                ConfigurationWriter(migrated, secretsFolder: folder, writesSecrets: false).toml, terminator: "")
        }
        MessageStream.standardError.write(MigrationSummary(migrated, applyCommand: applyCommand).text)
        MessageStream.standardError.flush(within: .seconds(1))
    }

    /// Names the faults that the written file has, which `postern config check` would report.
    private func checkWritten(_ file: String) throws {
        do {
            let written = try Configuration.load(file)
            for fault in written.sourceFaults { Messages.write("\(file): \(fault)") }
        } catch {
            throw Messages.fail("\(error)", ExitStatus.unsoundData)
        }
    }
}

/// The options that change the mail server's configuration, or take the change back.
struct ChangeOptions: ParsableArguments {
    @Flag(help: "Change main.cf or sendmail.mc so that the mail server asks Postern; without --output, do only that.")
    var apply = false
    @Flag(help: "Take back the change of --apply.")
    var revert = false

    func validate() throws {
        if apply, revert { throw ValidationError("--apply and --revert exclude each other") }
    }

    /// Makes the change of a migration.
    func make(_ migrated: MigratedConfiguration) throws {
        guard let change = migrated.change else { return }
        if try RevertibleChange(file: change.file).apply(change) {
            try Results.write("\(change.file): changed; the file before is \(change.file).before-postern")
            for line in change.lines { try Results.write("  \(line)") }
        } else {
            try Results.write("\(change.file): nothing to change")
        }
        for command in migrated.preparations { try Results.write("if it isn't there yet: \(command)") }
        try Results.write("then run: \(change.reload)")
    }

    /// Takes the change of a file back.
    static func revert(_ file: String, reload: String) throws {
        try RevertibleChange(file: file).revert()
        try Results.write("\(file): as it was before\nthen run: \(reload)")
    }
}

/// Runs a migration; a failure ends the command with a message and an exit status.
private func migrating(_ body: () throws -> Void) throws {
    do {
        try body()
    } catch let error as MigrationError {
        let status: Int32 =
            switch error.kind {
            case .noInput: ExitStatus.noInput
            case .data: ExitStatus.unsoundData
            case .notPermitted: ExitStatus.notPermitted
            case .unavailable: ExitStatus.unavailable
            case .cannotCreate: ExitStatus.cannotCreate
            }
        throw Messages.fail(error, status)
    }
}

/// A folder's path without a slash at its end, absolute.
private func absolute(_ folder: String) -> String { URL(fileURLWithPath: folder).path }

/// `postern migrate postfix`.
struct MigratePostfix: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "postfix", abstract: "Migrates from Postfix: main.cf, master.cf and the tables that they name.",
        discussion: "postconf(1) reads the configuration. postern migrate --help explains the rest.")

    @Option(help: ArgumentHelp("The folder of main.cf.", valueName: "folder"))
    var confDir = "/etc/postfix"
    @OptionGroup var options: MigrationOptions
    @OptionGroup var change: ChangeOptions

    func run() throws {
        let folder = absolute(confDir)
        let reload = folder == "/etc/postfix" ? "postfix reload" : "postfix -c \(folder) reload"
        try migrating {
            if change.revert { return try ChangeOptions.revert("\(folder)/main.cf", reload: reload) }
            var reader = try PostfixReader(
                folder: folder, socket: options.socket, abilities: MigrationOptions.abilities)
            let migrated = try reader.read()
            let command = "postern migrate postfix\(folder == "/etc/postfix" ? "" : " --conf-dir \(folder)") --apply"
            if !change.apply || options.output != nil {
                try options.write(migrated, applyCommand: change.apply ? nil : command)
            }
            if change.apply { try change.make(migrated) }
        }
    }
}

/// `postern migrate sendmail`.
struct MigrateSendmail: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sendmail",
        abstract: "Migrates from Sendmail: sendmail.cf or sendmail.mc and the tables that they name.",
        discussion: """
            The command reads sendmail.cf, or sendmail.mc if there is no sendmail.cf. --apply changes sendmail.mc; if there is none, it \
            prints the lines for sendmail.cf. postern migrate --help explains the rest.
            """)

    @Option(help: ArgumentHelp("The folder of sendmail.cf and sendmail.mc.", valueName: "folder"))
    var confDir = "/etc/mail"
    @OptionGroup var options: MigrationOptions
    @OptionGroup var change: ChangeOptions

    func run() throws {
        let folder = absolute(confDir)
        try migrating {
            if change.revert {
                return try ChangeOptions.revert(
                    "\(folder)/sendmail.mc", reload: "make -C \(folder) && service sendmail restart")
            }
            var reader = try SendmailReader(
                folder: folder, socket: options.socket, abilities: MigrationOptions.abilities)
            let migrated = try reader.read()
            let command = "postern migrate sendmail\(folder == "/etc/mail" ? "" : " --conf-dir \(folder)") --apply"
            if !change.apply || options.output != nil {
                try options.write(migrated, applyCommand: change.apply ? nil : command)
            }
            guard change.apply, let lines = migrated.change else { return }
            guard lines.canBeApplied else {
                try Results.write("\(lines.file): put these lines into it by hand:")
                for line in lines.lines { try Results.write("  \(line)") }
                return try Results.write("then run: \(lines.reload)")
            }
            try change.make(migrated)
        }
    }
}

/// `postern migrate getadsmtp`.
struct MigrateGetadsmtp: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "getadsmtp",
        abstract: "Migrates from getadsmtp.pl, which copies the addresses of Active Directory into a Postfix table.",
        discussion: """
            The command reads the script's variables ($VALID, $dc1, $dc2, $hqbase, $user, $passwd), its filter and the recipients that it adds; it \
            never runs the script. A shell script that starts the Perl script will do, too. Relay domains and networks come from \
            Postfix, in whose lists of recipients the directory takes the place of the script's table. postern migrate --help explains \
            the rest.
            """)

    @Argument(help: ArgumentHelp("The script.", valueName: "script"))
    var script: String
    @Option(
        help: ArgumentHelp(
            "The folder of Postfix's main.cf; default: /etc/postfix, if it has one.", valueName: "folder"))
    var confDir: String?
    @OptionGroup var options: MigrationOptions

    func run() throws {
        try migrating {
            let standard = "/etc/postfix"
            let hasStandard = FileManager.default.fileExists(atPath: "\(standard)/main.cf")
            let postfix = confDir.map(absolute) ?? (hasStandard ? standard : nil)
            let migrated = try GetadsmtpScript(path: script).migrate(
                postfix: postfix, socket: options.socket, abilities: MigrationOptions.abilities)
            let command = postfix.map { "postern migrate postfix\($0 == standard ? "" : " --conf-dir \($0)") --apply" }
            try options.write(migrated, applyCommand: command)
        }
    }
}
