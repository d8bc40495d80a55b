/// A test's settings of its slapd.
struct SlapdOptions {
    /// RFC 4533 content synchronization.
    enum ContentSync {
        case off
        /// With the overlay syncprov.
        ///
        /// - sessionLog: how many deletions the server remembers; with nil, none, so that a refresh names all remaining
        ///   entries.
        /// - reloadHint: whether the server instead reports that a cookie is too old, if the client asks for that.
        case on(sessionLog: Int? = nil, reloadHint: Bool = false)
    }

    /// The DN of the test's process over ldapi with SASL EXTERNAL.
    enum ExternalIdentity {
        case nobody, service, administrator
    }

    var contentSync = ContentSync.off
    /// Whether the overlay's module is loaded, even if it isn't used: then the server lists the control as supported.
    var loadsContentSync = true
    /// The certificate for ldaps:// and StartTLS; without it, the server offers neither.
    var certificate: TestAuthority.Certificate?
    var external = ExternalIdentity.service
    /// How many entries a search of the service account may return, also in pages; nil for all.
    var sizeLimit: Int?
    /// How many people the directory begins with, `SlapdInstance.person(0)` and on.
    var people = 0
    /// Further entries at the beginning, below the suffix.
    var ldif = ""
    /// Access rules before the usual one, by which only the service account may read.
    var access: [String] = []
    /// Further environment variables of the server, such as the path of its keytab.
    var environment: [String: String] = [:]
    /// Lines of slapd.conf, before the database's and at the end of it.
    var globalLines: [String] = []
    var databaseLines: [String] = []

    /// Attributes for mail that Debian's schemas don't have, and some for flags and domains; below OpenLDAP's arc for
    /// experiments.
    static let schema = """
        attributetype ( 1.3.6.1.4.1.4203.666.1.8025.1 NAME 'mailAlternateAddress'
          EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
        attributetype ( 1.3.6.1.4.1.4203.666.1.8025.2 NAME 'mailAcceptingGeneralId'
          EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
        attributetype ( 1.3.6.1.4.1.4203.666.1.8025.3 NAME 'posternInternalOnly'
          EQUALITY booleanMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.7 SINGLE-VALUE )
        attributetype ( 1.3.6.1.4.1.4203.666.1.8025.4 NAME 'posternDisabled'
          EQUALITY booleanMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.7 SINGLE-VALUE )
        attributetype ( 1.3.6.1.4.1.4203.666.1.8025.5 NAME 'posternRelayDomain'
          EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
        objectclass ( 1.3.6.1.4.1.4203.666.3.8025.1 NAME 'posternRecipient' SUP top AUXILIARY
          MAY ( mail $ mailAlternateAddress $ mailAcceptingGeneralId $ posternInternalOnly $ posternDisabled
            $ posternRelayDomain ) )
        """

    /// The parts of slapd.conf that follow from the choices, before the database and in it.
    func global(uid: UInt32, gid: UInt32) -> [String] {
        var lines = globalLines
        if let certificate {
            lines += [
                "TLSCACertificateFile \(certificate.authorityFile)",
                "TLSCertificateFile \(certificate.certificateFile)",
                "TLSCertificateKeyFile \(certificate.keyFile)",
            ]
        }
        let identity: String? =
            switch external {
            case .nobody: nil
            case .service: SlapdInstance.bindDN
            case .administrator: SlapdInstance.administratorDN
            }
        if let identity {
            let peer = #"gidNumber=\#(gid)[+]uidNumber=\#(uid),cn=peercred,cn=external,cn=auth"#
            lines.append(#"authz-regexp "\#(peer)" "\#(identity)""#)
        }
        return lines
    }

    var database: [String] {
        var lines = databaseLines
        // The server's own default would be 500, for any but the administrator.
        let limit = sizeLimit.map { "\($0)" } ?? "unlimited"
        lines.append(#"limits dn.exact="\#(SlapdInstance.bindDN)" size=\#(limit)"#)
        if case .on(let sessionLog, let reloadHint) = contentSync {
            lines.append("overlay syncprov")
            if let sessionLog { lines.append("syncprov-sessionlog \(sessionLog)") }
            if reloadHint { lines.append("syncprov-reloadhint TRUE") }
        }
        return lines
    }
}
