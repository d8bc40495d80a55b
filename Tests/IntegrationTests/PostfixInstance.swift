import Foundation
import Glibc

/// A Postfix of the test's own: configuration, queue, data and log in the test's folder, on ports of the loopback that
/// nothing else uses. It shares the programs with the machine's Postfix and nothing else.
final class PostfixInstance {
    /// Settings that hold for all instances; a test's own come after them.
    private static let common: [(String, String)] = [
        ("compatibility_level", "3.6"), ("inet_interfaces", "127.0.0.1"), ("inet_protocols", "ipv4"),
        ("myhostname", "gateway.example.test"), ("mydestination", ""), ("local_recipient_maps", ""), ("alias_maps", ""),
        ("mynetworks", "127.0.0.1/32"), ("parent_domain_matches_subdomains", ""), ("recipient_delimiter", "+"),
        ("show_user_unknown_table_name", "no"),
        ("smtpd_relay_restrictions", "permit_mynetworks, reject_unauth_destination"),
        ("default_transport", "discard"), ("relay_transport", "discard"), ("biff", "no"),
        ("enable_long_queue_ids", "yes"),
        // Nothing may leave the machine, and no answer may wait on the network.
        ("smtpd_peername_lookup", "no"), ("disable_dns_lookups", "yes"), ("smtpd_tls_security_level", "none"),
        // Postfix slows down or cuts off a client that errs as often as these tests do.
        ("smtpd_error_sleep_time", "0"), ("smtpd_soft_error_limit", "1000000"), ("smtpd_hard_error_limit", "1000000"),
        ("smtpd_junk_command_limit", "1000000"), ("smtpd_client_connection_count_limit", "0"), ("in_flow_delay", "0"),
        ("milter_default_action", "tempfail"), ("milter_connect_timeout", "5s"),
    ]

    /// A port that it listens on.
    struct Listener {
        /// Settings of this `smtpd` on top of main.cf.
        var settings: [String: String] = [:]
        /// Whether its root is the queue.
        var isChrooted = false
        /// Whether a `postscreen` is in front of it.
        var isScreened = false
    }

    /// Whether this process may start one, and what is missing otherwise.
    static let obstacle: String? =
        if geteuid() != 0 {
            "a private Postfix must be started as root"
        } else if !FileManager.default.isExecutableFile(atPath: "/usr/sbin/postfix") {
            "Postfix isn't installed (contrib/test installs it)"
        } else {
            nil
        }

    /// The ports that it listens on, one for each `smtpd` that was asked for.
    let ports: [UInt16]
    /// Its port, where there is just one.
    var port: UInt16 { ports[0] }

    private let workspace: Workspace
    private let configuration: String
    private let folder: String

    /// Starts a Postfix and waits until it greets.
    ///
    /// - Parameters:
    ///   - settings: of main.cf.
    ///   - listeners: one of them may be screened.
    convenience init(
        in workspace: Workspace, _ settings: [String: String], listeners: [Listener] = [Listener()],
        name: String = "postfix"
    ) throws {
        // Of settings given twice Postfix takes the last, with a warning; keep the last only.
        let lines = (Self.common + settings.map { ($0, $1) }).map { "\($0) = \($1)" }
        var seen: Set<Substring> = []
        let main = lines.reversed().filter { seen.insert($0.prefix { $0 != " " }).inserted }.reversed()
        try self.init(
            in: workspace, main: main.joined(separator: "\n") + "\n", listeners: listeners, name: name,
            sasl: settings["cyrus_sasl_config_path"])
    }

    /// Starts a Postfix with this `main.cf`, to which the names of the instance's own folders are added, and waits until it
    /// greets.
    init(
        in workspace: Workspace, main: String, listeners: [Listener] = [Listener()], name: String = "postfix",
        sasl: String? = nil
    ) throws {
        self.workspace = workspace
        folder = try workspace.makeFolder(name)
        configuration = try workspace.makeFolder("\(name)/etc")
        let queue = try workspace.makeFolder("\(name)/queue")
        let data = try workspace.makeFolder("\(name)/data", mode: 0o700)
        guard let owner = getpwnam("postfix"), chown(data, owner.pointee.pw_uid, owner.pointee.pw_gid) == 0 else {
            throw ChildProcess.Failure(description: "\(data) can't be given to the user postfix")
        }
        ports = try listeners.map { _ in try Ports.unused() }

        let own = """
            queue_directory = \(queue)
            data_directory = \(data)
            maillog_file = \(folder)/maillog
            maillog_file_prefixes = \(folder)

            """
        try workspace.write(main + own, to: "\(name)/etc/main.cf")
        try workspace.write(Self.services(listeners, ports), to: "\(name)/etc/master.cf")

        // Debian's Postfix looks there and nowhere else.
        if let sasl { symlink(sasl, "\(configuration)/sasl") }

        let started = try workspace.run("/usr/sbin/postfix", ["-c", configuration, "start"])
        guard started.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "postfix start: \(started.ending)\n\(started.error)\n\(log)")
        }
        // A fault in its settings shows in the log only, while connections wait.
        let answers = eventually(within: 30) {
            log.contains("fatal:") || ports.allSatisfy { (try? SMTPClient(port: $0, patience: 3)) != nil }
        }
        guard answers, !log.contains("fatal:") else {
            throw ChildProcess.Failure(description: "Postfix doesn't answer on \(ports)\n\(log)")
        }
    }

    deinit { stop() }

    /// Whether a message waits or is being delivered.
    var hasQueuedMail: Bool {
        ["maildrop", "incoming", "active", "deferred", "hold", "corrupt", "bounce", "defer"].contains { name in
            let queue = FileManager.default.enumerator(atPath: "\(folder)/queue/\(name)")
            // Folders of one letter spread the files of some queues.
            return queue?.contains { ($0 as? String).map { $0.split(separator: "/").last?.count ?? 0 > 1 } ?? false }
                ?? false
        }
    }

    /// What it has logged.
    var log: String { workspace.text(of: String(folder.dropFirst(workspace.path.count + 1)) + "/maillog") }

    /// Makes a table for `hash:` out of lines of keys and values, and returns its name for main.cf.
    static func table(_ lines: [String], in workspace: Workspace, name: String) throws -> String {
        let path = try workspace.write(lines.joined(separator: "\n") + "\n", to: name)
        // postmap wants a main.cf, but nothing from it.
        try workspace.write("compatibility_level = 3.6\n", to: "main.cf")
        let made = try workspace.run("/usr/sbin/postmap", ["-c", workspace.path, "hash:\(path)"])
        guard made.ending == .exited(0) else { throw ChildProcess.Failure(description: "postmap: \(made.error)") }
        return "hash:\(path)"
    }

    /// Ends all of its processes, and no others.
    func stop() {
        // The first line of the lock file is the master's id; its children follow it.
        let master = workspace.text(of: String(folder.dropFirst(workspace.path.count + 1)) + "/queue/pid/master.pid")
        let running = Workspace.processes(in: folder)
        if let pid = pid_t(master.trimmingCharacters(in: .whitespacesAndNewlines)), running.contains(pid) {
            kill(pid, SIGTERM)
        }
        if eventually(within: 10, { Workspace.processes(in: folder).isEmpty }) { return }
        for pid in Workspace.processes(in: folder) { kill(pid, SIGKILL) }
        _ = eventually(within: 10) { Workspace.processes(in: folder).isEmpty }
    }

    private static func services(_ listeners: [Listener], _ ports: [UInt16]) -> String {
        var lines: [String] = []
        for (listener, port) in zip(listeners, ports) {
            let root = listener.isChrooted ? "y" : "n"
            if listener.isScreened {
                lines.append("127.0.0.1:\(port) inet n - n - 1 postscreen")
                lines += ["dnsblog unix - - n - 0 dnsblog", "tlsproxy unix - - n - 0 tlsproxy"]
                lines.append("smtpd pass - - \(root) - - smtpd")
            } else {
                lines.append("127.0.0.1:\(port) inet n - \(root) - - smtpd")
            }
            lines += listener.settings.map { "  -o { \($0) = \($1) }" }
        }
        let internalServices = [
            "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr", "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
            "proxymap unix - - n - - proxymap", "proxywrite unix - - n - 1 proxymap", "anvil unix - - n - 1 anvil",
            "error unix - - n - - error", "retry unix - - n - - error", "discard unix - - n - - discard",
            "smtp unix - - n - - smtp", "relay unix - - n - - smtp",
            "postlog unix-dgram n - n - 1 postlogd",
        ]
        return (lines + internalServices).joined(separator: "\n") + "\n"
    }
}
