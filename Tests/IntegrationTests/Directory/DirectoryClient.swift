import Foundation

/// The commands of ldap-utils, as one user of one server.
struct DirectoryClient {
    /// How the client authenticates.
    enum Credentials {
        case anonymous
        case simple(dn: String, password: String)
        /// SASL EXTERNAL: over ldapi the user of the process.
        case external
        /// SASL GSSAPI: the ticket is in the cache that the client's environment names.
        case gssapi
    }

    /// The outcome of a search.
    struct Answer {
        /// LDAP's result code; libldap's own errors, which are negative, come as 256 less their amount: 255 is
        /// "can't contact LDAP server". 124: there was no answer in time, and the command was ended.
        let code: Int32
        let entries: [LDIFEntry]
        /// All that was printed, the controls of the answer included.
        let output: String
        /// The messages on standard error.
        let error: String
    }

    let workspace: Workspace
    var uri: String
    var credentials: Credentials
    /// Whether to ask for StartTLS; the commands end with status 1 where it fails.
    var startTLS = false
    /// The authority that the server's certificate must come from; without one, no certificate is accepted.
    var authorityFile: String?
    var environment: [String: String] = [:]
    /// After how many seconds a command is ended.
    var patience = 60

    /// Searches; a server's refusal is an answer too.
    ///
    /// - Parameters:
    ///   - scope: base, one, sub or children.
    ///   - extensions: the search's extensions, in the form of ldapsearch's option -E.
    func search(
        _ filter: String = "(objectClass=*)", base: String, scope: String = "sub", attributes: [String] = [],
        extensions: [String] = [], _ others: [String] = []
    ) throws -> Answer {
        let options = extensions.flatMap { ["-E", $0] } + others
        let result = try run(
            "ldapsearch", ["-o", "ldif_wrap=no", "-b", base, "-s", scope] + options + [filter] + attributes)
        return Answer(
            code: result.code, entries: LDIFEntry.entries(in: result.output), output: result.output,
            error: result.error)
    }

    /// Makes the changes of an LDIF text; records without a changetype are added.
    ///
    /// - Parameter controls: in the form of ldapmodify's option -e.
    func modify(_ ldif: String, controls: [String] = []) throws {
        let result = try run("ldapmodify", ["-a", "-M"] + controls.flatMap { ["-e", $0] }, input: ldif)
        guard result.code == 0 else {
            throw ChildProcess.Failure(description: "ldapmodify: \(result.code)\n\(result.error)\n\(ldif)")
        }
    }

    /// Runs one of the commands, with the options that say which server and which user.
    func run(
        _ command: String, _ arguments: [String], input: String? = nil
    ) throws -> (code: Int32, output: String, error: String) {
        var options = ["-H", uri]
        switch credentials {
        case .anonymous: options += ["-x"]
        case .simple(let dn, let password): options += ["-x", "-D", dn, "-w", password]
        case .external: options += ["-Q", "-Y", "EXTERNAL"]
        case .gssapi: options += ["-Q", "-Y", "GSSAPI", "-N"]
        }
        if startTLS { options.append("-ZZ") }
        var variables = environment
        // Whatever the machine's ldap.conf says, the client trusts this authority only and insists.
        variables["LDAPTLS_CACERT"] = authorityFile ?? "/dev/null"
        variables["LDAPTLS_REQCERT"] = "demand"
        // The commands' own timeouts are for connecting, not for waiting on a server.
        let result = try workspace.run(
            "/usr/bin/timeout", ["\(patience)", "/usr/bin/\(command)"] + options + arguments, input: input,
            environment: variables)
        guard case .exited(let code) = result.ending else {
            throw ChildProcess.Failure(description: "\(command): \(result.ending)\n\(result.error)")
        }
        return (code, result.output, result.error)
    }
}
