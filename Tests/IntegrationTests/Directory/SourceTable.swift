/// A `[[source]]` of a test's configuration.
struct SourceTable {
    let name: String
    let type: String
    /// TOML values by key.
    private var values: [String: String] = [:]

    init(_ name: String, type: String, _ values: [String: String] = [:]) {
        self.name = name
        self.type = type
        self.values = values
    }

    /// A TOML value; nil leaves the key out.
    subscript(key: String) -> String? {
        get { values[key] }
        set { values[key] = newValue }
    }

    /// As it stands in the configuration file.
    var text: String {
        let lines = values.sorted { $0.key < $1.key }.map { "\($0.key) = \($0.value)\n" }
        return "[[source]]\nname = \"\(name)\"\ntype = \"\(type)\"\n" + lines.joined() + "\n"
    }

    /// The same source with some keys set or, with nil, left out.
    func with(_ changes: [String: String?]) -> SourceTable {
        var changed = self
        for (key, value) in changes { changed[key] = value }
        return changed
    }
}

extension SourceTable {
    /// A private slapd as its service account sees it.
    ///
    /// - Parameters:
    ///   - uris: how it is reached; in clear where nothing else is said.
    ///   - secret: the file with the password, in the test's folder; ``DirectoryGateway`` makes the usual one.
    static func slapd(
        _ slapd: SlapdInstance, name: String = "directory", type: String = "openldap", uris: [String]? = nil,
        secret: String = DirectoryGateway.secret, _ changes: [String: String?] = [:]
    ) -> SourceTable {
        var table = SourceTable(
            name, type: type,
            [
                "uris": "[\((uris ?? [slapd.uri]).map { "\"\($0)\"" }.joined(separator: ", "))]",
                "bases": "[\"\(SlapdInstance.base)\"]", "bind_dn": "\"\(SlapdInstance.bindDN)\"",
                "password_file": "\"\(secret)\"", "allow_plaintext": "true", "timeout": "\"10s\"",
            ])
        if let file = slapd.authorityFile { table["ca_file"] = "\"\(file)\"" }
        return table.with(changes)
    }

    /// A list of addresses in a file of the test's folder.
    static func file(_ name: String, path: String) -> SourceTable {
        SourceTable(name, type: "file", ["format": "\"list\"", "path": "\"\(path)\""])
    }
}
