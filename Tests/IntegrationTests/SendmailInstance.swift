import Foundation
import Glibc

/// A Sendmail of the test's own, from a package that was unpacked and not installed: configuration and queue in the test's
/// folder, on a port of the loopback that nothing else uses.
///
/// The test's folder must be below /run: Sendmail takes no unix socket from below a folder that all may write to.
final class SendmailInstance {
    /// What the configuration says around `contrib/sendmail/postern.mc`.
    struct Settings {
        /// Lines of m4 before the filter.
        var lines: [String] = []
        /// Changes the filter's line: `F=T` to something else.
        var filterFlag = "F=T"
        /// The lines of `access`, such as `To:example.com RELAY`.
        var access: [String] = []
        /// The lines of `virtusertable`, which is for ``virtualDomains``.
        var virtualUsers: [String] = []
        var virtualDomains: [String] = []
        /// Where a domain's mail goes: an address of the loopback.
        var routes: [String: String] = [:]
        /// The port of all inner servers.
        var innerPort: UInt16 = 25
    }

    /// Where contrib/test unpacks the package.
    private static let root =
        ProcessInfo.processInfo.environment["POSTERN_SENDMAIL"] ?? packageFolder + "/.build/sendmail"
    private static let program = root + "/usr/libexec/sendmail/sendmail"

    /// Whether this process may start one, and what is missing otherwise.
    static let obstacle: String? =
        if geteuid() != 0 {
            "a private Sendmail must be started as root"
        } else if !FileManager.default.isExecutableFile(atPath: program) {
            "there is no \(program) (contrib/test unpacks it)"
        } else if !FileManager.default.isExecutableFile(atPath: "/usr/bin/m4") {
            "m4 isn't installed (contrib/test installs it)"
        } else {
            nil
        }

    /// The folder that holds Package.swift.
    static let packageFolder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// The port that it listens on.
    let port: UInt16
    /// Its folder for messages that wait.
    let queue: String
    private let folder: String
    private let child: ChildProcess

    /// Starts a Sendmail that asks a filter at `socket`, and waits until it listens.
    init(in workspace: Workspace, socket: FilterSocket, _ settings: Settings = Settings()) throws {
        folder = try workspace.makeFolder("sendmail")
        queue = try workspace.makeFolder("sendmail/queue", mode: 0o700)
        port = try Ports.unused()
        try workspace.write("hosts files\naliases files\n", to: "sendmail/service.switch")
        try workspace.write("helpless\n", to: "sendmail/helpfile")
        let tables = [
            "access": settings.access, "virtusertable": settings.virtualUsers,
            "mailertable": settings.routes.map { "\($0) esmtp:[\($1)]" },
        ]
        let source = try workspace.write(
            Self.configuration(folder, port, try Self.filter(socket, settings.filterFlag), settings),
            to: "sendmail/sendmail.mc")
        let made = try workspace.run("/usr/bin/m4", [source])
        guard made.ending == .exited(0) else { throw ChildProcess.Failure(description: "m4: \(made.error)") }
        let file = try workspace.write(made.output, to: "sendmail/sendmail.cf")
        for (name, lines) in tables { try Self.table(name, lines, in: folder, workspace) }
        // With a host name that isn't fully qualified it would wait a minute before it starts.
        child = try ChildProcess(
            "/usr/bin/unshare",
            ["-u", "sh", "-c", "hostname gateway.example.test && exec \"$0\" -C \"$1\" -bD", Self.program, file],
            output: workspace.file("sendmail/output"), error: workspace.file("sendmail/output"))
        guard eventually(within: 30, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw ChildProcess.Failure(
                description: "Sendmail doesn't answer on \(port): \(workspace.text(of: "sendmail/output"))")
        }
    }

    deinit { stop() }

    /// The queue files of messages that wait or are being delivered.
    var queuedFiles: [String] { (try? FileManager.default.contentsOfDirectory(atPath: queue)) ?? [] }

    /// Ends it and the processes of its connections, whose working folder is its queue.
    func stop() {
        child.signal(SIGTERM)
        _ = child.wait(atMost: 10)
        for pid in Workspace.processes(in: folder) { kill(pid, SIGKILL) }
        _ = eventually(within: 10) { Workspace.processes(in: folder).isEmpty }
    }

    /// Makes a table for `hash` out of lines of keys and values.
    static func table(_ name: String, _ lines: [String], in folder: String, _ workspace: Workspace) throws {
        // makemap wants a sendmail.cf, but nothing from it.
        let made = try workspace.run(
            Self.root + "/usr/libexec/sendmail/makemap", ["-C", "/dev/null", "hash", "\(folder)/\(name)"],
            input: lines.map { "\($0)\n" }.joined())
        guard made.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "makemap \(name): \(made.ending)\n\(made.error)")
        }
    }

    /// `contrib/sendmail/postern.mc`, the socket and the flag being the test's.
    private static func filter(_ socket: FilterSocket, _ flag: String) throws -> String {
        var text = try String(contentsOfFile: packageFolder + "/contrib/sendmail/postern.mc", encoding: .utf8)
        let replacements = [
            ("S=unix:/run/postern/milter.sock", "S=\(socket)"), (", F=T,", flag.isEmpty ? "," : ", \(flag),"),
        ]
        for (original, replacement) in replacements {
            guard text.components(separatedBy: original).count == 2 else {
                throw ChildProcess.Failure(description: "postern.mc doesn't hold \(original) once")
            }
            text = text.replacingOccurrences(of: original, with: replacement)
        }
        return text
    }

    private static func configuration(
        _ folder: String, _ port: UInt16, _ filter: String, _ settings: Settings
    ) -> String {
        """
        divert(-1)
        define(`_CF_DIR_', `\(root)/usr/share/sendmail/cf/')
        divert(0)dnl
        include(`\(root)/usr/share/sendmail/cf/m4/cf.m4')dnl
        OSTYPE(`linux')dnl
        undefine(`_LOCAL_PROCMAIL_')dnl
        define(`confDOMAIN_NAME', `gateway.example.test')dnl
        define(`QUEUE_DIR', `\(folder)/queue')dnl
        define(`STATUS_FILE', `\(folder)/statistics')dnl
        define(`HELP_FILE', `\(folder)/helpfile')dnl
        define(`ALIAS_FILE', `')dnl
        define(`confCW_FILE', `/dev/null')dnl
        define(`confPID_FILE', `\(folder)/sendmail.pid')dnl
        dnl Nothing is asked of the network.
        define(`confSERVICE_SWITCH_FILE', `\(folder)/service.switch')dnl
        define(`confTO_IDENT', `0')dnl
        FEATURE(`nocanonify')dnl
        FEATURE(`accept_unresolvable_domains')dnl
        dnl A busy machine is no reason to refuse mail.
        define(`confQUEUE_LA', `1000')dnl
        define(`confREFUSE_LA', `1000')dnl
        define(`confDELAY_LA', `1000')dnl
        FEATURE(`no_default_msa')dnl
        DAEMON_OPTIONS(`Family=inet, Name=MTA, Addr=127.0.0.1, Port=\(port)')dnl
        FEATURE(`access_db', `hash -o \(folder)/access')dnl
        FEATURE(`virtusertable', `hash -o \(folder)/virtusertable')dnl
        \(settings.virtualDomains.map { "VIRTUSER_DOMAIN(`\($0)')dnl" }.joined(separator: "\n"))
        FEATURE(`mailertable', `hash -o \(folder)/mailertable')dnl
        define(`ESMTP_MAILER_ARGS', `TCP $h \(settings.innerPort)')dnl
        \(settings.lines.joined(separator: "\n"))
        \(filter)
        MAILER(`smtp')dnl

        """
    }
}
