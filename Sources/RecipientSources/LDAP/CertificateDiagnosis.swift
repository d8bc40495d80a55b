import CGnuTLS
import CLDAP
import Glibc
import System

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
        return reason(certificate, host: uri.host, authorities: options.caFile ?? LDAPOptions.systemAuthorities)
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
