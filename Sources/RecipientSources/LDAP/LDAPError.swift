import CLDAP

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

    static func cancelled(_ error: SourceError) -> LDAPError {
        var cancelled = LDAPError(.search, code: LDAP_USER_CANCELLED, "stopped")
        cancelled.cancellation = error
        return cancelled
    }

    /// An answer that violates the protocol.
    ///
    /// - Parameter part: what violates it: `an entry without a name`.
    static func malformed(_ part: String) -> LDAPError {
        LDAPError(.search, code: LDAP_DECODING_ERROR, "the server's answer violates the protocol: \(part)")
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
