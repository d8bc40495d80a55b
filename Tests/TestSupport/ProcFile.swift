import Foundation

/// The text of a file below /proc, read to its end: what Foundation reads of a file that has no size may stop earlier.
package func procFile(_ path: String) throws -> String {
    guard let file = fopen(path, "re") else { throw TestFailure("\(path): \(String(cString: strerror(errno)))") }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return String(decoding: bytes, as: UTF8.self)
}
