import CLDAP
import Glibc
import Synchronization

/// What libldap and the Kerberos library take from the environment of the process.
///
/// Changing the environment while other threads read it may end the process, so that it is done once, before there are any.
public enum DirectoryEnvironment {
    private enum State {
        case untouched
        /// With this keytab; nil for none.
        case prepared(keytab: String?)
    }

    private static let state = Mutex(State.untouched)

    /// Prepares the process for reading these sources. To be called by the main thread before it starts others; afterwards, a
    /// sync refuses a configuration that needs another keytab.
    ///
    /// - Throws: `SourceError` of kind `configuration` if sources need different keytabs.
    package static func prepare(for sources: [SourceConfiguration]) throws(SourceError) {
        prepareLibrary()
        if let fault = fault(in: sources) { throw SourceError(.configuration, fault) }
        let wanted = logins(sources).first?.keytab ?? nil
        let isFirst = state.withLock { state in
            guard case .untouched = state else { return false }
            state = .prepared(keytab: wanted)
            return true
        }
        guard isFirst else { return try check(sources) }
        guard let wanted else { return }
        // Tickets are kept in memory, so that there is nothing to renew by hand.
        setenv("KRB5_CLIENT_KTNAME", "FILE:\(wanted)", 1)
        setenv("KRB5CCNAME", "MEMORY:postern", 1)
    }

    /// Why these sources can't be read by one process, for a person; nil where they can.
    package static func fault(in sources: [SourceConfiguration]) -> String? {
        let logins = logins(sources)
        guard let first = logins.first, let other = logins.first(where: { $0.keytab != first.keytab }) else {
            return nil
        }
        func text(_ login: (source: String, keytab: String?)) -> String {
            "source \"\(login.source)\" has \(login.keytab.map { "keytab = \"\($0)\"" } ?? "none")"
        }
        return "all sources with sasl = \"gssapi\" share one keytab, but \(text(first)) and \(text(other)); "
            + "give them the same, or run postern sync for one of them elsewhere"
    }

    /// An error if the keytab in force isn't the one that the configuration needs.
    package static func check(_ sources: [SourceConfiguration]) throws(SourceError) {
        if let fault = fault(in: sources) { throw SourceError(.configuration, fault) }
        guard let login = logins(sources).first else { return }
        let inForce: String? = state.withLock { if case .prepared(let keytab) = $0 { keytab } else { nil } }
        guard login.keytab != inForce else { return }
        throw SourceError(
            .configuration,
            "source \"\(login.source)\": keytab: this process was started with "
                + "\(inForce.map { "\"\($0)\"" } ?? "none"), and can't change it to \(login.keytab.map { "\"\($0)\"" } ?? "none"); "
                + "restart postern",
            source: login.source)
    }

    private static func logins(_ sources: [SourceConfiguration]) -> [(source: String, keytab: String?)] {
        sources.compactMap { source in
            guard case .directory(let directory) = source.kind, case .gssapi(let keytab) = directory.login else {
                return nil
            }
            return (source.name, keytab)
        }
    }

    /// libldap's own files and variables are for people at a terminal: here only the configuration counts.
    static func prepareLibrary() { _ = library }

    private static let library: Void = {
        setenv("LDAPNOINIT", "1", 1)
        // It looks at that when it is first asked for anything; programs that are started later mustn't.
        var level: Int32 = 0
        ldap_get_option(nil, LDAP_OPT_DEBUG_LEVEL, &level)
        unsetenv("LDAPNOINIT")
    }()
}
