import Foundation

extension SambaInstance: WritableDirectory {
    /// The kinds of objects that can have addresses.
    enum Kind: String {
        case user, group, contact
        case dynamicGroup = "msExchDynamicDistributionList"
        case publicFolder
    }

    /// Rights that the service account doesn't have from the beginning.
    enum Right {
        /// To replicate changes (DS-Replication-Get-Changes), which DirSync without the object-security flag needs.
        case replication
        /// To see deleted objects, which even DirSync doesn't report without it.
        case deletedObjects
    }

    /// The service account as a client, over ldaps.
    func client(over uri: String? = nil) -> DirectoryClient {
        DirectoryClient(
            workspace: workspace, uri: uri ?? ldapsURI,
            credentials: .simple(dn: Self.bindDN, password: Self.password), authorityFile: authorityFile)
    }

    var administrator: DirectoryClient {
        var client = client()
        client.credentials = .simple(dn: Self.administratorName, password: Self.administratorPassword)
        return client
    }

    /// Adds a recipient and returns its DN.
    ///
    /// - Parameters:
    ///   - proxyAddresses: with their prefixes.
    ///   - attributes: further ones.
    @discardableResult func add(
        _ kind: Kind = .user, _ name: String, _ proxyAddresses: [String], below parent: String = people,
        _ attributes: [(String, String)] = []
    ) throws -> String {
        let dn = "CN=\(name),\(parent)"
        var all = [("objectClass", kind.rawValue)] + proxyAddresses.map { ("proxyAddresses", $0) }
        switch kind {
        case .user: all += [("sAMAccountName", name), ("userAccountControl", "544")]
        case .group: all.append(("sAMAccountName", name))
        case .contact, .dynamicGroup, .publicFolder: break
        }
        try add(dn, all + attributes)
        return dn
    }

    /// Adds an organisational unit and returns its DN.
    @discardableResult func addUnit(_ name: String, below parent: String = base) throws -> String {
        try add("OU=\(name),\(parent)", [("objectClass", "organizationalUnit")])
        return "OU=\(name),\(parent)"
    }

    /// Adds one of Exchange's accepted domains: flags 0 is authoritative, 1 external relay, 2 internal relay.
    func addAcceptedDomain(_ name: String, flags: Int = 0) throws {
        try add(
            "CN=\(name),\(Self.acceptedDomains)",
            [
                ("objectClass", "msExchAcceptedDomain"), ("msExchAcceptedDomainName", name),
                ("msExchAcceptedDomainFlags", "\(flags)"),
            ])
    }

    /// Disables or enables a user's account.
    func setDisabled(_ isDisabled: Bool, _ dn: String) throws {
        try replace("userAccountControl", of: dn, with: [isDisabled ? "546" : "544"])
    }

    /// Restores a deleted object to its old DN: with its GUID, but without what a tombstone doesn't keep, such as its
    /// addresses.
    func restore(_ dn: String) throws {
        let name = String(dn.prefix { $0 != "," })
        let deleted = try administrator.search(
            "(isDeleted=TRUE)", base: Self.base, attributes: ["1.1"], extensions: ["!showDeleted"])
        // The tombstone's name is the old one, a line feed, DEL and the GUID.
        guard let tombstone = deleted.entries.last(where: { $0.dn.hasPrefix("\(name)\\0ADEL:") }) else {
            throw ChildProcess.Failure(description: "no tombstone of \(dn)")
        }
        try administrator.modify(
            """
            \(LDIFEntry.line("dn", tombstone.dn))
            changetype: modify
            delete: isDeleted
            -
            replace: distinguishedName
            \(LDIFEntry.line("distinguishedName", dn))

            """, controls: ["!1.2.840.113556.1.4.417"])
    }

    /// Gives the service account a right.
    func grant(_ right: Right) throws {
        switch right {
        case .replication:
            let ace = "(OA;;CR;1131f6aa-9c07-11d1-f79f-00c04fc2dcd2;;SID)"
            try control(["grant", "CONF", Self.base, Self.account, ace])
        case .deletedObjects:
            try control(["grant", "CONF", "CN=Deleted Objects,\(Self.base)", Self.account, "(A;;LCRP;;;SID)"])
        }
    }

    /// Takes a right away again.
    func revoke(_ right: Right) throws {
        let dn =
            switch right {
            case .replication: Self.base
            case .deletedObjects: "CN=Deleted Objects,\(Self.base)"
            }
        try control(["revoke", "CONF", dn, Self.account])
    }
}
