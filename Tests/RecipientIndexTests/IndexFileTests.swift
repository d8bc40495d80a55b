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
                let header = try file.header()
                try? disturb()
                let ledger = try BlockLedger(file, header)
                try ledger.checkAll()
                try ledger.checkUnchanged()
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
    }
}
