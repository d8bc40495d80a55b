/// A test's settings of its domain controller.
struct SambaOptions {
    /// Whether it is a KDC too, for ``KerberosRealm``.
    var hasKDC = false
    /// Objects that it begins with below ``SambaInstance/people``, each with one address: `group0` has
    /// `SMTP:group0@example.com`. A thousand groups take 2 s, contacts 2.5 s, users 5 s.
    var bulk: (kind: SambaInstance.Kind, count: Int)?
    /// Whether it is another controller of the domain: with the same objects, but an invocation id of its own.
    var hasOwnIdentity = false
    /// A certificate in place of the default one, which is valid for its address, 127.0.0.1 and its name.
    var certificate: TestAuthority.Certificate?
    /// Lines of smb.conf.
    var lines: [String] = []

    /// The file.
    func configuration(folder: String, address: String, certificate: TestAuthority.Certificate) -> String {
        var lines = [
            "[global]", "netbios name = \(SambaInstance.name)", "workgroup = CORP",
            "realm = \(SambaInstance.realm)", "server role = active directory domain controller",
            "server services = ldap\(hasKDC ? " kdc" : "")", "dcerpc endpoint servers =",
            // With a prefix length, the address need not be one of an interface.
            "interfaces = \(address)/8", "bind interfaces only = yes", "dsdb:schema update allowed = yes",
            "tls certfile = \(certificate.certificateFile)", "tls keyfile = \(certificate.keyFile)",
            "tls cafile = \(certificate.authorityFile)",
            "log file = \(folder)/log", "logging = file", "max log size = 0", "panic action =",
            "private dir = \(folder)/private", "state directory = \(folder)/state",
            "cache directory = \(folder)/cache", "lock directory = \(folder)/lock", "pid directory = \(folder)/run",
            "ncalrpc dir = \(folder)/run/ncalrpc", "winbindd socket directory = \(folder)/run/winbindd",
            "ntp signd socket directory = \(folder)/run/ntp", "usershare path = \(folder)/run/usershares",
            "binddns dir = \(folder)/bind-dns",
        ]
        lines += self.lines
        return lines.joined(separator: "\n") + "\n"
    }
}
