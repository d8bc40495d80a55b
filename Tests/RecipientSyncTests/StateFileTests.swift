import Foundation
import GRDB
import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// The files of a sync in a folder of another user: symbolic links are not followed, and new files belong to the folder's owner.
@Suite struct StateFileTests {
    @Test(arguments: ["state.sqlite", "state.sqlite.lock"], [true, false])
    func aSymbolicLinkIsNotFollowed(_ name: String, exists: Bool) throws {
        let folder = try TemporaryFolder()
        let other = try TemporaryFolder()
        try folder.write("one.table", users(3))
        if exists { _ = try Synchronizer(folder.configuration()).run() }
        unlink(folder(name))
        // What a database or a lock could well be.
        let target = try other.write("precious", name.hasSuffix(".lock") ? "precious\n" : "")
        chmod(target, 0o644)
        try #require(symlink(target, folder(name)) == 0)
        let synchronizer = try Synchronizer(folder.configuration())
        for _ in 0..<2 {
            let error = syncError { try synchronizer.run() }
            #expect(error?.kind == .state)
            #expect(error?.description.contains("\(folder(name))") == true, "\(error?.description ?? "")")
            #expect(error?.description.contains("a symbolic link, which is not followed") == true)
            #expect(error?.advice?.contains("link") == true)
        }
        var status = stat()
        try #require(stat(target, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o644)
        #expect(try String(contentsOfFile: target, encoding: .utf8) == (name.hasSuffix(".lock") ? "precious\n" : ""))
        #expect(SyncStatus(state: folder("state.sqlite"))?.generation == (name.hasSuffix(".lock") && exists ? 1 : nil))
        // A link that leads nowhere makes nothing there.
        unlink(target)
        #expect(syncError { try synchronizer.run() }?.kind == .state)
        #expect(access(target, F_OK) != 0)
        unlink(folder(name))
        #expect(try synchronizer.run().recipients == 3)
    }

    @Test func aSymbolicLinkInPlaceOfTheWriteAheadLogIsNotFollowed() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let target = try folder.write("precious", "precious\n")
        for suffix in ["-wal", "-shm"] {
            unlink(folder("state.sqlite" + suffix))
            try #require(symlink(target, folder("state.sqlite" + suffix)) == 0)
            // SQLite may remove a file that isn't the database's log; the target of the link stays in any case.
            let error = syncError { try Synchronizer(folder.configuration()).run() }
            #expect(error == nil || error?.kind == .state)
            #expect(try String(contentsOfFile: target, encoding: .utf8) == "precious\n")
            unlink(folder("state.sqlite" + suffix))
        }
        #expect(try Synchronizer(folder.configuration()).run().recipients == 3)
    }

    @Test func theFolderMayBeASymbolicLink() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        try #require(symlink(folder.path, folder("here")) == 0)
        var configuration = folder.configuration()
        configuration.statePath = folder("here/state.sqlite")
        configuration.indexPath = folder("here/recipients.index")
        #expect(try Synchronizer(configuration).run().recipients == 3)
        #expect(SyncStatus(state: folder("here/state.sqlite"))?.recipients == 3)
    }

    @Test(.enabled(if: geteuid() == 0)) func filesThatRootMakesBelongToTheFoldersOwner() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(30_000))
        try #require(chown(folder.path, 12_345, 12_346) == 0)
        // Beside a connection, so that the log stays.
        _ = try Synchronizer(folder.configuration()).run()
        let reader = try DatabaseQueue(path: folder("state.sqlite"))
        try folder.write("one.table", users(29_000))
        _ = try Synchronizer(folder.configuration()).run()
        for name in ["state.sqlite", "state.sqlite.lock", "state.sqlite-wal", "state.sqlite-shm", "recipients.index"] {
            var status = stat()
            #expect(stat(folder(name), &status) == 0, "\(name)")
            #expect(status.st_uid == 12_345, "\(name)")
            #expect(status.st_gid == 12_346, "\(name)")
        }
        try reader.close()
    }

    @Test(.enabled(if: geteuid() == 0)) func aFileOfAnotherUserKeepsItsMode() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        _ = try Synchronizer(folder.configuration()).run()
        chmod(folder("state.sqlite"), 0o640)
        try #require(chown(folder("state.sqlite"), 12_345, 12_346) == 0)
        _ = try Synchronizer(folder.configuration()).run()
        var status = stat()
        stat(folder("state.sqlite"), &status)
        #expect(status.st_mode & 0o777 == 0o640)
    }

    /// What a process closes drops all its locks on a file: a sync beside a reader in the same process must open the state by SQLite only.
    @Test func otherConnectionsOfTheProcessKeepTheirLocks() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        let reader = try DatabaseQueue(path: folder("state.sqlite"))
        _ = try reader.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM entry") }
        func locks() throws -> Int {
            var status = stat()
            try #require(stat(folder("state.sqlite"), &status) == 0)
            let all = try String(contentsOfFile: "/proc/locks", encoding: .utf8)
            return all.split(separator: "\n").count {
                $0.contains("POSIX") && $0.contains(" \(getpid()) ") && $0.contains(":\(status.st_ino) ")
            }
        }
        let before = try locks()
        #expect(before > 0)
        try folder.write("one.table", users(4))
        _ = try synchronizer.run()
        try SyncState.createPrivately(folder("state.sqlite"))
        _ = SyncStatus(state: folder("state.sqlite"))
        #expect(try locks() == before)
        try reader.close()
    }
}
