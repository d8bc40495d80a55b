import Foundation
import TestSupport
import Testing

@testable import RecipientIndex

/// The lines of a `.cases` file beside the tests, split into fields.
struct CaseFile {
    let lines: [(number: Int, fields: [String])]

    /// - Parameter fields: the number of fields in a line; the last field is the rest of the line.
    init(_ name: String, fields: Int, file: String = #filePath) throws {
        lines = try caseLines("\(name).cases", beside: file).map { number, line in
            (number, line.split(separator: " ", maxSplits: fields - 1).map(String.init))
        }
        try #require(!lines.isEmpty && lines.allSatisfy { $0.fields.count == fields }, "malformed \(name).cases")
    }
}

/// The bytes of a snapshot file, for tests that change them.
struct SnapshotBytes {
    var bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    init(path: String) throws { bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }

    /// A snapshot of these keys.
    init(
        _ keys: [(String, RecipientFlags)], salt: SipHash = SipHash(k0: 1, k1: 2), generation: UInt64 = 0,
        sources: [IndexSource] = [IndexSource(name: "s", type: "file", recipients: 1, asOf: Date())]
    ) throws {
        let folder = try TemporaryFolder()
        var builder = IndexBuilder(salt: salt)
        for (key, flags) in keys { builder.add(key, flags) }
        try builder.publish(to: folder.file(), generation: generation, sources: sources)
        try self.init(path: folder.file())
    }

    /// 100 recipients and one catch-all domain.
    static func hundred() throws -> SnapshotBytes {
        try SnapshotBytes((0..<100).map { ("user\($0)@example.com", []) } + [("@example.org", .catchAll)])
    }

    /// Writes the bytes over a file in place.
    func write(to path: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }

    func number(_ offset: Int) -> UInt64 { bytes.withUnsafeBytes { $0.load(UInt64.self, offset) } }

    mutating func set<Number: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ value: Number) {
        bytes.withUnsafeMutableBytes { $0.store(value, offset) }
    }

    /// Corrects all checksums, as far as the offsets in the header are possible.
    mutating func seal() {
        let header = 4096
        let checksums = Int(clamping: number(112))
        if checksums >= header, checksums < bytes.count {
            for (block, start) in stride(from: header, to: checksums, by: 65536).enumerated()
            where checksums + block * 8 + 8 <= bytes.count {
                set(checksums + block * 8, hash(start..<min(start + 65536, checksums)))
            }
            set(136, hash(checksums..<bytes.count))
        }
        sealHeader()
    }

    /// Corrects the header's own checksum.
    mutating func sealHeader() { set(4088, hash(0..<4088)) }

    private func hash(_ range: Range<Int>) -> UInt64 {
        bytes.withUnsafeBytes { XXHash64.hash(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    /// The bytes with a changed bit in the third block of the table.
    func damaged() -> SnapshotBytes {
        var other = self
        other.bytes[4096 + 2 * 65536 + 100] ^= 1
        return other
    }

    /// The result of loading a file of these bytes.
    func opened(in folder: TemporaryFolder) throws -> Result<IndexSnapshot, IndexError> {
        let path = folder.file()
        try write(to: path)
        return Result { () throws(IndexError) in try IndexSnapshot(path: path) }
    }
}

extension Result where Failure == IndexError {
    var error: IndexError? { if case .failure(let error) = self { error } else { nil } }
}

/// Waits until a condition holds; false if it doesn't within a minute.
func eventually(_ condition: () -> Bool) -> Bool {
    for _ in 0..<6000 {
        if condition() { return true }
        usleep(10_000)
    }
    return condition()
}

extension TemporaryFolder {
    /// The path of the snapshot in most tests.
    func file() -> String { file("recipients.index") }

    var names: [String] { get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() } }
}
