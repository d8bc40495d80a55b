import Foundation
import Glibc
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// A sync that is killed at any step leaves a sound index and a state from which the next sync goes on; the guards hold.
@Suite struct CrashTests {
    /// What lies on disk when a run reaches a step, as a kill at that moment would leave it.
    private func image(
        of folder: TemporaryFolder, at step: Synchronizer.Step, _ configuration: SyncConfiguration
    ) throws -> TemporaryFolder {
        let image = try TemporaryFolder()
        let synchronizer = try Synchronizer(configuration) { reached throws(SyncError) in
            guard reached == step else { return }
            for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] {
                try? FileManager.default.copyItem(atPath: folder(name), toPath: image(name))
            }
        }
        _ = try synchronizer.run(acceptShrink: true)
        return image
    }

    private func moved(_ folder: TemporaryFolder) throws -> Synchronizer {
        // The table keeps its place in the configuration, so its copy must too: sources are named by the path.
        try Synchronizer(folder.configuration())
    }

    @Test(arguments: Synchronizer.Step.allCases) func theNextSyncRecoversFromACrashAtAnyStep(_ step: Synchronizer.Step)
        throws
    {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(100))
        _ = try Synchronizer(folder.configuration()).run()
        try folder.write("one.table", users(100, from: 5))
        let crashed = try image(of: folder, at: step, folder.configuration())
        let snapshot = try crashed.snapshot()
        let isNew = step == .published
        #expect((snapshot.lookup("u104@example.com") != nil) == isNew)
        #expect((snapshot.lookup("u0@example.com") == nil) == isNew)
        let report = try moved(crashed).run()
        let after = try crashed.snapshot()
        #expect(after.lookup("u104@example.com") != nil)
        #expect(after.lookup("u0@example.com") == nil)
        #expect(after.info.recipients == 100)
        #expect(after.info.generation == 2)
        #expect(report.generation == 2)
        #expect(try moved(crashed).run().outcome == .unchanged)
    }

    /// The first run of all, killed anywhere.
    @Test(arguments: Synchronizer.Step.allCases) func theFirstSyncCanBeRepeatedAfterACrashAtAnyStep(
        _ step: Synchronizer.Step
    ) throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(10))
        let crashed = try image(of: folder, at: step, folder.configuration())
        #expect(FileManager.default.fileExists(atPath: crashed("recipients.index")) == (step == .published))
        _ = try moved(crashed).run()
        #expect(try crashed.snapshot().info.recipients == 10)
        #expect(try crashed.snapshot().info.generation == 1)
    }

    /// A list that passed the guards but was not published is published before the next is compared with it, so what is
    /// judged is the step from the list in force.
    @Test(arguments: Synchronizer.Step.allCases) func afterACrashTheGuardsCompareWithThePublishedList(
        _ step: Synchronizer.Step
    ) throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(100))
        _ = try Synchronizer(folder.configuration()).run()
        try folder.write("one.table", users(200))
        let crashed = try image(of: folder, at: step, folder.configuration())
        // Half of the new list, all of the old one.
        try crashed.write("one.table", users(100))
        let wasDecided = step == .committed || step == .published
        let error = syncError { try moved(crashed).run() }
        #expect(error?.kind == (wasDecided ? .guardRefused : nil))
        #expect(try crashed.snapshot().info.recipients == (wasDecided ? 200 : 100))
    }

    @Test func aSyncThatFailsAtAnyStepLeavesTheOldList() throws {
        for step in [Synchronizer.Step.opened, .read, .judged] {
            let folder = try TemporaryFolder()
            try folder.write("one.table", users(100))
            let plain = try Synchronizer(folder.configuration())
            _ = try plain.run()
            try folder.write("one.table", users(100, from: 5))
            let failing = try Synchronizer(folder.configuration()) { reached throws(SyncError) in
                if reached == step { throw SyncError(.state, "disk full") }
            }
            #expect(syncError { try failing.run() }?.description == "disk full")
            #expect(try folder.snapshot().lookup("u0@example.com") != nil)
            #expect(try plain.run().added.count == 5)
        }
    }

    @Test(arguments: ["removed", "flipped", "cut"]) func aDamagedSnapshotIsWrittenAgain(_ harm: String) throws {
        let folder = try TemporaryFolder()
        try folder.write("one.table", users(100))
        let synchronizer = try Synchronizer(folder.configuration())
        _ = try synchronizer.run()
        let path = folder("recipients.index")
        switch harm {
        case "removed": unlink(path)
        case "cut": truncate(path, 20)
        default:
            var data = try Data(contentsOf: URL(fileURLWithPath: path))
            data[data.count / 2] ^= 0x10
            data[10] ^= 0x10
            try data.write(to: URL(fileURLWithPath: path))
        }
        // Even if no source can be read.
        unlink(folder("one.table"))
        #expect(syncError { try synchronizer.run() }?.kind == .unreachable)
        #expect(try folder.snapshot().info.recipients == 100)
        #expect(try folder.snapshot().lookup("u50@example.com") != nil)
    }

    @Test func `the guards compare with an older snapshot that was put back`() throws {
        let folder = try TemporaryFolder()
        let synchronizer = try Synchronizer(folder.configuration())
        for count in [100, 95, 90] {
            try folder.write("one.table", users(count))
            _ = try synchronizer.run()
            if count == 100 {
                try FileManager.default.copyItem(atPath: folder("recipients.index"), toPath: folder("backup"))
            }
        }
        try FileManager.default.removeItem(atPath: folder("recipients.index"))
        try FileManager.default.moveItem(atPath: folder("backup"), toPath: folder("recipients.index"))
        // Compared with the published snapshot 15 of 100 are lost, compared with the state only 5.
        try folder.write("one.table", users(85))
        let error = try #require(syncError { try synchronizer.run() })
        #expect(error.kind == .guardRefused)
        #expect(error.description.contains("15 of 100"))
        try folder.write("one.table", users(90))
        #expect(try synchronizer.run().outcome == .refreshed)
        #expect(try folder.snapshot().info.recipients == 90)
        #expect(try folder.snapshot().info.generation == 4)
    }
}
