import Foundation
import Glibc

/// An Active Directory domain controller of the test's own, Samba's: its data and log are in the test's folder, and it
/// listens on LDAP's own ports of an address of 127.0.0.0/8 that nothing else uses.
///
/// The domain has the part of Exchange's schema that recipients need, and a service account without any special right.
final class SambaInstance {
    static let realm = "CORP.EXAMPLE.COM"
    static let name = "dc1"
    static let hostName = "dc1.corp.example.com"
    static let base = "DC=corp,DC=example,DC=com"
    static let configurationBase = "CN=Configuration,\(base)"
    static let acceptedDomains =
        "CN=Accepted Domains,CN=Transport Settings,CN=Example,CN=Microsoft Exchange,CN=Services,\(configurationBase)"
    static let people = "OU=People,\(base)"
    /// The service account.
    static let bindDN = "CN=postern,OU=Service,\(base)"
    static let account = "postern"
    static let password = "Pass of postern 1"
    static let administratorName = "Administrator@\(realm)"
    static let administratorPassword = "Pass of admin 1"

    private static let program = "/usr/sbin/samba"
    private static let ports: [UInt16] = [389, 636, 3268, 3269, 88, 464]

    /// The program that is missing; nil if the server can be started.
    static let obstacle: String? = {
        let files = [
            program, "/usr/bin/samba-tool", "/usr/bin/kinit", "/usr/bin/ldapmodify", "/usr/bin/openssl",
            "/usr/share/samba/setup/provision.ldif",
        ]
        if geteuid() != 0 { return "a private Samba must be started as root" }
        if let missing = files.first(where: { !FileManager.default.fileExists(atPath: $0) }) {
            return "Samba's domain controller isn't installed, \(missing) is missing (contrib/test installs it)"
        }
        return Ports.unusedAddress(for: ports) == nil ? "LDAP's and Kerberos' ports are taken on all addresses" : nil
    }()

    /// Whether Samba accepts Kerberos within TLS, as it does from version 4.21 on.
    static let takesKerberosOverTLS: Bool = {
        let version = try? Workspace().run(program, ["--version"]).output
        let numbers =
            version?.split(separator: " ").dropFirst().first?.split(separator: ".").compactMap { Int($0) } ?? []
        guard numbers.count >= 2 else { return false }
        return (numbers[0], numbers[1]) >= (4, 21)
    }()

    /// The settings. A change, such as another certificate, applies from the next start on.
    var options: SambaOptions
    let workspace: Workspace
    /// The address on which the controller listens: ports 389, 636, 3268, 3269, and with a KDC 88 and 464.
    let address: String
    private let folder: String
    /// Its folder in the workspace.
    let folderName: String
    private let certificate: TestAuthority.Certificate
    private var child: ChildProcess?

    /// The URI without TLS, over which the server accepts no password.
    var uri: String { "ldap://\(address)" }
    var ldapsURI: String { "ldaps://\(address)" }
    /// The global catalogue, with TLS.
    var catalogueURI: String { "ldaps://\(address):3269" }
    /// The certificate that a client must trust.
    var authorityFile: String { (options.certificate ?? certificate).authorityFile }
    var isRunning: Bool { child?.isRunning ?? false }
    /// Its process, while it runs: there is only one.
    var pid: pid_t? { isRunning ? child?.pid : nil }
    var log: String { workspace.text(of: "\(folderName)/log") + workspace.text(of: "\(folderName)/output") }

    /// Copies the domain, starts the controller and waits until it answers.
    ///
    /// The first controller of a process takes 7 s, as the domain is made for it; each further one takes half a second.
    init(in workspace: Workspace, _ options: SambaOptions = SambaOptions(), name: String = "samba") throws {
        self.workspace = workspace
        self.options = options
        folderName = name
        folder = workspace.file(name)
        guard let address = Ports.unusedAddress(for: Self.ports) else {
            throw ChildProcess.Failure(description: Self.obstacle ?? "no unused address for Samba")
        }
        self.address = address
        certificate = try TestAuthority(in: workspace, name: "\(name)-ca").issue(
            hosts: [Self.hostName, "localhost"], addresses: [address, "127.0.0.1"])
        try SambaDomain.copy(to: folder)
        try writeConfiguration()
        if let bulk = options.bulk {
            try control(["objects", "CONF", Self.people, bulk.kind.rawValue, "\(bulk.count)"])
        }
        if options.hasOwnIdentity { try control(["identity", "CONF"]) }
        try start()
    }

    deinit { kill() }

    /// Starts it again after an end, at the same address with the same data.
    func start() throws {
        try writeConfiguration()
        // The working directory shows which controller a process is, as Samba overwrites its arguments. Samba runs as
        // one process, so that nothing answers after a kill.
        let child = try ChildProcess(
            "/usr/bin/env",
            [
                "-C", folder, Self.program, "-F", "--no-process-group", "-M", "single", "-s", "\(folder)/etc/smb.conf",
            ], output: "\(folder)/output", error: "\(folder)/output", environment: SambaDomain.environment)
        self.child = child
        let ports = options.hasKDC ? Self.ports : Array(Self.ports.prefix(4))
        let answers = eventually(within: 60) {
            ports.allSatisfy { Ports.answers($0, at: address) } || !child.isRunning
        }
        guard answers, child.isRunning else {
            throw ChildProcess.Failure(
                description: "samba: \(child.ending.map { "\($0)" } ?? "doesn't answer")\n\(log.suffix(2000))")
        }
    }

    /// Asks it to end in the orderly way, and waits for that.
    @discardableResult func stop() -> ChildProcess.Ending? {
        resume()
        child?.signal(SIGTERM)
        return child?.wait(atMost: 10) ?? kill()
    }

    /// Ends it at once.
    @discardableResult func kill() -> ChildProcess.Ending? {
        child?.signal(SIGKILL)
        return child?.wait()
    }

    /// Stops and starts the server with the present options.
    func restart() throws {
        stop()
        try start()
    }

    /// Pauses the server: the kernel accepts connections, and nothing answers.
    func pause() { child?.signal(SIGSTOP) }

    /// The end of a pause.
    func resume() { child?.signal(SIGCONT) }

    /// Runs a command of `controller.py`, with the path of smb.conf for `CONF`.
    func control(_ arguments: [String]) throws {
        try SambaDomain.control(arguments.map { $0 == "CONF" ? "\(folder)/etc/smb.conf" : $0 }, in: workspace)
    }

    /// Runs samba-tool on its data.
    func tool(_ arguments: [String]) throws {
        let result = try workspace.run(
            "/usr/bin/samba-tool", arguments + ["-s", "\(folder)/etc/smb.conf"],
            environment: SambaDomain.environment)
        guard result.ending == .exited(0) else {
            throw ChildProcess.Failure(
                description: "samba-tool \(arguments.joined(separator: " ")): \(result.output)\(result.error)")
        }
    }

    private func writeConfiguration() throws {
        let text = options.configuration(
            folder: folder, address: address, certificate: options.certificate ?? certificate)
        try workspace.write(text, to: "\(folderName)/etc/smb.conf")
    }
}
