import Foundation
import System
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct IndexPublicationTests {
    private func builder(_ count: Int = 10) -> IndexBuilder {
        var builder = IndexBuilder()
        for number in 0..<count { builder.add("\(number)@example.com") }
        return builder
    }

    @Test func `publishing leaves one file, which its group can read`() throws {
        let folder = try TemporaryFolder()
        var builder = builder()
        try builder.publish(to: folder.file(), sources: [])
        try builder.publish(to: folder.file(), sources: [])
        #expect(try folder.names == ["recipients.index"])
        let mode = try FileManager.default.attributesOfItem(atPath: folder.file())[.posixPermissions] as? Int
        #expect(mode == 0o640)
    }

    @Test func `a name without a folder is published in the current folder`() throws {
        let name = "postern-index-\(UUID().uuidString)"
        defer { unlink(name) }
        var builder = builder()
        try builder.publish(to: name, sources: [])
        #expect(try IndexSnapshot(path: name).info.recipients == 10)
    }

    @Test func `publishing removes the temporary files of killed writers, and no others`() throws {
        let folder = try TemporaryFolder()
        let leftover = ".recipients.index.aB3xY9"
        let others = [
            ".recipients.index", ".recipients.index.aB3xY", ".recipients.index.aB3xY99", ".recipients.index.aB3x-9",
            ".recipients.index.aB3xYé", ".recipients_index.aB3xY9", ".recipients.index.swpxyz.bak",
            "recipients.index.aB3xY9",
            ".other.index.aB3xY9",
        ]
        for name in others + [leftover] { try Data("x".utf8).write(to: URL(fileURLWithPath: folder.file(name))) }
        let target = folder.file("target")
        try Data("x".utf8).write(to: URL(fileURLWithPath: target))
        try #require(symlink(target, folder.file(".recipients.index.symlnk")) == 0)
        try #require(mkdir(folder.file(".recipients.index.folder"), 0o755) == 0)
        var builder = builder()
        try builder.publish(to: folder.file(), sources: [])
        let kept = others + ["recipients.index", "target", ".recipients.index.symlnk", ".recipients.index.folder"]
        #expect(try Set(folder.names) == Set(kept))
    }

    @Test func `publishing doesn't remove the temporary file of a running writer`() throws {
        let folder = try TemporaryFolder()
        let atWork = try AtomicFile(replacing: folder.file())
        var builder = builder()
        try builder.publish(to: folder.file(), sources: [])
        #expect(try folder.names.count == 2)
        try atWork.commit()
        #expect(try folder.names == ["recipients.index"])
        #expect(throws: IndexError.self) { try IndexSnapshot(path: folder.file()) }
    }

    @Test func `a file that isn't committed is removed`() throws {
        let folder = try TemporaryFolder()
        do {
            let file = try AtomicFile(replacing: folder.file())
            #expect(try folder.names.count == 1)
            withExtendedLifetime(file) {}
        }
        #expect(try folder.names == [])
    }

    @Test func `a failure to publish has a reason, and changes nothing`() throws {
        let folder = try TemporaryFolder()
        var builder = builder()
        func reason(_ path: String) -> String {
            do throws(IndexError) {
                try builder.publish(to: path, sources: [])
                return "published"
            } catch {
                #expect(error.path == path)
                return error.reason
            }
        }
        #expect(reason(folder.file("no/such/x")).contains("No such file or directory"))
        try Data("x".utf8).write(to: URL(fileURLWithPath: folder.file("plain")))
        #expect(reason(folder.file("plain/x")).contains("Not a directory"))
        #expect(reason(folder.file(String(repeating: "n", count: 250))).contains("File name too long"))
        #expect(reason(folder.path + "/").contains("name of a folder"))
        #expect(reason("").contains("name of a folder"))
        try #require(mkdir(folder.file("dir"), 0o755) == 0)
        #expect(reason(folder.file("dir")).contains("Is a directory"))
        #expect(try folder.names == ["dir", "plain"])
    }

    @Test(.enabled(if: geteuid() != 0, "root may write anywhere"))
    func `missing permission is reported`() throws {
        let folder = try TemporaryFolder()
        var builder = builder()
        try builder.publish(to: folder.file(), sources: [])
        let before = try SnapshotBytes(path: folder.file()).bytes
        try #require(chmod(folder.path, 0o555) == 0)
        defer { chmod(folder.path, 0o755) }
        let error = #expect(throws: IndexError.self) { try builder.publish(to: folder.file(), sources: []) }
        #expect(error?.kind == .notPublished(EACCES) && error?.reason.contains("Permission denied") == true)
        #expect(try SnapshotBytes(path: folder.file()).bytes == before)
    }

    @Test func `a full disk is reported`() throws {
        let full = open("/dev/full", O_WRONLY)
        try #require(full >= 0)
        defer { close(full) }
        for count in [0, 10_000] {
            let entries = ContiguousArray((0..<count).map { IndexEntry(fingerprint: UInt64($0) << 40, flags: []) })
            let writer = IndexWriter(
                entries: entries, salt: SipHash(k0: 0, k1: 0), created: 0, generation: 0, sources: Array("[]".utf8))
            let fault = #expect(throws: IndexFault.self) { try writer.write(to: full) }
            #expect(fault?.kind == .notPublished(ENOSPC) && fault?.reason.contains("No space left on device") == true)
        }
    }

    @Test func `the old file stays if the disk fills up`() throws {
        let folder = try TemporaryFolder()
        // Only root can mount a small file system.
        guard mount("tmpfs", folder.path, "tmpfs", 0, "size=256k") == 0 else { return }
        defer { umount2(folder.path, Int32(MNT_DETACH)) }
        var small = builder()
        try small.publish(to: folder.file(), sources: [])
        let before = try SnapshotBytes(path: folder.file()).bytes
        // The first size fails only at the header, which is written last.
        for count in [21_380, 22_000, 100_000] {
            var large = builder(count)
            do throws(IndexError) {
                try large.publish(to: folder.file(), sources: [])
                Issue.record("\(count) recipients fit into 256 KiB")
            } catch {
                #expect(error.kind == .notPublished(ENOSPC))
                #expect(error.description.contains("No space left on device"))
            }
            #expect(try folder.names == ["recipients.index"])
            #expect(try SnapshotBytes(path: folder.file()).bytes == before)
        }
    }
}
