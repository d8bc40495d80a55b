import ArgumentParser
import Glibc
import System

@main
enum Main {
    static func main() {
        StandardDescriptors.secure()
        // Whoever reads the messages may be gone; results have Results.write(_:terminator:) for that.
        signal(SIGPIPE, SIG_IGN)
        if let fault = ProcessTimeZone.adopt() { Messages.write("note: \(fault)") }
        Postern.main()
    }
}

/// The command `postern`.
struct Postern: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "postern",
        abstract: "Refuses unknown recipients and foreign domains at RCPT TO, on Postfix and Sendmail.",
        discussion: """
            Postern stands beside the MTA as a milter, knows every valid recipient of every relayed domain, and refuses the \
            others before a byte of the message is accepted. A sync thread keeps the list current; every refusal is logged.

              postern config sample > postern.toml   a configuration to start from
              postern config check                   every fault in it at once
              postern serve                          the filter, in the foreground
              postern status                         how it all stands
              postern reload                         a changed configuration into the running filter
              postern check someone@example.com      what would be answered, and why
              postern report --since today           who was refused, and why

            Exit statuses: 1 refused, unsound or not healthy, as each command tells; the others are those of sysexits.h: \
            64 usage, 65 unsound data, 66 no log yet, 69 unavailable, 70 a fault of Postern itself, 73 can't create a file, \
            74 can't read or write, 75 try again later, 77 not permitted, 78 faulty configuration.
            """,
        version: version,
        subcommands: [
            Serve.self, Status.self, Reload.self, SyncCommand.self, Check.self, ReportCommand.self, LogCommand.self,
            IndexCommand.self,
            ConfigCommand.self, MigrateCommand.self,
        ])
}
