import CLDAP
import Foundation
import Glibc
import System

/// How a connection to a directory is made.
struct LDAPOptions: Sendable {
    var startTLS = false
    /// Certificates of authorities in PEM; nil for those of the system.
    var caFile: String?
    var verifiesCertificate = true
    /// How long a server may take to answer.
    var timeout = Duration.seconds(30)
    var followsReferrals = false
    /// Whether a password may go over a connection that isn't encrypted.
    var allowsPlaintext = false
    /// Where the connection's socket is noted while it is open.
    var sockets = OpenSockets()

    /// Where Debian keeps the authorities that the system trusts; libldap knows none by itself.
    static let systemAuthorities = "/etc/ssl/certs/ca-certificates.crt"
}

/// How Postern says who it is.
enum LDAPCredentials {
    case anonymous
    case simple(dn: String, password: [UInt8])
    /// SASL EXTERNAL: whom the socket or the certificate says it is.
    case external
    /// SASL GSSAPI, with the ticket or keytab that the environment names.
    case gssapi
}

/// One connection to a directory server, bound and ready; closed with the object. For one thread at a time.
final class LDAPConnection {
    let uri: LDAPURI
    let handle: OpaquePointer
    let options: LDAPOptions
    /// The socket that was noted.
    private let noted: Int32
    /// For servers that refer to others.
    private let rebinding: Rebinding

    /// Called while waiting, several times a second; throws to give up.
    typealias Check = () throws(SourceError) -> Void

    /// Connects, encrypts and binds.
    init(_ uri: LDAPURI, _ options: LDAPOptions, _ credentials: LDAPCredentials, check: Check) throws(LDAPError) {
        DirectoryEnvironment.prepareLibrary()
        if Self.encrypts(uri, options), options.verifiesCertificate {
            let authorities = Self.authorities(options)
            if let fault = CertificateDiagnosis.fault(ofAuthorities: authorities) {
                throw LDAPError(.tls, LDAP_LOCAL_ERROR, "ca_file \(authorities) \(fault)")
            }
        }
        self.uri = uri
        self.options = options
        rebinding = Rebinding(credentials, allowsPlaintext: options.allowsPlaintext)
        let descriptor = try LDAPSocket.connect(to: uri, timeout: options.timeout, check: check)
        var handle: OpaquePointer?
        let proto = uri.scheme == .ldapi ? LDAP_PROTO_IPC : LDAP_PROTO_TCP
        let code = ldap_init_fd(descriptor, proto, uri.normalized, &handle)
        guard code == LDAP_SUCCESS, let handle else {
            close(descriptor)
            throw .result(.connect, code, diagnostic: "")
        }
        self.handle = handle
        noted = descriptor
        options.sockets.add(descriptor)
        do throws(SourceError) { try check() } catch { throw .cancelled(error) }
        configure()
        try encrypt(check)
        try bind(credentials, check)
    }

    deinit {
        options.sockets.remove(noted)
        // The farewell may find no room on the way.
        var writing = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &writing, socklen_t(MemoryLayout<timeval>.size))
        ldap_unbind_ext(handle, nil, nil)
    }

    /// The socket, to wait for with poll(2) once there is nothing left that was read ahead: ``poll(_:wait:_:)`` tells.
    var descriptor: Int32 {
        var descriptor: Int32 = -1
        ldap_get_option(handle, LDAP_OPT_DESC, &descriptor)
        return descriptor
    }

    /// Whether libldap has followed a reference to one of these addresses.
    func hasFollowed(_ addresses: [String]) -> Bool {
        addresses.map(Self.server).contains { $0 == Self.server(of: uri.normalized) || rebinding.servers.contains($0) }
    }

    /// The scheme, host and port of an LDAP URL, in lower case.
    fileprivate static func server(of url: String) -> String {
        guard let mark = url.range(of: "://") else { return url.lowercased() }
        let host = url[mark.upperBound...].prefix { $0 != "/" && $0 != "?" }
        return (url[..<mark.upperBound] + host).lowercased()
    }

    /// Whether what goes over it is hidden from the network.
    var isEncrypted: Bool { uri.scheme != .ldap || options.startTLS }

    private static let tlsPackage: String = {
        var name: UnsafeMutablePointer<CChar>?
        ldap_get_option(nil, LDAP_OPT_X_TLS_PACKAGE, &name)
        defer { ldap_memfree(name) }
        return name.map { String(cString: $0) } ?? ""
    }()

    /// The longest message that is taken. A page comes as one message an entry, so that this is a limit for an entry.
    private static let longestMessage: ber_len_t = 16 << 20

    /// The weakest protection by Kerberos that is taken for one, in bits as SASL counts them: 1 is integrity alone, 56 the weakest
    /// encryption that there ever was.
    static let weakestEncryption = 56

    // MARK: Making

    /// How many octets are read ahead; a page of entries has about 300,000.
    private static let readAhead: Int32 = 64 << 10

    private func configure() {
        // Without it, a sync is as right, only slower.
        _ = postern_ldap_read_ahead(handle, Self.readAhead)
        _ = postern_ldap_limit_incoming(handle, Self.longestMessage)
        set(LDAP_OPT_PROTOCOL_VERSION, 3)
        ldap_set_option(
            handle, LDAP_OPT_REFERRALS,
            options.followsReferrals ? postern_ldap_opt_on() : postern_ldap_opt_off())
        // A canonical name from the DNS would name another host than the one that was configured.
        ldap_set_option(handle, LDAP_OPT_X_SASL_NOCANON, postern_ldap_opt_on())
        let seconds = max(1, options.timeout.components.seconds)
        var limit = timeval(tv_sec: Int(clamping: seconds), tv_usec: 0)
        ldap_set_option(handle, LDAP_OPT_NETWORK_TIMEOUT, &limit)
        ldap_set_option(handle, LDAP_OPT_TIMEOUT, &limit)
        if options.followsReferrals {
            ldap_set_rebind_proc(handle, rebind, Unmanaged.passUnretained(rebinding).toOpaque())
        }
    }

    private func set(_ option: Int32, _ value: Int32) {
        var value = value
        ldap_set_option(handle, option, &value)
    }

    private static func encrypts(_ uri: LDAPURI, _ options: LDAPOptions) -> Bool {
        uri.scheme == .ldaps || options.startTLS && uri.scheme == .ldap
    }

    private static func authorities(_ options: LDAPOptions) -> String {
        options.caFile ?? LDAPOptions.systemAuthorities
    }

    private func encrypt(_ check: Check) throws(LDAPError) {
        guard Self.encrypts(uri, options) else { return }
        let authorities = Self.authorities(options)
        set(LDAP_OPT_X_TLS_REQUIRE_CERT, options.verifiesCertificate ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER)
        if options.verifiesCertificate {
            guard ldap_set_option(handle, LDAP_OPT_X_TLS_CACERTFILE, authorities) == LDAP_SUCCESS else {
                throw LDAPError(.tls, LDAP_LOCAL_ERROR, "ca_file \(authorities) can't be used")
            }
        }
        set(LDAP_OPT_X_TLS_PROTOCOL_MIN, Int32(postern_ldap_tls_1_2))
        // GnuTLS, of which Debian's libldap is made, passes that over.
        if Self.tlsPackage == "GnuTLS" {
            ldap_set_option(handle, LDAP_OPT_X_TLS_CIPHER_SUITE, "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1:-VERS-SSL3.0")
        }
        var isServer: Int32 = 0
        guard ldap_set_option(handle, LDAP_OPT_X_TLS_NEWCTX, &isServer) == LDAP_SUCCESS else {
            throw LDAPError(.tls, LDAP_LOCAL_ERROR, "TLS can't be prepared: \(failure(.tls, LDAP_LOCAL_ERROR).text)")
        }
        if options.startTLS, uri.scheme == .ldap {
            var id: Int32 = 0
            let code = ldap_start_tls(handle, nil, nil, &id)
            guard code == LDAP_SUCCESS else { throw failure(.tls, code) }
            let answer = try receive(id, patience: options.timeout, .tls, check)
            do throws(LDAPError) {
                _ = try answer.success(.tls)
            } catch {
                throw LDAPError(.tls, error.code, "the server doesn't offer StartTLS: \(error.text)")
            }
        }
        let code = try handshake(check)
        if code == LDAP_TIMEOUT { throw LDAPError(.tls, code, "no answer within \(options.timeout.text)") }
        guard code == LDAP_SUCCESS else {
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            let diagnosis = options.verifiesCertificate ? CertificateDiagnosis.reason(uri, options, check: check) : nil
            throw LDAPError(
                .tls, code,
                diagnosis.map { "the server's certificate is not accepted: \($0)" }
                    ?? "TLS can't be agreed on: \(failure(.tls, code).text)")
        }
    }

    /// Agrees on TLS; a result of libldap, `LDAP_TIMEOUT` where the server takes too long.
    private func handshake(_ check: Check) throws(LDAPError) -> Int32 {
        // Without this, libldap 2.5 would read again and again, for ever and without a pause, where a server is silent. With it, 2.5
        // waits for the network's time-out; 2.6 gives up whenever there is nothing to read, to be called again.
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

    private func bind(_ credentials: LDAPCredentials, _ check: Check) throws(LDAPError) {
        switch credentials {
        case .anonymous:
            // Version 3 needs none; servers that don't want strangers say so at the search.
            return
        case .gssapi:
            let code = bindByKerberos(handle, isEncrypted: isEncrypted)
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard code != LDAP_CONFIDENTIALITY_REQUIRED else {
                throw LDAPError(
                    .bind, code,
                    "Kerberos doesn't encrypt this connection, or not well enough (at least \(Self.weakestEncryption) bits): "
                        + "let the server do so, or use ldaps:// or starttls = true")
            }
            guard code == LDAP_SUCCESS else { throw failure(.bind, code) }
        case .external: try bind("EXTERNAL", nil, [], check)
        case .simple(let dn, let password):
            guard !password.isEmpty else {
                // RFC 4513 section 5.1.2: a name without a password binds nobody, and succeeds.
                throw LDAPError(.bind, LDAP_INVALID_CREDENTIALS, "the password is empty")
            }
            guard isEncrypted || options.allowsPlaintext else {
                throw LDAPError(
                    .bind, LDAP_CONFIDENTIALITY_REQUIRED,
                    "a password would go over the network in clear: use ldaps:// or starttls = true, "
                        + "or allow_plaintext = true")
            }
            try bind(nil, dn, password, check)
        }
    }

    private func bind(
        _ mechanism: String?, _ dn: String?, _ password: [UInt8], _ check: Check
    ) throws(LDAPError) {
        var id: Int32 = 0
        var password = password
        let code = password.withUnsafeMutableBytes { bytes in
            var value = berval(
                bv_len: ber_len_t(bytes.count), bv_val: bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
            return ldap_sasl_bind(handle, dn, mechanism, &value, nil, nil, &id)
        }
        guard code == LDAP_SUCCESS else { throw failure(.bind, code) }
        _ = try receive(id, patience: options.timeout, .bind, check).success(.bind)
    }

    // MARK: Asking

    /// Sends a search; returns the number that its answers bear.
    func search(
        base: String, scope: Int32 = postern_ldap_scope_subtree, filter: String, attributes: [String],
        controls: [LDAPControl] = []
    ) throws(LDAPError) -> Int32 {
        var names: [UnsafeMutablePointer<CChar>?] = attributes.map { strdup($0) }
        names.append(nil)
        var list = controls.map { control -> UnsafeMutablePointer<CLDAP.LDAPControl>? in
            var made: UnsafeMutablePointer<CLDAP.LDAPControl>?
            var value = control.value ?? []
            value.withUnsafeMutableBytes { bytes in
                // A null value is none, an empty one is a value.
                var content = berval(
                    bv_len: ber_len_t(bytes.count),
                    bv_val: control.value == nil ? nil : bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
                ldap_control_create(control.oid, control.isCritical ? 1 : 0, &content, 1, &made)
            }
            return made
        }
        list.append(nil)
        defer {
            names.forEach { free($0) }
            list.forEach { ldap_control_free($0) }
        }
        var id: Int32 = 0
        let code = ldap_search_ext(handle, base, scope, filter, &names, 0, &list, nil, nil, 0, &id)
        guard code == LDAP_SUCCESS else { throw failure(.search, code) }
        return id
    }

    /// The next message of a request.
    ///
    /// - Parameter patience: how long the server may take for it.
    func receive(
        _ id: Int32, patience: Duration, _ operation: LDAPError.Operation = .search, _ check: Check
    ) throws(LDAPError) -> LDAPMessage {
        let deadline = ContinuousClock.now + patience
        while true {
            if let message = try poll(id, wait: .milliseconds(200), operation) { return message }
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard ContinuousClock.now < deadline else {
                ldap_abandon_ext(handle, id, nil, nil)
                throw LDAPError(operation, LDAP_TIMEOUT, "no answer within \(patience.text)")
            }
        }
    }

    /// A message that has come or comes within the time, of a request or, with -1, of any; nil for none.
    func poll(
        _ id: Int32, wait: Duration = .zero, _ operation: LDAPError.Operation = .search
    ) throws(LDAPError) -> LDAPMessage? {
        var limit = timeval(tv_sec: 0, tv_usec: Int(wait / .microseconds(1)))
        var message: OpaquePointer?
        errno = 0
        let type = ldap_result(handle, id, postern_ldap_msg_one, &limit, &message)
        guard type >= 0 else {
            // What liblber says of a message beyond the limit.
            if errno == ERANGE {
                throw LDAPError(
                    operation, LDAP_SERVER_DOWN,
                    "the server sent a message of more than \(Self.longestMessage >> 20) MiB, which is the limit for an entry: "
                        + "leave its large attribute out of attributes, or the entry out by exclude_filter")
            }
            var code: Int32 = LDAP_SERVER_DOWN
            ldap_get_option(handle, postern_ldap_opt_result_code, &code)
            throw failure(operation, code == LDAP_SUCCESS ? LDAP_SERVER_DOWN : code)
        }
        return message.map { LDAPMessage(self, $0) }
    }

    private func failure(_ operation: LDAPError.Operation, _ code: Int32) -> LDAPError {
        .result(operation, code, diagnostic: diagnostic(handle))
    }
}

/// What libldap says besides of the last result.
private func diagnostic(_ handle: OpaquePointer) -> String {
    var text: UnsafeMutablePointer<CChar>?
    ldap_get_option(handle, LDAP_OPT_DIAGNOSTIC_MESSAGE, &text)
    defer { ldap_memfree(text) }
    return text.map { String(cString: $0) } ?? ""
}

/// What libldap needs to bind to a server that another one has referred to.
private final class Rebinding {
    let credentials: LDAPCredentials
    let allowsPlaintext: Bool
    /// The servers that a connection was made to, as the references name them.
    var servers: Set<String> = []

    init(_ credentials: LDAPCredentials, allowsPlaintext: Bool) {
        self.credentials = credentials
        self.allowsPlaintext = allowsPlaintext
    }
}

/// Binds with SASL GSSAPI; `LDAP_CONFIDENTIALITY_REQUIRED` where that leaves the connection unprotected.
///
/// - Parameter isEncrypted: whether it is protected without it.
private func bindByKerberos(_ handle: OpaquePointer, isEncrypted: Bool) -> Int32 {
    // Active Directory takes no second layer of encryption.
    var least = ber_len_t(isEncrypted ? 0 : LDAPConnection.weakestEncryption)
    var most = ber_len_t(isEncrypted ? 0 : Int(Int32.max))
    ldap_set_option(handle, LDAP_OPT_X_SASL_SSF_MIN, &least)
    ldap_set_option(handle, LDAP_OPT_X_SASL_SSF_MAX, &most)
    if isEncrypted {
        // It may want the bind to be tied to the first layer.
        var binding = LDAP_OPT_X_SASL_CBINDING_TLS_ENDPOINT
        ldap_set_option(handle, LDAP_OPT_X_SASL_CBINDING, &binding)
    }
    let code = postern_ldap_sasl_bind(handle, "GSSAPI")
    guard !isEncrypted else { return code }
    guard code == LDAP_SUCCESS else {
        // SASL_TOOWEAK, which libldap tells in its words only.
        return diagnostic(handle).contains("SASL(\(SASL_TOOWEAK))") ? LDAP_CONFIDENTIALITY_REQUIRED : code
    }
    // Whatever libraries make of what they were asked for.
    var strength: ber_len_t = 0
    guard ldap_get_option(handle, LDAP_OPT_X_SASL_SSF, &strength) == LDAP_SUCCESS, strength >= least else {
        return LDAP_CONFIDENTIALITY_REQUIRED
    }
    return code
}

/// Called by libldap on the thread that waits for an answer, with a new connection to the server referred to.
private func rebind(
    _ handle: OpaquePointer?, _ url: UnsafePointer<CChar>?, _ request: ber_tag_t, _ id: ber_int_t,
    _ context: UnsafeMutableRawPointer?
) -> Int32 {
    guard let handle, let url, let context else { return LDAP_LOCAL_ERROR }
    let rebinding = Unmanaged<Rebinding>.fromOpaque(context).takeUnretainedValue()
    let code = bind(handle, url, rebinding)
    if code == LDAP_SUCCESS { rebinding.servers.insert(LDAPConnection.server(of: String(cString: url))) }
    return code
}

private func bind(_ handle: OpaquePointer, _ url: UnsafePointer<CChar>, _ rebinding: Rebinding) -> Int32 {
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
