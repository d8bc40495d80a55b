import Foundation
import Glibc

/// A password file of Cyrus SASL with one user, for an MTA that is to know its clients.
struct SASLDatabase {
    static let user = "anna"
    static let password = "correct horse"

    /// The folder that holds the configuration of an MTA's SASL.
    let folder: String

    /// Makes the files.
    ///
    /// - Parameters:
    ///   - program: as the MTA names itself to SASL: `Sendmail`, `smtpd`.
    ///   - group: who may read the passwords, beside root.
    init(in workspace: Workspace, program: String, group: String = "root") throws {
        folder = try workspace.makeFolder("sasl")
        let database = workspace.file("sasl/sasldb")
        try workspace.write(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: \(database)\nmech_list: PLAIN LOGIN\n",
            to: "sasl/\(program).conf")
        let made = try workspace.run(
            "/usr/sbin/saslpasswd2", ["-p", "-c", "-f", database, "-u", "gateway.example.test", Self.user],
            input: Self.password)
        guard made.ending == .exited(0), let owner = getgrnam(group),
            chown(database, 0, owner.pointee.gr_gid) == 0, chmod(database, group == "root" ? 0o600 : 0o640) == 0
        else { throw ChildProcess.Failure(description: "saslpasswd2: \(made.ending)\n\(made.error)") }
    }

    /// The argument of `AUTH PLAIN`.
    static func plain(password: String = password) -> String {
        Data("\0\(user)\0\(password)".utf8).base64EncodedString()
    }
}
