import Foundation
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct IndexFileTests {
    @Test func `a file that is written in place or truncated while it is read is rejected`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file()
        let sound = try SnapshotBytes.hundred()
        func whileRead(_ disturb: () throws -> Void) throws -> IndexError.Kind? {
            try sound.write(to: path)
            // The file's times come from a coarse clock, which must tick before the change.
            usleep(20_000)
            do throws(IndexFault) {
                let file = try IndexFile(path: path)
                let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: sound.bytes.count, alignment: 64)
                defer { memory.deallocate() }
                // Called once the header and the checksums are read.
                _ = try file.readAll { count throws(IndexFault) in
                    try? disturb()
                    return UnsafeMutableRawBufferPointer(rebasing: memory[..<count])
                }
                return nil
            } catch {
                return error.kind
            }
        }
        #expect(try whileRead {} == nil)
        #expect(try whileRead { try FileManager.default.removeItem(atPath: path) } == nil)
        #expect(try whileRead { _ = truncate(path, 4096) } == .changing)
        #expect(try whileRead { _ = truncate(path, 0) } == .changing)
        let rewritten = try whileRead {
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
            try handle.write(contentsOf: sound.bytes)
            try handle.close()
        }
        #expect(rewritten == .changing)
        // The checksums are wrong, but the fault to report is the change.
        let overwritten = try whileRead {
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
            try handle.seek(toOffset: 5000)
            try handle.write(contentsOf: [1, 2, 3])
            try handle.close()
        }
        #expect(overwritten == .changing)
    }
}

@Suite struct SnapshotFuzzTests {
    private let keys = (0..<100).map { "user\($0)@example.com" } + ["@example.org", "nobody@example.com"]

    /// A changed snapshot is rejected. With corrected checksums, it is rejected or can be searched within its bounds.
    @Test func `any bytes are rejected, or give a snapshot that can be searched`() throws {
        let folder = try TemporaryFolder()
        let sample = try SnapshotBytes.hundred().bytes
        var opened = 0
        try Effort.forEachInput("snapshot", 1_000, samples: [sample]) { input in
            if input != sample { #expect(try SnapshotBytes(input).opened(in: folder).error != nil) }
            guard input.count >= 4096 else { return }
            var sealed = SnapshotBytes(input)
            sealed.seal()
            guard case .success(let snapshot) = try sealed.opened(in: folder) else { return }
            opened += 1
            for key in keys { _ = snapshot.lookup(key) }
        }
        #expect(opened > 20, "\(opened)")
    }
}
