package import Foundation

/// The settings of one source: a `[[source]]` of the configuration file.
public struct SourceConfiguration: Sendable, Codable, Equatable {
    /// The kinds of sources with their settings. A new kind of source is a case here and a line in each switch below.
    public enum Kind: Sendable, Codable, Equatable {
        /// A table in source text, read whole whenever it has changed.
        case file(format: TableFormat, path: String)
        /// The standard output of a program, read at every interval.
        case command(CommandConfiguration)
        /// A directory server.
        case directory(DirectoryConfiguration)
    }

    /// The name, unique among the sources; the state finds a source by it.
    public var name: String
    /// The kind of the source with its settings.
    public var kind: Kind
    /// The A-labels of the domains whose recipients it may list; nil for all relay domains.
    public var domains: Set<String>?

    /// A source of this name and kind that may list recipients of these domains.
    public init(name: String, kind: Kind, domains: Set<String>? = nil) {
        self.name = name
        self.kind = kind
        self.domains = domains
    }

    /// The `type` key of the configuration file.
    public var type: String {
        switch kind {
        case .file: "file"
        case .command: "command"
        case .directory(let directory): directory.dialect.rawValue
        }
    }

    /// A source that can be read.
    ///
    /// - Parameter folder: where temporary files with addresses may be written.
    package func source(folder: String) -> any RecipientSource {
        switch kind {
        case .file(let format, let path): FileSource(self, format: format, path: path)
        case .command(let command): CommandSource(configuration: self, command: command, folder: folder)
        case .directory(let directory): DirectorySource(self, directory)
        }
    }

    /// Where the source lists a key, such as `line 17 of /etc/postfix/virtual`; nil if that isn't known. A table is
    /// read again for it.
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

    /// An entry's identifier as a directory's tools write it: `entryUUID 6f1c…`, `objectGUID 6f1c…`; nil for an object
    /// without one.
    private static func name(of object: Data, _ dialect: DirectoryConfiguration.Dialect) -> String? {
        let bytes = Array(object.dropFirst())
        guard bytes.count == 16 else { return nil }
        // The first three parts of a GUID are little-endian (MS-DTYP section 2.3.4.2).
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
