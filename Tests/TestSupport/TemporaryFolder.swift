import Foundation

/// A folder of the test's own, removed with its last reference; its path is short enough for a unix socket in it.
public final class TemporaryFolder: Sendable {
    /// The folder.
    public let path: String

    /// Makes the folder.
    ///
    /// - Parameter isInMemory: whether its files lie in memory where the system has a place for that, for tests that write much.
    public init(isInMemory: Bool = false) throws {
        let place = isInMemory && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        path = "\(place)/postern-test-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The path of a file in it.
    public func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Puts a file in the place of another, as careful programs do, and gives its path.
    @discardableResult
    public func write(_ text: String, as name: String) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: file(name)), options: .atomic)
        return file(name)
    }
}
