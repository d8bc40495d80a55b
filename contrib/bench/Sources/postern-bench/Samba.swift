import Foundation
import Glibc

/// A private Samba domain controller (Active Directory) with contacts.
final class Samba {
    static let base = "DC=corp,DC=example,DC=com"
    static let bindDN = "CN=Administrator,CN=Users,DC=corp,DC=example,DC=com"
    static let password = "Pass-of-admin-1"
    private static let ports: [UInt16] = [389, 636, 3268, 3269]

    /// Why it can't be started; nil if it can.
    static var obstacle: String? {
        for file in ["/usr/sbin/samba", "/usr/bin/samba-tool", "/usr/share/samba/setup/provision.ldif"]
        where !FileManager.default.fileExists(atPath: file) {
            return "Samba's domain controller isn't installed (\(file) is missing)"
        }
        return nil
    }

    let address: String
    var uri: String { "ldap://\(address)" }
    private let child: Child

    init(contacts count: Int) throws {
        guard
            let address = (0..<50).lazy.map({ _ in "127.\(UInt8.random(in: 20...200)).\(UInt8.random(in: 1...250)).2" })
                .first(where: { address in !Self.ports.contains { Ports.answers($0, at: address) } })
        else { throw Failure("the LDAP ports are in use on all addresses tried") }
        self.address = address
        let folder = try Scratch.folder("samba", mode: 0o700)
        Progress.say("  Samba with \(count) contacts")
        let options = [
            "pid directory=\(folder)/run", "log file=\(folder)/log", "lock directory=\(folder)/lock",
            "ncalrpc dir=\(folder)/run/ncalrpc", "winbindd socket directory=\(folder)/run/winbindd",
            "ntp signd socket directory=\(folder)/run/ntp", "interfaces=\(address)/8", "bind interfaces only=yes",
            "server services=ldap", "dcerpc endpoint servers=", "ldap server require strong auth=no",
        ]
        for name in ["run", "lock"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        }
        let environment = ["TDB_NO_FSYNC": "1"]
        // Without it, provisioning uses the machine's own smb.conf.
        let empty = try Scratch.write("[global]\n", to: "\(folder)/empty.conf")
        try Child.run(
            "/usr/bin/samba-tool",
            [
                "domain", "provision", "-s", empty, "--targetdir=\(folder)", "--server-role=dc", "--dns-backend=NONE",
                "--realm=CORP.EXAMPLE.COM", "--domain=CORP", "--host-name=dc1", "--host-ip=127.0.0.1",
                "--adminpass=\(Self.password)",
            ], environment: environment)
        child = try Child(
            "/usr/sbin/samba",
            ["-F", "--no-process-group", "-M", "single", "-s", "\(folder)/etc/smb.conf"]
                + options.map { "--option=\($0)" }, output: "\(folder)/output", error: "\(folder)/output",
            environment: environment, isDaemon: true)
        let child = child
        guard eventually(within: 60, { Ports.answers(389, at: address) || !child.isRunning }), child.isRunning else {
            throw Failure(
                "samba doesn't answer:\n\(Scratch.tail(of: "\(folder)/output"))\n\(Scratch.tail(of: "\(folder)/log"))")
        }
        try modify(
            (0..<count).map { number in
                """
                dn: CN=contact\(number),CN=Users,\(Self.base)
                changetype: add
                objectClass: contact
                proxyAddresses: SMTP:contact\(number)@example.com


                """
            }.joined())
    }

    func stop() { child.end() }

    /// Adds an address to a contact, or removes it; returns when that is done.
    func change(_ address: String, of contact: Int, adds: Bool) throws {
        try modify(
            """
            dn: CN=contact\(contact),CN=Users,\(Self.base)
            changetype: modify
            \(adds ? "add" : "delete"): proxyAddresses
            proxyAddresses: smtp:\(address)

            """)
    }

    private func modify(_ ldif: String) throws {
        try Child.run(
            "/usr/bin/ldapmodify", ["-x", "-H", uri, "-D", Self.bindDN, "-w", Self.password],
            input: Scratch.write(ldif, to: Scratch.path("change.ldif")))
    }
}
