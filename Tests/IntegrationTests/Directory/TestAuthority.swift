import Foundation

/// A certificate authority of the test's own, made by openssl(1); two of them don't trust each other.
final class TestAuthority {
    /// The validity of a certificate.
    enum Validity {
        case current, expired, notYet

        /// From when to when.
        fileprivate var period: (start: Date, end: Date) {
            let day = 86_400.0
            switch self {
            case .current: return (Date(timeIntervalSinceNow: -day), Date(timeIntervalSinceNow: 30 * day))
            case .expired: return (Date(timeIntervalSinceNow: -30 * day), Date(timeIntervalSinceNow: -day))
            case .notYet: return (Date(timeIntervalSinceNow: day), Date(timeIntervalSinceNow: 30 * day))
            }
        }
    }

    /// A server's certificate and key, as PEM files.
    struct Certificate {
        let certificateFile: String
        let keyFile: String
        /// The certificate of the authority that issued it.
        let authorityFile: String
    }

    /// The authority's own certificate as a PEM file, which clients that trust it need.
    let certificateFile: String
    private let workspace: Workspace
    private let name: String

    /// Makes the authority in a folder of the workspace.
    init(in workspace: Workspace, name: String = "ca") throws {
        self.workspace = workspace
        self.name = name
        let folder = try workspace.makeFolder(name)
        certificateFile = "\(folder)/ca.pem"
        try workspace.write("", to: "\(name)/index.txt")
        try workspace.write(
            """
            [ca]
            default_ca = authority
            [authority]
            database = \(folder)/index.txt
            new_certs_dir = \(folder)
            rand_serial = yes
            default_md = sha256
            policy = subject
            unique_subject = no
            copy_extensions = copy
            [subject]
            commonName = supplied
            [req]
            distinguished_name = name
            [name]

            """, to: "\(name)/openssl.cnf")
        try openssl([
            "req", "-x509", "-config", "\(folder)/openssl.cnf", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "60", "-subj", "/CN=Postern test authority \(name)",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", "\(folder)/ca.key", "-out", certificateFile,
        ])
    }

    /// Issues a server's certificate; by default one that clients of 127.0.0.1 and localhost accept.
    ///
    /// - Parameters:
    ///   - name: of its files in the authority's folder, `NAME.pem` and `NAME.key`.
    ///   - hosts: the DNS names that it is for; the first is its subject too.
    ///   - addresses: the IP addresses that it is for.
    func issue(
        _ name: String = "server", hosts: [String] = ["localhost"], addresses: [String] = ["127.0.0.1"],
        validity: Validity = .current
    ) throws -> Certificate {
        let folder = workspace.file(self.name)
        let stem = "\(folder)/\(name)"
        let names = hosts.map { "DNS:\($0)" } + addresses.map { "IP:\($0)" }
        try openssl([
            "req", "-new", "-config", "\(folder)/openssl.cnf", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=\(hosts.first ?? name)", "-addext",
            "subjectAltName=\(names.joined(separator: ","))", "-addext", "extendedKeyUsage=serverAuth", "-addext",
            "basicConstraints=CA:FALSE", "-keyout", "\(stem).key", "-out", "\(stem).csr",
        ])
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX")
        format.timeZone = TimeZone(identifier: "UTC")
        format.dateFormat = "yyyyMMddHHmmss'Z'"
        try openssl([
            "ca", "-batch", "-notext", "-config", "\(folder)/openssl.cnf", "-cert", certificateFile, "-keyfile",
            "\(folder)/ca.key", "-in", "\(stem).csr", "-out", "\(stem).pem", "-startdate",
            format.string(from: validity.period.start), "-enddate", format.string(from: validity.period.end),
        ])
        return Certificate(
            certificateFile: "\(stem).pem", keyFile: "\(stem).key", authorityFile: certificateFile)
    }

    private func openssl(_ arguments: [String]) throws {
        let result = try workspace.run("/usr/bin/openssl", arguments)
        guard result.ending == .exited(0) else {
            throw ChildProcess.Failure(description: "openssl \(arguments[0]): \(result.ending)\n\(result.error)")
        }
    }
}
