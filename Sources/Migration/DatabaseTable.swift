import Foundation

/// A table that asks an SQL database for one address at a time (pgsql_table(5), mysql_table(5), sqlite_table(5)), from
/// which a source is made that reads all addresses.
struct DatabaseTable {
    /// The name in messages, such as `pgsql:/etc/postfix/recipients.cf`.
    var origin: String
    /// `pgsql`, `mysql` or `sqlite`.
    var type: String
    /// The settings of the table.
    var settings: [String: String]

    /// The query for one address, put together from the older settings where there is no `query`.
    var query: String {
        if let query = settings["query"], !query.isEmpty { return query }
        guard let table = settings["table"], let field = settings["where_field"] else { return "" }
        let selected = settings["select_field"] ?? field
        return "SELECT \(selected) FROM \(table) WHERE \(field)='%s' \(settings["additional_conditions"] ?? "")"
            .trimmingCharacters(in: .whitespaces)
    }

    /// The query for all addresses: the column that is compared with the address is selected, and the comparison is left
    /// out. Nil if the query has another form.
    var allAddresses: String? {
        let query = query
        let comparison = /([A-Za-z_][A-Za-z0-9_.]*|`[^`]+`|"[^"]+")\s*=\s*'(%s|%u@%d)'/
        let matches = query.matches(of: comparison)
        guard matches.count == 1, let match = matches.first,
            let from = query.firstRange(of: /\sfrom\s/.ignoresCase()), from.upperBound < match.range.lowerBound,
            query.firstMatch(of: /^\s*select\s/.ignoresCase()) != nil,
            query.replacing(comparison, with: "").contains("%") == false
        else { return nil }
        let rest = query[from.lowerBound..<match.range.lowerBound] + "TRUE" + query[match.range.upperBound...]
        return "SELECT \(match.output.1)\(rest)".split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    /// The database as a URI, without the password.
    var database: String {
        if type == "sqlite" { return "sqlite:\(settings["dbpath"] ?? "")" }
        let scheme = type == "pgsql" ? "postgresql" : "mysql"
        let user = settings["user"].map { "\($0)@" } ?? ""
        let hosts = (settings["hosts"] ?? "localhost").split { $0 == "," || $0.isWhitespace }.map(String.init)
        return "\(scheme)://\(user)\(hosts.joined(separator: ","))/\(settings["dbname"] ?? "")"
    }

    /// Adds the source to a configuration, as a comment while Postern doesn't know the type.
    func add(to configuration: inout MigratedConfiguration, name: String, isKnown: Bool) {
        var source = MigratedConfiguration.Source(
            name: name, type: "sql", comments: ["From \(origin).", "The query for one address is: \(query)"],
            isCommentedOut: !isKnown)
        source.keys.append(("database", .string(database)))
        if let password = settings["password"], !password.isEmpty {
            source.keys.append(
                ("password_file", .secret(configuration.addSecret(password, name: name, origin: origin))))
        }
        source.keys.append(("query", .string(allAddresses ?? query)))
        if !isKnown {
            configuration.ask(
                "\(origin): this Postern has no sources of type \"sql\": the source \"\(source.name)\" is a comment in the file. Let a "
                    + "program write its recipients (type = \"command\"), such as psql or mysql with the query there.")
        } else if allAddresses == nil {
            source.isCommentedOut = true
            configuration.ask(
                "\(origin): its query can't be turned into one for all addresses. The source \"\(source.name)\" is a comment in the "
                    + "file: write its query by hand and remove the comment signs.")
        } else {
            configuration.ask(
                "\(origin): check the query of the source \"\(source.name)\", which was derived from: \(query)")
        }
        configuration.add(source)
    }
}
