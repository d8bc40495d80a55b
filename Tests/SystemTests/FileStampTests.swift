import Foundation
import System
import TestSupport
import Testing

@Suite struct FileProbeTests {
    @Test func `readable and missing files are no failure`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("sound")
        try Data(count: 1_000_000).write(to: URL(fileURLWithPath: path))
        #expect(FileProbe.failure(reading: [path, folder.file("missing")]) == nil)
        #expect(FileProbe.failure(reading: []) == nil)
    }

    /// The first page of a process's memory isn't mapped: reading it is an I/O error, like that of a broken disk.
    @Test func `an I/O error is reported`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("sound")
        try Data("x".utf8).write(to: URL(fileURLWithPath: path))
        #expect(FileProbe.failure(reading: [path, "/proc/self/mem"]) == EIO)
        #expect(FileProbe.failure(reading: [folder.path]) == EISDIR)
    }
}
