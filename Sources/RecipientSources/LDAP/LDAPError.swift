import CGnuTLS
import CLDAP
import Glibc
import System

/// Why a request to a directory server failed.
struct LDAPError: Error {
    enum Operation: String {
        case connect, tls = "TLS", bind, search
    }

    let operation: Operation
    /// A result code of RFC 4511 section 4.1.9, or a negative one of libldap.
    let code: Int32
    /// The reason, as a clause for a postmaster, without the server's name.
    let text: String
    /// The error of the check that ended the request, if that is the reason.
    private(set) var cancellation: SourceError?

    init(_ operation: Operation, code: Int32, _ text: String) {
        self.operation = operation
        self.code = code
        self.text = text
    }

    /// The failure of a search.
    static func search(_ code: Int32, _ text: String) -> LDAPError { LDAPError(.search, code: code, text) }

    static func cancelled(_ error: SourceError) -> LDAPError {
        var cancelled = LDAPError.search(LDAP_USER_CANCELLED, "stopped")
        cancelled.cancellation = error
        return cancelled
    }

    /// An answer that violates the protocol.
    ///
    /// - Parameter part: the violation, such as `an entry without a name`.
    static func malformed(_ part: String) -> LDAPError {
        LDAPError.search(LDAP_DECODING_ERROR, "the server's answer violates the protocol: \(part)")
    }

    /// The same error with the base of the search before its text, if a server has sent it.
    func naming(_ base: String) -> LDAPError {
        guard code > 0, cancellation == nil, !base.isEmpty else { return self }
        return LDAPError(operation, code: code, "\(escapedASCII(base.utf8)): \(text)")
    }

    /// The result code e-syncRefreshRequired (RFC 4533): the server can't go on from the cookie.
    static let syncRefreshRequired: Int32 = 4096

    /// A result code in words, with libldap's name of it and the server's diagnostic message.
    static func result(_ operation: Operation, _ code: Int32, diagnostic: String) -> LDAPError {
        let name = String(cString: ldap_err2string(code))
        var text = meaning(operation, code, diagnostic: diagnostic) ?? ""
        text += text.isEmpty ? name : " (\(name)"
        var message = diagnostic.trimmingDiagnostic
        // Negative codes are libldap's own, and so are their messages.
        if code > 0, !message.isEmpty { message = "the server says: " + message }
        if text.contains("(\(name)") {
            text += message.isEmpty ? ")" : "; \(message))"
        } else if !message.isEmpty {
            text += " (\(message))"
        }
        return LDAPError(operation, code: code, text)
    }

    private static func meaning(_ operation: Operation, _ code: Int32, diagnostic: String) -> String? {
        switch code {
        case LDAP_SERVER_DOWN, LDAP_CONNECT_ERROR: "the server closed the connection"
        case LDAP_TIMEOUT: "no answer within the timeout"
        case LDAP_TIMELIMIT_EXCEEDED:
            "the server's time limit ended the search; raise it for the account that Postern binds as"
        case LDAP_SIZELIMIT_EXCEEDED:
            "the server's size limit ended the search, so the list is not whole; raise it for the account that Postern binds as"
        case LDAP_ADMINLIMIT_EXCEEDED:
            "an administrative limit of the server ended the search; raise it for the account that Postern binds as"
        case LDAP_INVALID_CREDENTIALS: credentials(diagnostic)
        case LDAP_INAPPROPRIATE_AUTH: "the server doesn't allow this account this kind of bind"
        case LDAP_INVALID_DN_SYNTAX:
            operation == .bind ? "bind_dn is not a distinguished name" : "a base is not a distinguished name"
        case LDAP_NO_SUCH_OBJECT: "the base doesn't exist on this server, or the account may not see it"
        case LDAP_INSUFFICIENT_ACCESS: "the account has no right to do this"
        case LDAP_STRONG_AUTH_REQUIRED where diagnostic.contains("Sign or Seal"):
            "the server accepts Kerberos only if Kerberos encrypts the connection; use ldap:// without starttls"
        case LDAP_STRONG_AUTH_REQUIRED, LDAP_CONFIDENTIALITY_REQUIRED:
            "the server requires an encrypted connection; use ldaps:// or starttls = true"
        case LDAP_AUTH_METHOD_NOT_SUPPORTED: "the server doesn't support this kind of bind"
        case LDAP_UNAVAILABLE_CRITICAL_EXTENSION: "the server doesn't support this control here"
        case LDAP_BUSY, LDAP_UNAVAILABLE: "the server is busy or shutting down"
        case LDAP_UNWILLING_TO_PERFORM: "the server refuses this request"
        case LDAP_REFERRAL:
            "the server refers to another server, which Postern doesn't follow (follow_referrals = false)"
        case LDAP_OPERATIONS_ERROR
        where diagnostic.contains("bind must be completed") || diagnostic.contains("without authentication"):
            "the server requires a bind; set bind_dn and password_file, or sasl"
        case syncRefreshRequired: "the server can't go on from where the last sync ended"
        default: nil
        }
    }

    /// Why credentials were refused, by the number after `data` in Active Directory's diagnostic message.
    private static func credentials(_ diagnostic: String) -> String {
        let reasons: [(String, String)] = [
            ("525", "there is no such account"),
            // Some servers also send this for an account that doesn't exist, so that nobody can guess names.
            ("52e", "the password is wrong, or there is no such account"),
            ("530", "the account may not log on at this time"),
            ("531", "the account may not log on from this machine"), ("532", "the account's password has expired"),
            ("533", "the account is disabled"), ("701", "the account has expired"),
            ("773", "the account must change its password first"), ("775", "the account is locked"),
        ]
        for (number, reason) in reasons where diagnostic.contains("data \(number),") { return reason }
        return "bind_dn or the password is wrong"
    }
}

extension String {
    /// The diagnostic message on one line, fit for a log.
    fileprivate var trimmingDiagnostic: String {
        var text = utf8.prefix { $0 != 0 }.map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }
        while text.last == 0x20 { text.removeLast() }
        return String(decoding: text.prefix(300), as: UTF8.self)
    }
}

/// Finds out why a server's certificate isn't accepted, as libldap doesn't say why.
enum CertificateDiagnosis {
    /// Why the certificate of a server isn't accepted, as a clause; nil if no reason is found. Connects once more,
    /// without verification and without a bind.
    static func reason(_ uri: LDAPURI, _ options: LDAPOptions, check: LDAPConnection.Check) -> String? {
        var lenient = options
        lenient.verifiesCertificate = false
        guard let connection = try? LDAPConnection(uri, lenient, credentials: .anonymous, check: check),
            let certificate = connection.peerCertificate
        else { return nil }
        return reason(certificate, host: uri.host, authorities: options.authorities)
    }

    /// The fault of a file of authorities' certificates, as a clause; nil if it has at least one certificate.
    static func fault(ofAuthorities path: String) -> String? {
        guard access(path, R_OK) == 0 else { return "can't be read: \(systemMessage())" }
        var trust: gnutls_x509_trust_list_t?
        guard gnutls_x509_trust_list_init(&trust, 0) == 0 else { return nil }
        defer { gnutls_x509_trust_list_deinit(trust, 1) }
        let count = gnutls_x509_trust_list_add_trust_file(trust, path, nil, GNUTLS_X509_FMT_PEM, 0, 0)
        return count > 0 ? nil : "has no certificate of an authority"
    }

    /// Why a certificate isn't accepted, as a clause; nil if no reason is found.
    ///
    /// - Parameter der: the certificate.
    static func reason(_ der: [UInt8], host: String, authorities: String) -> String? {
        var certificate: gnutls_x509_crt_t?
        guard gnutls_x509_crt_init(&certificate) == 0 else { return nil }
        defer { gnutls_x509_crt_deinit(certificate) }
        var der = der
        let isRead = der.withUnsafeMutableBytes { bytes in
            var datum = gnutls_datum_t(
                data: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), size: UInt32(bytes.count))
            return gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_DER) == 0
        }
        guard isRead else { return "it can't be decoded" }
        let now = time(nil)
        let end = gnutls_x509_crt_get_expiration_time(certificate)
        let start = gnutls_x509_crt_get_activation_time(certificate)
        if end < now { return "it expired on \(date(end))" }
        if start > now { return "it is not valid before \(date(start)); check this machine's clock" }
        if gnutls_x509_crt_check_hostname(certificate, host) == 0 {
            let names = names(certificate)
            return "it names \(names.isEmpty ? "no host" : names.joined(separator: ", ")), not \(host)"
        }
        var trust: gnutls_x509_trust_list_t?
        guard gnutls_x509_trust_list_init(&trust, 0) == 0 else { return nil }
        defer { gnutls_x509_trust_list_deinit(trust, 1) }
        let count = gnutls_x509_trust_list_add_trust_file(trust, authorities, nil, GNUTLS_X509_FMT_PEM, 0, 0)
        guard count > 0 else { return "\(authorities) has no certificate of an authority" }
        var status: UInt32 = 0
        guard gnutls_x509_trust_list_verify_crt2(trust, &certificate, 1, nil, 0, 0, &status, nil) == 0 else {
            return nil
        }
        func has(_ flag: gnutls_certificate_status_t) -> Bool { status & flag.rawValue != 0 }
        if has(GNUTLS_CERT_SIGNER_NOT_FOUND) {
            return isSelfSigned(certificate)
                ? "it is self-signed and not in \(authorities); add it there, or set ca_file to its file"
                : "its issuer (\(issuer(certificate))) is not in \(authorities); set ca_file to the file of that authority"
        }
        if has(GNUTLS_CERT_REVOKED) { return "it was revoked" }
        if has(GNUTLS_CERT_INSECURE_ALGORITHM) { return "it is signed with an algorithm that is no longer safe" }
        if has(GNUTLS_CERT_SIGNER_NOT_CA) { return "its issuer is not a certificate authority" }
        return nil
    }

    private static func isSelfSigned(_ certificate: gnutls_x509_crt_t?) -> Bool {
        gnutls_x509_crt_check_issuer(certificate, certificate) != 0
    }

    private static func issuer(_ certificate: gnutls_x509_crt_t?) -> String {
        var text = [CChar](repeating: 0, count: 512)
        var size = text.count
        guard gnutls_x509_crt_get_issuer_dn(certificate, &text, &size) == 0 else { return "unknown" }
        return escapedASCII(text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)))
    }

    /// The first five hosts that a certificate names.
    private static func names(_ certificate: gnutls_x509_crt_t?) -> [String] {
        var names: [String] = []
        for index in 0..<UInt32(5) {
            var bytes = [UInt8](repeating: 0, count: 256)
            var size = bytes.count
            let type = gnutls_x509_crt_get_subject_alt_name(certificate, index, &bytes, &size, nil)
            if type < 0 { break }
            if type == Int32(GNUTLS_SAN_DNSNAME.rawValue) {
                names.append(escapedASCII(bytes.prefix(size)))
            } else if type == Int32(GNUTLS_SAN_IPADDRESS.rawValue), size == 4 {
                names.append(bytes.prefix(4).map { String($0) }.joined(separator: "."))
            }
        }
        return names
    }

    private static func date(_ time: time_t) -> String {
        var time = time
        var parts = tm()
        gmtime_r(&time, &parts)
        var text = [CChar](repeating: 0, count: 32)
        strftime(&text, text.count, "%Y-%m-%d %H:%M UTC", &parts)
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
