/// A source of type `command`.
public struct CommandConfiguration: Sendable, Codable, Equatable {
    /// The program, by its whole path, and its arguments; no shell is between.
    public var command: [String]
    /// What it writes to its standard output.
    public var format: TableFormat
    /// How many seconds it may run.
    public var timeout: Int
    /// How many octets it may write.
    public var maximumSize: Int

    /// A program with its limits.
    public init(command: [String], format: TableFormat = .list, timeout: Int = 60, maximumSize: Int = 256 << 20) {
        self.command = command
        self.format = format
        self.timeout = timeout
        self.maximumSize = maximumSize
    }
}
