import GRDB

/// Hides local parts.
enum Redaction {
    /// `*@example.com` for any address of the domain; `*` without one; empty stays empty.
    static func redacted(_ address: String) -> String {
        if address.isEmpty || address == "<>" { return address }
        guard let at = address.lastIndex(of: "@") else { return "*" }
        return "*" + address[at...].filter { $0 != ">" }
    }

    /// The same as an SQL function, so that groups are made of what is shown.
    static var function: DatabaseFunction {
        DatabaseFunction("redacted", argumentCount: 1, pure: true) { values in
            String.fromDatabaseValue(values[0]).map(redacted)
        }
    }
}
