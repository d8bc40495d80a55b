/// One `[[source]]`.
public struct SourceConfiguration: Sendable, Codable, Equatable {
    /// Where recipients come from.
    public enum Kind: Sendable, Codable, Equatable {
        /// A table in source text, read whole whenever it has changed.
        case file(format: TableFormat, path: String)
        /// The standard output of a program, read at every interval.
        case command(CommandConfiguration)
        /// A directory server.
        case directory(DirectoryConfiguration)
    }

    /// Unique among the sources; the state knows a source by it.
    public var name: String
    /// Where its recipients come from.
    public var kind: Kind
    /// The A-labels that it may feed; nil for all relay domains.
    public var domains: Set<String>?

    /// A source of this name and kind that may feed these domains.
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
}

/// The syntax of a table in source text.
public enum TableFormat: String, Sendable, Codable, CaseIterable {
    /// What postmap(1) reads: `user@domain value`, `@domain value`, continuation lines, quoted keys.
    case postfix
    /// What makemap(8) reads for access and virtusertable.
    case sendmail
    /// One address a line.
    case list
}
