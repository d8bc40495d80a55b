extension SlapdInstance {
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

    /// Adds entries, given as LDIF.
    func add(_ ldif: String) throws { try administrator.modify(ldif) }

    /// Adds a person with these addresses in `mail`; its DN is `uid=NAME,ou=people,…`.
    func addPerson(_ name: String, mail: [String]) throws {
        try add(
            """
            dn: uid=\(name),\(Self.people)
            objectClass: inetOrgPerson
            objectClass: inetLocalMailRecipient
            objectClass: posternRecipient
            uid: \(name)
            cn: \(name)
            sn: \(name)
            \(mail.map { "mail: \($0)" }.joined(separator: "\n"))

            """)
    }

    /// Changes one entry; `changes` are the lines below `changetype: modify`.
    func modify(_ dn: String, _ changes: String) throws {
        try administrator.modify("dn: \(dn)\nchangetype: modify\n\(changes)\n")
    }

    /// Puts values in the place of all others of an attribute; none: removes it.
    func replace(_ attribute: String, of dn: String, with values: [String]) throws {
        try modify(dn, (["replace: \(attribute)"] + values.map { "\(attribute): \($0)" }).joined(separator: "\n"))
    }

    /// Deletes an entry that has none below it.
    func delete(_ dn: String) throws { try administrator.modify("dn: \(dn)\nchangetype: delete\n") }

    /// Gives an entry, with all that is below it, another name, and another place where one is given.
    func rename(_ dn: String, to name: String, below parent: String? = nil) throws {
        let place = parent.map { "newsuperior: \($0)\n" } ?? ""
        try administrator.modify("dn: \(dn)\nchangetype: modrdn\nnewrdn: \(name)\ndeleteoldrdn: 1\n\(place)")
    }

    /// Moves an entry, under its name, below another one.
    func move(_ dn: String, below parent: String) throws {
        try rename(dn, to: String(dn.prefix { $0 != "," }), below: parent)
    }
}
