import GRDB

/// Hides local parts.
enum Redaction {
    /// `*@example.com` for any address of the domain; `*` without one; empty stays empty.
    static func redacted(_ address: String) -> String {
        if address.isEmpty || address == "<>" { return address }
        guard let at = address.lastIndex(of: "@") else { return "*" }
        return "*" + address[at...].filter { $0 != ">" }
    }

    /// A text with the local part of every address in it hidden; `address` is one that it may hold in a form of its own, such
    /// as with a quoted local part.
    static func redacted(text: String, holding address: String) -> String {
        let known = address.isEmpty ? text : text.replacing(address, with: redacted(address))
        guard known.contains("@") else { return known }
        var result: [Character] = []
        for character in known {
            if character == "@" {
                while let last = result.last, !last.isWhitespace, !"<>()[],;:\"@".contains(last) { result.removeLast() }
                result.append("*")
            }
            result.append(character)
        }
        return String(result)
    }

    /// The same as an SQL function, so that groups are made of what is shown.
    static var function: DatabaseFunction {
        DatabaseFunction("redacted", argumentCount: 1, pure: true) { values in
            String.fromDatabaseValue(values[0]).map(redacted)
        }
    }
}
