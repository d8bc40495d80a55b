import Foundation
import System
import TestSupport
import Testing

@Suite struct FileProbeTests {
    @Test func `reports no failure for readable and missing files`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("sound")
        try Data(count: 1_000_000).write(to: URL(fileURLWithPath: path))
        #expect(FileProbe.failure(reading: [path, folder.file("missing")]) == nil)
        #expect(FileProbe.failure(reading: []) == nil)
    }

    /// The first page of a process's memory is no one's: reading it is an I/O error, as of a broken disk.
    @Test func `reports an I/O error`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("sound")
        try Data("x".utf8).write(to: URL(fileURLWithPath: path))
        #expect(FileProbe.failure(reading: [path, "/proc/self/mem"]) == EIO)
        #expect(FileProbe.failure(reading: [folder.path]) == EISDIR)
    }
}
