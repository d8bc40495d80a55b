import Foundation

/// The Kerberos side of a private domain controller: a keytab of the service account, and a configuration with which
/// clients find the KDC and ask for tickets under the server's address.
final class KerberosRealm {
    static let principal = "\(SambaInstance.account)@\(SambaInstance.realm)"

    /// The service account's keys.
    let keytab: String
    /// The krb5.conf.
    let configuration: String
    /// Where `kinit` puts its tickets; not there before.
    let cache: String
    private let samba: SambaInstance

    /// Sets it up for a controller that has a KDC.
    ///
    /// - Parameter addresses: IPv4 addresses, besides the controller's own, under which clients reach its LDAP server,
    ///   such as that of a proxy.
    init(of samba: SambaInstance, addresses: [String] = ["127.0.0.1"]) throws {
        self.samba = samba
        let workspace = samba.workspace
        keytab = workspace.file("\(samba.folderName).keytab")
        cache = workspace.file("\(samba.folderName).tickets")
        configuration = try workspace.write(
            """
            [libdefaults]
            default_realm = \(SambaInstance.realm)
            rdns = false
            dns_canonicalize_hostname = false
            dns_lookup_kdc = false
            dns_lookup_realm = false
            [realms]
            \(SambaInstance.realm) = {
              kdc = \(samba.address)
            }

            """, to: "\(samba.folderName).krb5.conf")
        try samba.modify(
            "CN=\(SambaInstance.name.uppercased()),OU=Domain Controllers,\(SambaInstance.base)",
            (["add: servicePrincipalName"] + ([samba.address] + addresses).map { "servicePrincipalName: ldap/\($0)" })
                .joined(separator: "\n"))
        try samba.tool(["domain", "exportkeytab", keytab, "--principal=\(Self.principal)"])
    }

    /// Gives a server under the first of the addresses its keys: a keytab.
    func serverKeytab(address: String = "127.0.0.1") throws -> String {
        let path = samba.workspace.file("\(samba.folderName).server.keytab")
        try samba.tool(["domain", "exportkeytab", path, "--principal=ldap/\(address)@\(SambaInstance.realm)"])
        return path
    }

    /// The environment of a client that uses tickets which `obtainTicket` got.
    var environment: [String: String] { ["KRB5_CONFIG": configuration, "KRB5CCNAME": "FILE:\(cache)"] }

    /// The environment of a client whose Kerberos library gets tickets itself, with the keytab.
    var keytabEnvironment: [String: String] {
        [
            "KRB5_CONFIG": configuration, "KRB5_CLIENT_KTNAME": "FILE:\(keytab)",
            "KRB5CCNAME": "FILE:\(cache).own",
        ]
    }

    /// Gets a ticket with the keytab, as `kinit -k`.
    ///
    /// - Parameter seconds: how long the ticket is valid.
    func obtainTicket(for seconds: Int = 3600) throws {
        let result = try samba.workspace.run(
            "/usr/bin/kinit", ["-k", "-t", keytab, "-l", "\(seconds)s", Self.principal], environment: environment)
        guard result.ending == .exited(0) else { throw ChildProcess.Failure(description: "kinit: \(result.error)") }
    }

    /// A client that shows its ticket, over a connection without TLS: with TLS, Samba accepts no ticket.
    func client(over uri: String? = nil) -> DirectoryClient {
        DirectoryClient(
            workspace: samba.workspace, uri: uri ?? samba.uri, credentials: .gssapi,
            authorityFile: samba.authorityFile, environment: environment)
    }
}
