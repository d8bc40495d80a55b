import Foundation
import GRDB
import Glibc
import RecipientIndex
import SyncTestSupport
import Synchronization
import System
import TestSupport
import Testing

@testable import RecipientSources
@testable import RecipientSync

/// A sync thread whose files can't be used goes on, reports the reason once, and syncs again when the files can be used.
@Suite struct SyncFilesTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try folder.write("one.table", users(3))
    }

    /// A sync thread and the events that it reports.
    private final class Watched: Sendable {
        private let texts = Mutex<[String]>([])
        private let made = Mutex<SyncThread?>(nil)

        /// `failed: REASON`, `mended`, `synced 3`, `trouble KIND`.
        var all: [String] { texts.withLock { $0 } }
        var thread: SyncThread? { made.withLock { $0 } }

        init(_ configuration: SyncConfiguration) throws {
            let thread = SyncThread(
                try Synchronizer(configuration),
                onFileFailure: { [self] failure in
                    note(failure.map { "failed: \($0.reason)" } ?? "mended")
                }
            ) { [self] event in
                switch event {
                case .synced(let report), .recovered(let report): note("synced \(report.recipients)")
                case .failed(let error): note("trouble \(error.kind)")
                }
            }
            made.withLock { $0 = thread }
            thread.start()
        }

        private func note(_ text: String) { texts.withLock { $0.append(text) } }

        func says(_ condition: ([String]) -> Bool) -> Bool {
            let limit = ContinuousClock.now + .seconds(60)
            while !condition(all) {
                if ContinuousClock.now > limit { return false }
                usleep(20_000)
            }
            return true
        }
    }

    private func configuration(_ adjust: (inout SyncConfiguration) -> Void = { _ in }) -> SyncConfiguration {
        var configuration = folder.configuration()
        // The longest pause between two tries.
        configuration.interval = .seconds(1)
        adjust(&configuration)
        return configuration
    }

    /// Starts a thread with files that can't be used, waits for some tries, and repairs the files.
    private func mends(
        _ configuration: SyncConfiguration, saying words: String, advice: String, mend: () throws -> Void
    ) throws {
        let watched = try Watched(configuration)
        defer { watched.thread?.stop() }
        #expect(watched.says { $0.count == 1 })
        #expect(watched.all.first?.hasPrefix("failed: ") == true, "\(watched.all)")
        #expect(watched.all.first?.contains(words) == true, "\(watched.all)")
        let outlook = watched.thread?.outlook
        #expect(outlook?.failure?.reason.contains(words) == true)
        #expect(outlook?.failure?.advice.contains(advice) == true, "\(outlook?.failure?.advice ?? "")")
        let first = outlook?.failure?.nextTry
        #expect(first != nil && outlook?.next != nil)
        // The failure is reported once, although the thread tries several times.
        #expect(watched.says { _ in watched.thread?.outlook.failure?.nextTry.map { $0 > first ?? $0 } == true })
        #expect(watched.all.count == 1, "\(watched.all)")
        #expect(watched.thread?.outlook.failure?.since == outlook?.failure?.since)
        try mend()
        #expect(watched.says { $0.count == 3 }, "\(watched.all)")
        #expect(watched.all.dropFirst() == ["mended", "synced 3"], "\(watched.all)")
        #expect(watched.thread?.outlook.failure == nil)
        #expect(try IndexSnapshot(path: configuration.indexPath).info.recipients == 3)
    }

    @Test func aThreadReportsAMissingFolderOfTheState() throws {
        let state = folder("none")
        try mends(
            configuration { $0.statePath = state + "/state.sqlite" }, saying: "there is no folder \(state)",
            advice: "make the folder \(state)"
        ) { try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: false) }
    }

    @Test func aThreadReportsAMissingFolderOfTheIndex() throws {
        let index = folder("none")
        try mends(
            configuration { $0.indexPath = index + "/recipients.index" }, saying: "\(index)/recipients.index",
            advice: "recipients.index and its folder writable for the filter's user"
        ) { try FileManager.default.createDirectory(atPath: index, withIntermediateDirectories: false) }
    }

    @Test func aThreadReportsAStateOfANewerVersion() throws {
        _ = try Synchronizer(folder.configuration()).run()
        func setVersion(_ version: Int) throws {
            let queue = try DatabaseQueue(path: folder("state.sqlite"))
            try queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA user_version = \(version)") }
            try queue.close()
        }
        try setVersion(99)
        let before = try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite")))
        unlink(folder("recipients.index"))
        try mends(configuration(), saying: "newer version", advice: "install that version") {
            #expect(try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite"))) == before)
            // Its list is published at once.
            try setVersion(SyncState.version)
            try folder.write("one.table", users(3, from: 1))
            try folder.write("one.table", users(3))
        }
    }

    @Test func aThreadReportsASymbolicLinkAtThePathOfTheState() throws {
        try #require(symlink(folder("elsewhere"), folder("state.sqlite")) == 0)
        try mends(configuration(), saying: "symbolic link", advice: "remove the link") {
            unlink(folder("state.sqlite"))
        }
    }

    @Test func aThreadReportsAnotherProgramsFileAtThePathOfTheState() throws {
        try folder.write("state.sqlite", "another program's file\n" + users(100))
        try mends(configuration(), saying: "left alone", advice: "name another path as sync.state") {
            unlink(folder("state.sqlite"))
        }
    }

    /// A file system of its own for the state, or nil where the process may not mount one.
    private func mounted(_ options: String) throws -> String? {
        let place = folder("disk")
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: false)
        return mount("tmpfs", place, "tmpfs", 0, options) == 0 ? place : nil
    }

    @Test func aThreadReportsAReadOnlyFileSystem() throws {
        guard let place = try mounted("size=8m") else { return }
        defer { umount2(place, Int32(MNT_DETACH)) }
        _ = try Synchronizer(configuration { $0.statePath = place + "/state.sqlite" }).run()
        try folder.write("one.table", users(2))
        try folder.write("one.table", users(3))
        unlink(folder("recipients.index"))
        try #require(mount("tmpfs", place, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil) == 0)
        try mends(
            configuration { $0.statePath = place + "/state.sqlite" }, saying: "Read-only file system",
            advice: "mount the file system of \(place) for writing"
        ) { try #require(mount("tmpfs", place, "tmpfs", UInt(MS_REMOUNT), nil) == 0) }
    }

    @Test func aThreadReportsAFullFileSystem() throws {
        guard let place = try mounted("size=200k") else { return }
        defer { umount2(place, Int32(MNT_DETACH)) }
        let ballast = place + "/ballast"
        try Data(count: 190 << 10).write(to: URL(fileURLWithPath: ballast))
        try mends(
            configuration { $0.statePath = place + "/state.sqlite" }, saying: "full", advice: "make room on"
        ) { unlink(ballast) }
    }

    @Test func aStateThatIsDamagedWhileTheThreadRunsIsReplaced() throws {
        try folder.write("one.table", users(2_000))
        let watched = try Watched(configuration())
        defer { watched.thread?.stop() }
        #expect(watched.says { $0 == ["synced 2000"] })
        var data = try Data(contentsOf: URL(fileURLWithPath: folder("state.sqlite")))
        data.replaceSubrange(40_960..., with: Data(repeating: 0xff, count: data.count - 40_960))
        // In place, as a disk would; no connection is open between two syncs.
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: folder("state.sqlite")))
        try file.write(contentsOf: data)
        try file.close()
        try folder.write("one.table", users(2_001))
        #expect(watched.says { $0.contains("synced 2001") }, "\(watched.all)")
        #expect(!watched.all.contains { $0.hasPrefix("failed") }, "\(watched.all)")
        #expect(try folder.snapshot().lookup("u2000@example.com") != nil)
    }

    @Test func failuresOfSourcesAreNotReportedAsFailuresOfFiles() throws {
        unlink(folder("one.table"))
        let watched = try Watched(configuration())
        defer { watched.thread?.stop() }
        #expect(watched.says { $0 == ["trouble unreachable"] }, "\(watched.all)")
        #expect(watched.says { _ in watched.thread?.outlook.sources.first?.nextTry != nil })
        #expect(watched.thread?.outlook.failure == nil)
        try folder.write("one.table", users(3))
        #expect(watched.says { $0.contains("synced 3") })
        #expect(watched.says { _ in watched.thread?.outlook.sources.map(\.nextTry) == [nil] })
    }
}
