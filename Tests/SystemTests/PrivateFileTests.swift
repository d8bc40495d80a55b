import Foundation
import System
import TestSupport
import Testing

@Suite struct PrivateFileTests {
    @Test func `a new file is accessible to its owner only`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("state")
        let descriptor = try PrivateFile.open(path, O_RDWR | O_CREAT)
        close(descriptor)
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    @Test func `a symbolic link is not followed`() throws {
        let folder = try TemporaryFolder()
        let target = folder.file("target")
        try Data("kept".utf8).write(to: URL(fileURLWithPath: target))
        let link = folder.file("link")
        #expect(symlink(target, link) == 0)
        let dangling = folder.file("dangling")
        #expect(symlink(folder.file("nowhere"), dangling) == 0)
        for path in [link, dangling] {
            for flags in [O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_TRUNC] {
                let failure = #expect(throws: PrivateFile.Failure.self) { try PrivateFile.open(path, flags) }
                #expect(failure?.code == ELOOP)
                #expect(failure?.description.hasPrefix(path) == true)
            }
        }
        #expect(try String(contentsOfFile: target, encoding: .utf8) == "kept")
        #expect(access(folder.file("nowhere"), F_OK) != 0)
    }

    @Test func `a FIFO or a folder is rejected without waiting`() throws {
        let folder = try TemporaryFolder()
        let pipe = folder.file("pipe")
        #expect(mkfifo(pipe, 0o600) == 0)
        #expect(throws: PrivateFile.Failure.self) { try PrivateFile.open(pipe, O_RDONLY) }
        #expect(throws: PrivateFile.Failure.self) { try PrivateFile.open(folder.path, O_RDONLY) }
        let missing = #expect(throws: PrivateFile.Failure.self) { try PrivateFile.open(folder.file("no"), O_RDONLY) }
        #expect(missing?.code == ENOENT)
    }

    @Test(.enabled(if: geteuid() == 0)) func `a file that root creates belongs to the folder's owner`() throws {
        let folder = try TemporaryFolder()
        #expect(chown(folder.path, 12345, 12346) == 0)
        let path = folder.file("state")
        close(try PrivateFile.open(path, O_RDWR | O_CREAT))
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_uid == 12345)
        #expect(status.st_gid == 12346)
    }
}
