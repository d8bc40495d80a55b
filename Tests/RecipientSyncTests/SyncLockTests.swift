import Foundation
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

@Suite struct SyncLockTests {
    @Test func aSecondSyncReportsWhichProcessHoldsTheLock() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let lock = try SyncLock(state: folder("state.sqlite"), patience: .zero)
        let error = try #require(syncError { try SyncLock(state: folder("state.sqlite"), patience: .milliseconds(50)) })
        #expect(error.kind == .locked)
        #expect(error.exitStatus == 75)
        #expect(error.description.contains("process \(ProcessInfo.processInfo.processIdentifier)"))
        #expect(error.description.contains(folder("state.sqlite")))
        let synchronizer = try Synchronizer(folder.configuration())
        #expect(syncError { try synchronizer.run() }?.kind == .locked)
        #expect(try synchronizer.run(dryRun: true).added.count == 3, "a dry run needs no lock")
        lock.release()
        #expect(try synchronizer.run().recipients == 3)
    }

    @Test func aSyncHoldsTheLockUntilItsEnd() throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
        let synchronizer = try Synchronizer(folder.configuration()) { _ throws(SyncError) in
            #expect(syncError { try SyncLock(state: folder("state.sqlite"), patience: .zero) }?.kind == .locked)
        }
        _ = try synchronizer.run()
        try SyncLock(state: folder("state.sqlite"), patience: .zero).release()
        let failing = try Synchronizer(folder.configuration()) { _ throws(SyncError) in throw SyncError(.state, "x") }
        #expect(syncError { try failing.run() }?.kind == .state)
        try SyncLock(state: folder("state.sqlite"), patience: .zero).release()
    }
}
