import Foundation
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct IndexFileTests {
    @Test func `notices that it is written in place or cut off while it is read`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file()
        let sound = try SnapshotBytes.hundred()
        func whileRead(_ disturb: () throws -> Void) throws -> IndexError.Kind? {
            try sound.write(to: path)
            // A coarse clock must have gone on before the disturbance.
            usleep(20_000)
            do throws(IndexFault) {
                let file = try IndexFile(path: path)
                let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: sound.bytes.count, alignment: 64)
                defer { memory.deallocate() }
                // It asks for memory when the header and the checksums have been read.
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
        // Its checksums are wrong then, which is no fault of the file.
        let overwritten = try whileRead {
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
            try handle.seek(toOffset: 5000)
            try handle.write(contentsOf: [1, 2, 3])
            try handle.close()
        }
        #expect(overwritten == .changing)
    }
}
