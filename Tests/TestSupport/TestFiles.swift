import Foundation

/// A temporary folder for one test, removed when the object is freed. The path is short enough for a unix socket in it.
public final class TemporaryFolder: Sendable {
    /// The path of the folder.
    public let path: String

    /// Creates the folder.
    ///
    /// - Parameter isInMemory: whether to create it in `/dev/shm` if possible, for tests that write much.
    public init(isInMemory: Bool = false) throws {
        let place = isInMemory && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        path = "\(place)/postern-test-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The path of a file in the folder.
    public func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file, replacing an old one by renaming; returns its path.
    @discardableResult
    public func write(_ text: String, as name: String) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: file(name)), options: .atomic)
        return file(name)
    }
}

/// The whole text of a file below /proc. Foundation may stop before the end of a file without a size.
package func procFile(_ path: String) throws -> String {
    guard let file = fopen(path, "re") else { throw TestFailure("\(path): \(String(cString: strerror(errno)))") }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return String(decoding: bytes, as: UTF8.self)
}

/// The lines of a `*.cases` file beside the tests, without blank lines and comments (`#`).
///
/// - Parameter file: the source file that the cases lie beside.
package func caseLines(
    _ name: String, beside file: String = #filePath
) throws -> [(number: Int, text: String)] {
    let path = URL(fileURLWithPath: file).deletingLastPathComponent().appendingPathComponent(name)
    let text = try String(contentsOf: path, encoding: .utf8)
    return text.components(separatedBy: "\n").enumerated().compactMap { offset, line in
        line.isEmpty || line.hasPrefix("#") ? nil : (offset + 1, line)
    }
}

/// The fields of each line of a `*.cases` file beside the tests: the texts between `|`, without the blanks around them.
package func caseFields(_ name: String, beside file: String = #filePath) throws -> [[String]] {
    try caseLines(name, beside: file).map { _, line in
        line.components(separatedBy: "|").map { $0.trimmingCharacters(in: .whitespaces) }
    }
}
