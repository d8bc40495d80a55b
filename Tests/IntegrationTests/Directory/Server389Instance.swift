import Foundation
import Glibc

/// A 389 Directory Server of the test's own: configuration, data and log in the test's folder, on a port of the
/// loopback that nothing else uses. Its Content Synchronization plugin speaks RFC 4533 as OpenLDAP does.
///
/// Its directory is dc=example,dc=com, which only the service account and the administrator may read.
final class Server389Instance: WritableDirectory {
    static let administratorDN = "cn=Directory Manager"

    /// The program that is missing; nil if the server can be started.
    static let obstacle = ["/usr/sbin/ns-slapd", "/usr/sbin/dscreate", "/usr/bin/pwdhash", "/usr/bin/ldapmodify"].first
    {
        !FileManager.default.isExecutableFile(atPath: $0)
    }.map { "\($0) isn't installed (contrib/test installs it)" }

    let workspace: Workspace
    private(set) var port: UInt16 = 0
    private let name: String
    private var child: ChildProcess?

    var uri: String { "ldap://127.0.0.1:\(port)" }
    /// The server's log.
    var log: String { workspace.text(of: "\(name)/log/errors") + workspace.text(of: "\(name)/output") }

    /// Starts a server and fills its directory.
    ///
    /// - Parameters:
    ///   - people: how many people it begins with, as those of ``SlapdInstance``.
    ///   - tellsChanges: whether it offers content synchronization.
    init(in workspace: Workspace, people: Int = 0, tellsChanges: Bool = true, name: String = "389ds") throws {
        self.workspace = workspace
        self.name = name
        try workspace.makeFolder(name)
        for attempt in 1... {
            port = try Ports.unused()
            do {
                try configure(tellsChanges)
                try start()
                break
            } catch  where attempt < 3 {}
        }
        let text = (0..<people).map { number in
            Self.person("person\(number)", mail: [SlapdInstance.address(number)])
        }
        try add(Self.first + text.joined())
    }

    var administrator: DirectoryClient {
        DirectoryClient(
            workspace: workspace, uri: uri,
            credentials: .simple(dn: Self.administratorDN, password: SlapdInstance.administratorPassword))
    }

    /// A person in LDIF; the schemas of this server lack OpenLDAP's for mail routing.
    static func person(_ name: String, below parent: String = SlapdInstance.people, mail: [String]) -> String {
        """
        dn: uid=\(name),\(parent)
        objectClass: inetOrgPerson
        uid: \(name)
        cn: \(name)
        sn: \(name)
        \(mail.map { "mail: \($0)" }.joined(separator: "\n"))


        """
    }

    /// Starts it again after an end.
    func start() throws {
        let child = try ChildProcess(
            "/usr/sbin/ns-slapd",
            ["-D", workspace.file("\(name)/config"), "-i", workspace.file("\(name)/run/pid"), "-d", "0"],
            output: workspace.file("\(name)/output"), error: workspace.file("\(name)/output"))
        self.child = child
        guard eventually(within: 60, { Ports.answers(port) || !child.isRunning }), child.isRunning else {
            throw ChildProcess.Failure(
                description: "ns-slapd: \(child.ending.map { "\($0)" } ?? "doesn't answer")\n\(log.suffix(2000))")
        }
    }

    /// Asks it to end, and waits for that.
    func stop() {
        child?.signal(SIGTERM)
        if child?.wait(atMost: 20) == nil {
            child?.signal(SIGKILL)
            _ = child?.wait()
        }
    }

    // MARK: Configuration

    private static let first = """
        dn: \(SlapdInstance.base)
        objectClass: domain
        dc: example
        aci: (targetattr="*")(version 3.0; acl "postern"; allow (read, search, compare)
          userdn="ldap:///\(SlapdInstance.bindDN)";)

        dn: \(SlapdInstance.people)
        objectClass: organizationalUnit
        ou: people

        dn: ou=service,\(SlapdInstance.base)
        objectClass: organizationalUnit
        ou: service

        dn: \(SlapdInstance.bindDN)
        objectClass: organizationalRole
        objectClass: simpleSecurityObject
        cn: postern
        userPassword: \(SlapdInstance.password)


        """

    /// Has dscreate(8) make an instance. Without systemd it ends with an error at the very end, and has made all that
    /// is needed.
    private func configure(_ tellsChanges: Bool) throws {
        func folder(_ part: String) -> String { workspace.file("\(name)/\(part)") }
        let user = String(cString: getpwuid(geteuid()).pointee.pw_name)
        let group = String(cString: getgrgid(getegid()).pointee.gr_name)
        let parts = [
            ("db_dir", "db"), ("db_home_dir", "db"), ("config_dir", "config"), ("inst_dir", "inst"), ("log_dir", "log"),
            ("lock_dir", "lock"), ("run_dir", "run"), ("backup_dir", "backup"), ("ldif_dir", "ldif"),
            ("cert_dir", "config"), ("schema_dir", "config/schema"),
        ]
        let lines = parts.map { "\($0.0) = \(folder($0.1))" }.joined(separator: "\n")
        let file = try workspace.write(
            """
            [general]
            config_version = 2
            full_machine_name = localhost
            start = False
            selinux = False
            systemd = False
            [slapd]
            instance_name = \(name)
            port = \(port)
            secure_port = 0
            root_password = \(SlapdInstance.administratorPassword)
            self_sign_cert = False
            user = \(user)
            group = \(group)
            \(lines)

            """, to: "\(name)/instance.inf")
        try? FileManager.default.removeItem(atPath: folder("config"))
        _ = try workspace.run("/usr/sbin/dscreate", ["from-file", file])
        let place = folder("config/dse.ldif")
        guard var text = try? String(contentsOfFile: place, encoding: .utf8) else {
            throw ChildProcess.Failure(description: "dscreate made no \(place)")
        }
        text = text.replacingOccurrences(of: "\n ", with: "")
        let hash = try workspace.run("/usr/bin/pwdhash", ["-s", "PBKDF2-SHA512", SlapdInstance.administratorPassword])
        Self.set("nsslapd-rootpw", hash.output.trimmingCharacters(in: .whitespacesAndNewlines), &text)
        Self.set("nsslapd-ldapifilepath", folder("run/ldapi"), &text)
        if tellsChanges {
            for (plugin, more) in [
                ("Content Synchronization", ""),
                ("Retro Changelog Plugin", "nsslapd-attribute: nsuniqueid:targetUniqueId\n"),
            ] {
                let entry = "dn: cn=\(plugin),cn=plugins,cn=config\n"
                guard let start = text.range(of: entry)?.lowerBound,
                    let end = text.range(of: "\n\n", range: start..<text.endIndex)?.lowerBound
                else { throw ChildProcess.Failure(description: "the server has no plugin \(plugin)") }
                let enabled = text[start..<end].replacingOccurrences(
                    of: "nsslapd-pluginenabled: off", with: "nsslapd-pluginenabled: on")
                text.replaceSubrange(start..<end, with: enabled + "\n" + more.trimmingCharacters(in: .newlines))
            }
        }
        text = text.trimmingCharacters(in: .newlines) + "\n\n" + Self.backend
        while text.contains("\n\n\n") { text = text.replacingOccurrences(of: "\n\n\n", with: "\n\n") }
        try text.write(toFile: place, atomically: true, encoding: .utf8)
    }

    private static func set(_ attribute: String, _ value: String, _ text: inout String) {
        let lines = text.components(separatedBy: "\n").map {
            $0.hasPrefix("\(attribute):") ? "\(attribute): \(value)" : $0
        }
        text = lines.joined(separator: "\n")
    }

    private static let backend = """
        dn: cn=userroot,cn=ldbm database,cn=plugins,cn=config
        objectClass: top
        objectClass: extensibleObject
        objectClass: nsBackendInstance
        cn: userroot
        nsslapd-suffix: \(SlapdInstance.base)

        dn: cn="\(SlapdInstance.base)",cn=mapping tree,cn=config
        objectClass: top
        objectClass: extensibleObject
        objectClass: nsMappingTree
        cn: "\(SlapdInstance.base)"
        nsslapd-state: backend
        nsslapd-backend: userroot


        """
}

extension SourceTable {
    /// A private 389 Directory Server as its service account sees it.
    static func server389(_ server: Server389Instance, type: String, _ changes: [String: String?] = [:]) -> SourceTable
    {
        SourceTable(
            "directory", type: type,
            [
                "uris": "[\"\(server.uri)\"]", "bases": "[\"\(SlapdInstance.base)\"]",
                "bind_dn": "\"\(SlapdInstance.bindDN)\"", "password_file": "\"\(DirectoryGateway.secret)\"",
                "allow_plaintext": "true", "timeout": "\"10s\"",
            ]
        ).with(changes)
    }
}
