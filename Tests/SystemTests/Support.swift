import Foundation
import Testing

/// The lines of a table beside this file: fields separated by ` | `, `#` begins a comment line.
func cases(_ name: String) throws -> [[String]] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
    return text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
        line.components(separatedBy: " | ").map { $0.trimmingCharacters(in: .whitespaces) }
    }
}
