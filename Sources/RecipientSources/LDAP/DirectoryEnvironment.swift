import CLDAP
import Glibc
import Synchronization

/// The environment variables that libldap and the Kerberos library read.
///
/// Changing the environment while other threads read it may crash the process, so they are set once, before other
/// threads are started.
public enum DirectoryEnvironment {
    private enum State {
        case untouched
        /// Set for this keytab; nil for none.
        case prepared(keytab: String?)
    }

    private static let state = Mutex(State.untouched)

    /// Sets the environment for reading these sources. Called by the main thread before it starts others; afterwards, a
    /// sync refuses a configuration with another keytab.
    ///
    /// - Throws: `SourceError` of kind `configuration` if sources have different keytabs.
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
        // Tickets stay in memory, where the library renews them by itself.
        setenv("KRB5_CLIENT_KTNAME", "FILE:\(wanted)", 1)
        setenv("KRB5CCNAME", "MEMORY:postern", 1)
    }

    /// Why one process can't read these sources, in a sentence; nil if it can.
    package static func fault(in sources: [SourceConfiguration]) -> String? {
        let logins = logins(sources)
        guard let first = logins.first, let other = logins.first(where: { $0.keytab != first.keytab }) else {
            return nil
        }
        func text(_ login: (source: String, keytab: String?)) -> String {
            "source \"\(login.source)\" has \(login.keytab.map { "keytab = \"\($0)\"" } ?? "none")"
        }
        return "all sources with sasl = \"gssapi\" share one keytab, but \(text(first)) and \(text(other)); "
            + "use the same keytab for all, or run postern sync for one of them on another machine"
    }

    /// Throws an error if the keytab in use isn't the configuration's.
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

    /// Keeps libldap from reading its own files and variables: only Postern's configuration counts.
    static func prepareLibrary() { _ = library }

    private static let library: Void = {
        setenv("LDAPNOINIT", "1", 1)
        // libldap reads the variable on its first call; programs that are started later mustn't see it.
        var level: Int32 = 0
        ldap_get_option(nil, LDAP_OPT_DEBUG_LEVEL, &level)
        unsetenv("LDAPNOINIT")
    }()
}
