import CLDAP
import Foundation
import Glibc
import System

/// The settings of a connection to a directory server.
struct LDAPOptions: Sendable {
    var startTLS = false
    /// A file with the certificates of the trusted authorities in PEM; nil for those of the system.
    var caFile: String?
    var verifiesCertificate = true
    /// How long a server has for an answer.
    var timeout = Duration.seconds(30)
    var followsReferrals = false
    /// Whether a password may be sent over an unencrypted connection.
    var allowsPlaintext = false
    /// The set that has the connection's socket while it is open.
    var sockets = OpenSockets()

    /// The file of the trusted authorities: libldap has no default, so Debian's file is used.
    var authorities: String { caFile ?? "/etc/ssl/certs/ca-certificates.crt" }
}

/// How Postern authenticates.
enum LDAPCredentials {
    case anonymous
    case simple(dn: String, password: [UInt8])
    /// SASL EXTERNAL: as the user of the process, which a unix socket shows to the server.
    case external
    /// SASL GSSAPI (Kerberos), with the ticket or keytab that the environment names.
    case gssapi
}

/// A connection to a directory server, encrypted and bound as configured; it is closed with the object. For one thread
/// at a time.
final class LDAPConnection {
    let uri: LDAPURI
    let handle: OpaquePointer
    let options: LDAPOptions
    /// The socket in `options.sockets`.
    private let registered: Int32
    /// The settings for servers that this one refers to.
    private let rebinding: Rebinding

    /// Called several times a second while waiting; throws to end the waiting.
    typealias Check = () throws(SourceError) -> Void

    /// Connects, encrypts and binds.
    init(_ uri: LDAPURI, _ options: LDAPOptions, credentials: LDAPCredentials, check: Check) throws(LDAPError) {
        DirectoryEnvironment.prepareLibrary()
        if Self.encrypts(uri, options), options.verifiesCertificate {
            if let fault = CertificateDiagnosis.fault(ofAuthorities: options.authorities) {
                throw LDAPError(.tls, code: LDAP_LOCAL_ERROR, "ca_file \(options.authorities) \(fault)")
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
        registered = descriptor
        options.sockets.add(descriptor)
        do throws(SourceError) { try check() } catch { throw .cancelled(error) }
        configure()
        try encrypt(check)
        try bind(credentials, check)
    }

    deinit {
        options.sockets.remove(registered)
        // The unbind request must not wait long if the server doesn't read.
        var writing = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &writing, socklen_t(MemoryLayout<timeval>.size))
        ldap_unbind_ext(handle, nil, nil)
    }

    /// The socket, for poll(2). A message that was read ahead doesn't show there: call ``poll(_:wait:_:)`` first until
    /// it returns nil.
    var descriptor: Int32 {
        var descriptor: Int32 = -1
        ldap_get_option(handle, LDAP_OPT_DESC, &descriptor)
        return descriptor
    }

    /// Whether libldap has followed a reference to one of these URIs.
    func hasFollowed(_ addresses: [String]) -> Bool {
        addresses.map(Self.server).contains { $0 == Self.server(of: uri.normalized) || rebinding.servers.contains($0) }
    }

    /// The scheme, host and port of an LDAP URL, in lower case.
    static func server(of url: String) -> String {
        guard let mark = url.range(of: "://") else { return url.lowercased() }
        let host = url[mark.upperBound...].prefix { $0 != "/" && $0 != "?" }
        return (url[..<mark.upperBound] + host).lowercased()
    }

    /// Whether messages are unreadable to the network.
    var isEncrypted: Bool { uri.scheme != .ldap || options.startTLS }

    static let tlsPackage: String = {
        var name: UnsafeMutablePointer<CChar>?
        ldap_get_option(nil, LDAP_OPT_X_TLS_PACKAGE, &name)
        defer { ldap_memfree(name) }
        return name.map { String(cString: $0) } ?? ""
    }()

    /// The longest message that is accepted, and so the largest entry: each entry is a message of its own.
    private static let longestMessage: ber_len_t = 16 << 20

    /// The weakest encryption by Kerberos that is accepted, in SASL's bits: 1 is integrity alone, 56 the weakest
    /// encryption.
    static let weakestEncryption = 56

    // MARK: Settings

    /// How many bytes are read ahead; a page of entries has about 300,000.
    private static let readAhead: Int32 = 64 << 10

    private func configure() {
        // If this fails, reading is slower, but right.
        _ = postern_ldap_read_ahead(handle, Self.readAhead)
        _ = postern_ldap_limit_incoming(handle, Self.longestMessage)
        set(LDAP_OPT_PROTOCOL_VERSION, 3)
        ldap_set_option(
            handle, LDAP_OPT_REFERRALS,
            options.followsReferrals ? postern_ldap_opt_on() : postern_ldap_opt_off())
        // The DNS's canonical name may differ from the host that was configured.
        ldap_set_option(handle, LDAP_OPT_X_SASL_NOCANON, postern_ldap_opt_on())
        let seconds = max(1, options.timeout.components.seconds)
        var limit = timeval(tv_sec: Int(clamping: seconds), tv_usec: 0)
        ldap_set_option(handle, LDAP_OPT_NETWORK_TIMEOUT, &limit)
        ldap_set_option(handle, LDAP_OPT_TIMEOUT, &limit)
        if options.followsReferrals {
            ldap_set_rebind_proc(handle, rebind, Unmanaged.passUnretained(rebinding).toOpaque())
        }
    }

    func set(_ option: Int32, _ value: Int32) {
        var value = value
        ldap_set_option(handle, option, &value)
    }

    // MARK: Requests

    /// Sends a search; returns the message ID of its answers.
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
                // A null pointer is no value; an empty value is one.
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
    /// - Parameter patience: how long the server has for it.
    func receive(
        _ id: Int32, patience: Duration, operation: LDAPError.Operation = .search, check: Check
    ) throws(LDAPError) -> LDAPMessage {
        let deadline = ContinuousClock.now + patience
        while true {
            if let message = try poll(id, wait: .milliseconds(200), operation) { return message }
            do throws(SourceError) { try check() } catch { throw .cancelled(error) }
            guard ContinuousClock.now < deadline else {
                ldap_abandon_ext(handle, id, nil, nil)
                throw LDAPError(operation, code: LDAP_TIMEOUT, "no answer within \(patience.inSeconds)")
            }
        }
    }

    /// The next message that comes within this time, of one request or, with -1, of any; nil if no message comes.
    func poll(
        _ id: Int32, wait: Duration = .zero, _ operation: LDAPError.Operation = .search
    ) throws(LDAPError) -> LDAPMessage? {
        var limit = timeval(tv_sec: 0, tv_usec: Int(wait / .microseconds(1)))
        var message: OpaquePointer?
        errno = 0
        let type = ldap_result(handle, id, postern_ldap_msg_one, &limit, &message)
        guard type >= 0 else {
            // liblber's error for a message beyond the limit.
            if errno == ERANGE {
                throw LDAPError(
                    operation, code: LDAP_SERVER_DOWN,
                    "the server sent an entry of more than \(Self.longestMessage >> 20) MiB, which is Postern's limit; leave its large attribute "
                        + "out of attributes, or exclude the entry by exclude_filter")
            }
            var code: Int32 = LDAP_SERVER_DOWN
            ldap_get_option(handle, postern_ldap_opt_result_code, &code)
            throw failure(operation, code == LDAP_SUCCESS ? LDAP_SERVER_DOWN : code)
        }
        return message.map { LDAPMessage(self, $0) }
    }

    func failure(_ operation: LDAPError.Operation, _ code: Int32) -> LDAPError {
        .result(operation, code, diagnostic: diagnostic(handle))
    }
}

/// The diagnostic message of the last result; empty if there is none.
func diagnostic(_ handle: OpaquePointer) -> String {
    var text: UnsafeMutablePointer<CChar>?
    ldap_get_option(handle, LDAP_OPT_DIAGNOSTIC_MESSAGE, &text)
    defer { ldap_memfree(text) }
    return text.map { String(cString: $0) } ?? ""
}
