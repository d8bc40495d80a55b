import Foundation
import Glibc

/// A private Sendmail from an unpacked package, with a milter at a unix socket, without the delays and limits for
/// clients that make errors.
final class Sendmail {
    let port: UInt16
    private let child: Child

    /// - Parameter socket: its path, not below a folder that everybody may write to.
    init(_ plan: Plan, socket: String, name: String) throws {
        port = try Ports.unused()
        let folder = try Scratch.folder(name)
        try FileManager.default.createDirectory(
            atPath: "\(folder)/queue", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        try Scratch.write("hosts files\naliases files\n", to: "\(folder)/service.switch")
        let macros = try Scratch.write(
            Self.configuration(folder, port, plan.sendmail, socket), to: "\(folder)/sendmail.mc")
        try Child.run("/usr/bin/m4", [macros], output: "\(folder)/sendmail.cf")
        // With a host name that isn't fully qualified, Sendmail waits a minute at its start.
        child = try Child(
            "/usr/bin/unshare",
            [
                "-u", "sh", "-c", "hostname gateway.example.test && exec \"$0\" -C \"$1\" -bD",
                "\(plan.sendmail)/usr/libexec/sendmail/sendmail", "\(folder)/sendmail.cf",
            ], output: "\(folder)/log", error: "\(folder)/log", isDaemon: true)
        let (port, child) = (port, child)
        guard eventually(within: 30, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw Failure("Sendmail doesn't answer:\n\(Scratch.tail(of: "\(folder)/log"))")
        }
    }

    func stop() { child.end() }

    private static func configuration(_ folder: String, _ port: UInt16, _ root: String, _ socket: String) -> String {
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
        define(`HELP_FILE', `')dnl
        define(`ALIAS_FILE', `')dnl
        define(`confCW_FILE', `/dev/null')dnl
        define(`confPID_FILE', `\(folder)/sendmail.pid')dnl
        define(`confSERVICE_SWITCH_FILE', `\(folder)/service.switch')dnl
        define(`confTO_IDENT', `0')dnl
        define(`confLOG_LEVEL', `1')dnl
        FEATURE(`nocanonify')dnl
        FEATURE(`accept_unresolvable_domains')dnl
        FEATURE(`promiscuous_relay')dnl
        define(`confQUEUE_LA', `1000')dnl
        define(`confREFUSE_LA', `1000')dnl
        define(`confDELAY_LA', `1000')dnl
        FEATURE(`no_default_msa')dnl
        DAEMON_OPTIONS(`Family=inet, Name=MTA, Addr=127.0.0.1, Port=\(port)')dnl
        INPUT_MAIL_FILTER(`filter', `S=unix:\(socket), F=T, T=C:30s;S:10s;R:10s;E:5m')dnl
        MAILER(`smtp')dnl

        """
    }
}
