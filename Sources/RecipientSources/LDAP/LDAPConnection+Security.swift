import CLDAP
import Glibc
import Synchronization
import System

/// Encryption and authentication.
extension LDAPConnection {
    /// Whether a connection is encrypted by TLS.
    static func encrypts(_ uri: LDAPURI, _ options: LDAPOptions) -> Bool {
        uri.scheme == .ldaps || options.startTLS && uri.scheme == .ldap
    }

    /// Encrypts the connection by TLS, if the settings ask for that.
    func encrypt(_ check: Check) throws(LDAPError) {
        guard Self.encrypts(uri, options) else { return }
        set(LDAP_OPT_X_TLS_REQUIRE_CERT, options.verifiesCertificate ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER)
        if options.verifiesCertificate {
            guard ldap_set_option(handle, LDAP_OPT_X_TLS_CACERTFILE, options.authorities) == LDAP_SUCCESS else {
                throw LDAPError(.tls, code: LDAP_LOCAL_ERROR, "ca_file \(options.authorities) can't be used")
            }
        }
        set(LDAP_OPT_X_TLS_PROTOCOL_MIN, Int32(postern_ldap_tls_1_2))
        // GnuTLS, which Debian's libldap uses, ignores that option.
        if Self.tlsPackage == "GnuTLS" {
            ldap_set_option(handle, LDAP_OPT_X_TLS_CIPHER_SUITE, "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1:-VERS-SSL3.0")
        }
        var isServer: Int32 = 0
        guard ldap_set_option(handle, LDAP_OPT_X_TLS_NEWCTX, &isServer) == LDAP_SUCCESS else {
            throw LDAPError(
                .tls, code: LDAP_LOCAL_ERROR, "TLS can't be set up: \(failure(.tls, LDAP_LOCAL_ERROR).text)")
        }
        if options.startTLS, uri.scheme == .ldap {
            var id: Int32 = 0
            let code = ldap_start_tls(handle, nil, nil, &id)
            guard code == LDAP_SUCCESS else { throw failure(.tls, code) }
            let answer = try receive(id, patience: options.timeout, operation: .tls, check: check)
            do throws(LDAPError) {
                _ = try answer.success(.tls)
            } catch {
                throw LDAPError(.tls, code: error.code, "the server doesn't offer StartTLS: \(error.text)")
            }
        }
        let code = try handshake(check)
        if code == LDAP_TIMEOUT { throw LDAPError(.tls, code: code, "no answer within \(options.timeout.inSeconds)") }
        guard code == LDAP_SUCCESS else {
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            let diagnosis = options.verifiesCertificate ? CertificateDiagnosis.reason(uri, options, check: check) : nil
            throw LDAPError(
                .tls, code: code,
                diagnosis.map { "the server's certificate is not accepted: \($0)" }
                    ?? "the TLS handshake failed: \(failure(.tls, code).text)")
        }
    }

    /// Negotiates TLS; returns a result code of libldap, `LDAP_TIMEOUT` if the server takes too long.
    private func handshake(_ check: Check) throws(LDAPError) -> Int32 {
        // Without this, libldap 2.5 would poll a silent server forever, without a pause. With it, 2.5 waits for the
        // network timeout; 2.6 returns whenever there is nothing to read, and is called again.
        ldap_set_option(handle, LDAP_OPT_CONNECT_ASYNC, postern_ldap_opt_on())
        defer { ldap_set_option(handle, LDAP_OPT_CONNECT_ASYNC, postern_ldap_opt_off()) }
        let deadline = ContinuousClock.now + options.timeout
        while true {
            let code = ldap_install_tls(handle)
            guard code == postern_ldap_connecting else { return code }
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard ContinuousClock.now < deadline else { return LDAP_TIMEOUT }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            _ = Glibc.poll(&entry, 1, 200)
        }
    }

    /// Authenticates.
    func bind(_ credentials: LDAPCredentials, _ check: Check) throws(LDAPError) {
        switch credentials {
        case .anonymous:
            // LDAPv3 needs no bind; servers that don't allow anonymous searches refuse the search.
            return
        case .gssapi:
            let code = bindByKerberos(handle, isEncrypted: isEncrypted)
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard code != LDAP_CONFIDENTIALITY_REQUIRED else {
                throw LDAPError(
                    .bind, code: code,
                    "Kerberos doesn't encrypt this connection with at least \(Self.weakestEncryption) bits; allow that on the server, or use "
                        + "ldaps:// or starttls = true")
            }
            guard code == LDAP_SUCCESS else { throw failure(.bind, code) }
        case .external: try bind(mechanism: "EXTERNAL", dn: nil, password: [], check: check)
        case .simple(let dn, let password):
            guard !password.isEmpty else {
                // RFC 4513 section 5.1.2: a bind with an empty password succeeds, but authenticates nobody.
                throw LDAPError(.bind, code: LDAP_INVALID_CREDENTIALS, "the password is empty")
            }
            guard isEncrypted || options.allowsPlaintext else {
                throw LDAPError(
                    .bind, code: LDAP_CONFIDENTIALITY_REQUIRED,
                    "the password would be sent unencrypted; use ldaps:// or starttls = true, or set allow_plaintext = true"
                )
            }
            try bind(mechanism: nil, dn: dn, password: password, check: check)
        }
    }

    private func bind(
        mechanism: String?, dn: String?, password: [UInt8], check: Check
    ) throws(LDAPError) {
        var id: Int32 = 0
        var password = password
        let code = password.withUnsafeMutableBytes { bytes in
            var value = berval(
                bv_len: ber_len_t(bytes.count), bv_val: bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
            return ldap_sasl_bind(handle, dn, mechanism, &value, nil, nil, &id)
        }
        guard code == LDAP_SUCCESS else { throw failure(.bind, code) }
        _ = try receive(id, patience: options.timeout, operation: .bind, check: check).success(.bind)
    }

    /// The server's certificate in DER; nil if the connection isn't encrypted by TLS.
    var peerCertificate: [UInt8]? {
        var value = berval()
        guard ldap_get_option(handle, LDAP_OPT_X_TLS_PEERCERT, &value) == LDAP_SUCCESS, value.bv_val != nil else {
            return nil
        }
        defer { ldap_memfree(value.bv_val) }
        return Array(value.bytes)
    }
}

/// The settings with which libldap binds to a server that another one has referred to.
final class Rebinding {
    let credentials: LDAPCredentials
    let allowsPlaintext: Bool
    /// The servers that libldap has bound to, as the references name them.
    var servers: Set<String> = []

    init(_ credentials: LDAPCredentials, allowsPlaintext: Bool) {
        self.credentials = credentials
        self.allowsPlaintext = allowsPlaintext
    }
}

/// Binds with SASL GSSAPI; returns `LDAP_CONFIDENTIALITY_REQUIRED` if the connection isn't encrypted well enough then.
///
/// - Parameter isEncrypted: whether the connection is encrypted by TLS or local, so that Kerberos needn't encrypt it.
private func bindByKerberos(_ handle: OpaquePointer, isEncrypted: Bool) -> Int32 {
    // Active Directory accepts no second layer of encryption.
    var least = ber_len_t(isEncrypted ? 0 : LDAPConnection.weakestEncryption)
    var most = ber_len_t(isEncrypted ? 0 : Int(Int32.max))
    ldap_set_option(handle, LDAP_OPT_X_SASL_SSF_MIN, &least)
    ldap_set_option(handle, LDAP_OPT_X_SASL_SSF_MAX, &most)
    if isEncrypted {
        // Active Directory may require that the bind is tied to the TLS connection.
        var binding = LDAP_OPT_X_SASL_CBINDING_TLS_ENDPOINT
        ldap_set_option(handle, LDAP_OPT_X_SASL_CBINDING, &binding)
    }
    let code = postern_ldap_sasl_bind(handle, "GSSAPI")
    guard !isEncrypted else { return code }
    guard code == LDAP_SUCCESS else {
        // libldap shows SASL_TOOWEAK in its diagnostic message only.
        return diagnostic(handle).contains("SASL(\(SASL_TOOWEAK))") ? LDAP_CONFIDENTIALITY_REQUIRED : code
    }
    // Checked, as the library may not have applied the minimum.
    var strength: ber_len_t = 0
    guard ldap_get_option(handle, LDAP_OPT_X_SASL_SSF, &strength) == LDAP_SUCCESS, strength >= least else {
        return LDAP_CONFIDENTIALITY_REQUIRED
    }
    return code
}

/// Called by libldap on the thread that waits for an answer, with a new connection to the server that was referred to.
func rebind(
    _ handle: OpaquePointer?, _ url: UnsafePointer<CChar>?, _ request: ber_tag_t, _ id: ber_int_t,
    _ context: UnsafeMutableRawPointer?
) -> Int32 {
    guard let handle, let url, let context else { return LDAP_LOCAL_ERROR }
    let rebinding = Unmanaged<Rebinding>.fromOpaque(context).takeUnretainedValue()
    let code = bind(handle, to: url, rebinding)
    if code == LDAP_SUCCESS { rebinding.servers.insert(LDAPConnection.server(of: String(cString: url))) }
    return code
}

private func bind(_ handle: OpaquePointer, to url: UnsafePointer<CChar>, _ rebinding: Rebinding) -> Int32 {
    switch rebinding.credentials {
    case .anonymous, .external: return LDAP_SUCCESS
    case .gssapi:
        return bindByKerberos(handle, isEncrypted: !String(cString: url).lowercased().hasPrefix("ldap://"))
    case .simple(let dn, var password):
        let text = String(cString: url).lowercased()
        guard rebinding.allowsPlaintext || text.hasPrefix("ldaps://") || text.hasPrefix("ldapi://") else {
            return LDAP_CONFIDENTIALITY_REQUIRED
        }
        return password.withUnsafeMutableBytes { bytes in
            var value = berval(
                bv_len: ber_len_t(bytes.count), bv_val: bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
            return ldap_sasl_bind_s(handle, dn, nil, &value, nil, nil, nil)
        }
    }
}

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
