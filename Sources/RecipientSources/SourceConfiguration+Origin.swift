package import Foundation

extension SourceConfiguration {
    /// Where the source lists a key, such as `line 17 of /etc/postfix/virtual`; nil where that can't be told. A table is read again for it.
    ///
    /// - Parameter object: the directory's object that lists the key; empty for a table.
    package func origin(of key: String, object: Data) -> String? {
        switch kind {
        case .file(let format, let path):
            guard let file = try? TableFile(path, source: name) else { return path }
            var found: Int?
            let wanted = Array(key.utf8)
            var parser = TableParser(format)
            try? parser.parse(LineReader(file.descriptor, name: path)) { listing in
                let key = listing.key
                if found == nil, wanted.withUnsafeBufferPointer({ $0.count == key.count && $0.compare(key) == 0 }) {
                    found = listing.line
                }
            }
            return found.map { "line \($0) of \(path)" } ?? "\(path), which has changed since"
        case .command(let command): return "the output of \(command.command[0])"
        case .directory(let directory): return Self.name(of: object, directory.dialect)
        }
    }

    /// How a directory's tools name an entry: `entryUUID 6f1c…`, `objectGUID 6f1c…`; nil where its octets aren't known.
    private static func name(of object: Data, _ dialect: DirectoryConfiguration.Dialect) -> String? {
        let bytes = Array(object.dropFirst())
        guard bytes.count == 16 else { return nil }
        // The first three parts of a GUID stand in memory in the byte order of the machines that it was made for.
        let isGUID = dialect == .activeDirectory
        let order = isGUID ? [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] : Array(0..<16)
        var text = ""
        for (position, index) in order.enumerated() {
            if [4, 6, 8, 10].contains(position) { text += "-" }
            text += (bytes[index] < 16 ? "0" : "") + String(bytes[index], radix: 16)
        }
        return (isGUID ? "objectGUID " : "entryUUID ") + text
    }
}
