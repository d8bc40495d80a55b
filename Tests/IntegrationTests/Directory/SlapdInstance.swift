import Foundation
import Glibc

/// An OpenLDAP server of the test's own: configuration, data and log in the test's folder, on ports of the loopback
/// that nothing else uses and on a unix socket in the folder.
///
/// Its directory is dc=example,dc=com, which only the service account and the administrator may read.
final class SlapdInstance {
    static let base = "dc=example,dc=com"
    static let people = "ou=people,dc=example,dc=com"
    /// The service account.
    static let bindDN = "cn=postern,ou=service,dc=example,dc=com"
    static let password = "pass of postern"
    static let administratorDN = "cn=admin,dc=example,dc=com"
    static let administratorPassword = "pass of admin"
    /// The program, by a path of the machine's own.
    private static let program = "/usr/sbin/slapd"

    /// The program that is missing; nil if the server can be started.
    static let obstacle = [program, "/usr/bin/ldapmodify", "/usr/bin/openssl"].first {
        !FileManager.default.isExecutableFile(atPath: $0)
    }.map { "\($0) isn't installed (contrib/test installs it)" }

    /// The settings. A change, such as another certificate, applies from the next start on.
    var options: SlapdOptions
    let workspace: Workspace
    private(set) var port: UInt16
    private(set) var tlsPort: UInt16
    private let name: String
    private let executable: String
    private var child: ChildProcess?

    var uri: String { "ldap://127.0.0.1:\(port)" }
    /// Answers only if the server has a certificate.
    var ldapsURI: String { ldapsURI(host: "127.0.0.1") }
    var ldapiURI: String {
        "ldapi://" + workspace.file("\(name)/ldapi").replacingOccurrences(of: "/", with: "%2F")
    }
    /// The certificate that a client must trust.
    var authorityFile: String? { options.certificate?.authorityFile }
    /// Its process, while it runs.
    var pid: pid_t? { isRunning ? child?.pid : nil }
    var isRunning: Bool { child?.isRunning ?? false }
    var dataFolder: String { workspace.file("\(name)/data") }
    /// The server's log: connections, operations and their results.
    var log: String { workspace.text(of: "\(name)/log") }

    /// Fills the directory, starts the server and waits until it answers.
    init(
        in workspace: Workspace, _ options: SlapdOptions = SlapdOptions(), name: String = "slapd"
    ) throws {
        self.workspace = workspace
        self.options = options
        self.name = name
        port = 0
        tlsPort = 0
        try workspace.makeFolder(name)
        try workspace.makeFolder("\(name)/data", mode: 0o700)
        // A profile of AppArmor belongs to the program's usual path, and would deny the program this folder.
        if FileManager.default.fileExists(atPath: "/etc/apparmor.d/usr.sbin.slapd") {
            executable = workspace.file("\(name)/slapd")
            try FileManager.default.copyItem(atPath: Self.program, toPath: executable)
        } else {
            executable = Self.program
        }
        try writeConfiguration()
        try fill()
        // Another process may take a port in the meantime.
        for attempt in 1... {
            port = try Ports.unused()
            repeat { tlsPort = try Ports.unused() } while tlsPort == port
            do {
                try start()
                break
            } catch  where attempt < 3 {}
        }
    }

    /// Starts the server again, on the same ports with the same data.
    func start() throws {
        try writeConfiguration()
        let tls = options.certificate == nil ? "" : " \(ldapsURI)"
        let child = try ChildProcess(
            executable, ["-d", "stats", "-h", "\(uri) \(ldapiURI)\(tls)", "-f", workspace.file("\(name)/slapd.conf")],
            output: workspace.file("\(name)/log"), error: workspace.file("\(name)/log"),
            environment: options.environment)
        self.child = child
        guard eventually(within: 60, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw ChildProcess.Failure(
                description: "slapd: \(child.ending.map { "\($0)" } ?? "doesn't answer")\n\(log.suffix(2000))")
        }
    }

    /// Stops the server by SIGTERM and waits for its end.
    @discardableResult func stop() -> ChildProcess.Ending? {
        resume()
        child?.signal(SIGTERM)
        // It waits for operations that are under way, such as a client that reads nothing.
        return child?.wait(atMost: 10) ?? kill()
    }

    /// Kills the server.
    @discardableResult func kill() -> ChildProcess.Ending? {
        child?.signal(SIGKILL)
        return child?.wait()
    }

    /// The same server under another name. Of `localhost` libldap expects a certificate for the machine's own host
    /// name.
    func ldapsURI(host: String) -> String { "ldaps://\(host):\(tlsPort)" }

    /// Stops and starts the server with the present options.
    func restart() throws {
        stop()
        try start()
    }

    /// Pauses the server: the kernel accepts connections, and nothing answers.
    func pause() { child?.signal(SIGSTOP) }

    /// Ends a pause.
    func resume() { child?.signal(SIGCONT) }

    private func writeConfiguration() throws {
        let folder = workspace.file(name)
        var lines = ["core", "cosine", "inetorgperson", "misc"].map { "include /etc/ldap/schema/\($0).schema" }
        lines += [SlapdOptions.schema, "modulepath /usr/lib/ldap", "moduleload back_mdb"]
        if options.loadsContentSync { lines.append("moduleload syncprov") }
        lines += options.global(uid: geteuid(), gid: getegid())
        lines += [
            "database mdb", "suffix \(Self.base)", "rootdn \(Self.administratorDN)",
            "rootpw \"\(Self.administratorPassword)\"", "directory \(folder)/data",
            // A sparse file. What a killed slapd has written the kernel still has.
            "maxsize \(max(1 << 30, options.people * 4096))", "dbnosync",
            "index objectClass,entryUUID,entryCSN,mail,mailLocalAddress,mailAlternateAddress eq",
            "access to attrs=userPassword by anonymous auth by * none",
        ]
        lines += options.access.map { "access \($0)" }
        lines += [
            "access to * by dn.exact=\"\(Self.bindDN)\" read by * none"
        ]
        lines += options.database
        try workspace.write(lines.joined(separator: "\n") + "\n", to: "\(name)/slapd.conf")
    }

    /// Writes the first entries into the database, as slapadd(8).
    private func fill() throws {
        let file = workspace.file("\(name)/first.ldif")
        try PeopleLDIF(count: options.people, others: options.ldif).write(to: file)
        try runTool("add", ["-q", "-w", "-l", file])
        try FileManager.default.removeItem(atPath: file)
    }

    /// Runs slapadd(8), slapcat(8) and the like, which are one program, on the data of a server that is stopped.
    @discardableResult func runTool(_ tool: String, _ arguments: [String], _ input: String? = nil) throws -> String {
        let options = ["-T\(tool)", "-f", workspace.file("\(name)/slapd.conf")] + arguments
        let result = try workspace.run(executable, options, input: input)
        guard result.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "slap\(tool): \(result.ending)\n\(result.error)")
        }
        return result.output
    }
}
