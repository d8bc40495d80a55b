/// A directory that a test changes as its administrator.
protocol WritableDirectory {
    var administrator: DirectoryClient { get }
}

extension WritableDirectory {
    /// Adds entries, given as LDIF.
    func add(_ ldif: String) throws { try administrator.modify(ldif) }

    /// Adds an entry with these attributes, in this order.
    func add(_ dn: String, _ attributes: [(String, String)]) throws {
        let lines = [LDIFEntry.line("dn", dn)] + attributes.map { LDIFEntry.line($0, $1) }
        try add(lines.joined(separator: "\n") + "\n")
    }

    /// Changes one entry; `changes` are the lines below `changetype: modify`.
    func modify(_ dn: String, _ changes: String) throws {
        try administrator.modify("\(LDIFEntry.line("dn", dn))\nchangetype: modify\n\(changes)\n")
    }

    /// Replaces all values of an attribute; without values, removes it.
    func replace(_ attribute: String, of dn: String, with values: [String]) throws {
        let lines = ["replace: \(attribute)"] + values.map { LDIFEntry.line(attribute, $0) }
        try modify(dn, lines.joined(separator: "\n"))
    }

    /// Deletes an entry without entries below it.
    func delete(_ dn: String) throws {
        try administrator.modify("\(LDIFEntry.line("dn", dn))\nchangetype: delete\n")
    }

    /// Renames an entry with all entries below it, to a name such as `cn=Anne`, and moves it if a new parent is given.
    func rename(_ dn: String, to name: String, below parent: String? = nil) throws {
        let lines = [
            LDIFEntry.line("dn", dn), "changetype: modrdn", LDIFEntry.line("newrdn", name), "deleteoldrdn: 1",
        ]
        let place = parent.map { [LDIFEntry.line("newsuperior", $0)] } ?? []
        try administrator.modify((lines + place).joined(separator: "\n") + "\n")
    }

    /// Moves an entry, under its name, below another one.
    func move(_ dn: String, below parent: String) throws {
        try rename(dn, to: String(dn.prefix { $0 != "," }), below: parent)
    }
}
