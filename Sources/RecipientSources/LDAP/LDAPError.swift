import CLDAP

/// Why something asked of a directory server failed.
struct LDAPError: Error {
    enum Operation: String {
        case connect, tls = "TLS", bind, search
    }

    let operation: Operation
    /// A result code of RFC 4511 section 4.1.9, or a negative one of libldap.
    let code: Int32
    /// What happened, as a clause for a postmaster, without the server's name.
    let text: String
    /// Why the sync was given up, where that is the reason.
    private(set) var cancellation: SourceError?

    init(_ operation: Operation, _ code: Int32, _ text: String) {
        self.operation = operation
        self.code = code
        self.text = text
    }

    static func cancelled(_ error: SourceError) -> LDAPError {
        var cancelled = LDAPError(.search, LDAP_USER_CANCELLED, "given up")
        cancelled.cancellation = error
        return cancelled
    }

    /// An answer that doesn't keep to the protocol.
    static func malformed(_ what: String) -> LDAPError {
        LDAPError(.search, LDAP_DECODING_ERROR, "the server's answer can't be understood: \(what)")
    }

    /// e-syncRefreshRequired (RFC 4533): the server can't go on from the cookie.
    static let syncRefreshRequired: Int32 = 4096

    /// A result code in words, with what the server says of it.
    static func result(_ operation: Operation, _ code: Int32, diagnostic: String) -> LDAPError {
        let name = String(cString: ldap_err2string(code))
        var text = meaning(operation, code, diagnostic) ?? ""
        text += text.isEmpty ? name : " (\(name)"
        var said = diagnostic.trimmingDiagnostic
        // What comes with a code of libldap's own, it says itself.
        if code > 0, !said.isEmpty { said = "the server says: " + said }
        if text.contains("(\(name)") {
            text += said.isEmpty ? ")" : "; \(said))"
        } else if !said.isEmpty {
            text += " (\(said))"
        }
        return LDAPError(operation, code, text)
    }

    private static func meaning(_ operation: Operation, _ code: Int32, _ diagnostic: String) -> String? {
        switch code {
        case LDAP_SERVER_DOWN, LDAP_CONNECT_ERROR: "the connection broke off"
        case LDAP_TIMEOUT: "no answer in time"
        case LDAP_TIMELIMIT_EXCEEDED:
            "the server's time limit ended the search; raise it for the account that Postern binds as"
        case LDAP_SIZELIMIT_EXCEEDED:
            "the server's size limit ended the search, so the list is not whole; raise it for the account that Postern binds as"
        case LDAP_ADMINLIMIT_EXCEEDED:
            "an administrative limit of the server ended the search; raise it for the account that Postern binds as"
        case LDAP_INVALID_CREDENTIALS: credentials(diagnostic)
        case LDAP_INAPPROPRIATE_AUTH: "the server doesn't let this account bind so"
        case LDAP_INVALID_DN_SYNTAX:
            operation == .bind ? "bind_dn is no name that the server takes" : "a base is no name"
        case LDAP_NO_SUCH_OBJECT: "the base doesn't exist there, or this account may not see it"
        case LDAP_INSUFFICIENT_ACCESS: "this account has no right to it"
        case LDAP_STRONG_AUTH_REQUIRED where diagnostic.contains("Sign or Seal"):
            "the server takes Kerberos only where that encrypts the connection: use ldap:// without starttls"
        case LDAP_STRONG_AUTH_REQUIRED, LDAP_CONFIDENTIALITY_REQUIRED:
            "the server wants an encrypted connection: use ldaps:// or starttls = true"
        case LDAP_AUTH_METHOD_NOT_SUPPORTED: "the server doesn't offer this kind of bind"
        case LDAP_UNAVAILABLE_CRITICAL_EXTENSION: "the server doesn't offer it there"
        case LDAP_BUSY, LDAP_UNAVAILABLE: "the server is busy or shutting down"
        case LDAP_UNWILLING_TO_PERFORM: "the server is unwilling"
        case LDAP_REFERRAL: "the server refers to another one, which is not followed (follow_referrals = false)"
        case LDAP_OPERATIONS_ERROR
        where diagnostic.contains("bind must be completed") || diagnostic.contains("without authentication"):
            "the server wants a bind before: set bind_dn and password_file, or sasl"
        case syncRefreshRequired: "the server can't go on from where the last sync ended"
        default: nil
        }
    }

    /// The reasons of Active Directory, as the number behind `data` in its diagnostic message.
    private static func credentials(_ diagnostic: String) -> String {
        let reasons: [(String, String)] = [
            ("525", "there is no such account"),
            // Lest names be guessed, some say the same of an account that isn't there.
            ("52e", "the password is wrong, or there is no such account"),
            ("530", "the account may not log on at this time"),
            ("531", "the account may not log on from here"), ("532", "the account's password has expired"),
            ("533", "the account is disabled"), ("701", "the account has expired"),
            ("773", "the account must change its password first"), ("775", "the account is locked"),
        ]
        for (number, reason) in reasons where diagnostic.contains("data \(number),") { return reason }
        return "bind_dn or the password is wrong"
    }
}

extension String {
    /// A diagnostic message on one line, fit for a log.
    fileprivate var trimmingDiagnostic: String {
        var text = utf8.prefix { $0 != 0 }.map { $0 < 0x20 || $0 == 0x7f ? 0x20 : $0 }
        while text.last == 0x20 { text.removeLast() }
        return String(decoding: text.prefix(300), as: UTF8.self)
    }
}
