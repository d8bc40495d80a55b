extension SlapdInstance: WritableDirectory {
    /// The address of a person that the directory began with.
    static func address(_ number: Int) -> String { "person\(number)@example.com" }

    /// The DN of a person that the directory began with.
    static func person(_ number: Int) -> String { "uid=person\(number),\(people)" }

    /// The service account as a client.
    func client(over uri: String? = nil) -> DirectoryClient {
        DirectoryClient(
            workspace: workspace, uri: uri ?? self.uri,
            credentials: .simple(dn: Self.bindDN, password: Self.password), authorityFile: authorityFile)
    }

    /// The administrator, for whom no limit and no access rule holds, over the unix socket.
    var administrator: DirectoryClient {
        DirectoryClient(
            workspace: workspace, uri: ldapiURI,
            credentials: .simple(dn: Self.administratorDN, password: Self.administratorPassword))
    }

    /// Adds a person with these addresses in `mail`; its DN is `uid=NAME,ou=people,…`.
    ///
    /// - Parameter lines: further lines of LDIF.
    func addPerson(_ name: String, below parent: String = people, mail: [String], _ lines: String...) throws {
        try add(Self.person(name, below: parent, mail: mail, lines))
    }

    /// A person in LDIF.
    static func person(
        _ name: String, below parent: String = people, mail: [String], _ lines: [String] = []
    ) -> String {
        """
        dn: uid=\(name),\(parent)
        objectClass: inetOrgPerson
        objectClass: inetLocalMailRecipient
        objectClass: posternRecipient
        uid: \(name)
        cn: \(name)
        sn: \(name)
        \((mail.map { "mail: \($0)" } + lines).joined(separator: "\n"))


        """
    }

    /// A folder for people in LDIF; its DN is `ou=NAME,…`.
    static func folder(_ name: String, below parent: String = base) -> String {
        "dn: ou=\(name),\(parent)\nobjectClass: organizationalUnit\nou: \(name)\n\n"
    }
}
