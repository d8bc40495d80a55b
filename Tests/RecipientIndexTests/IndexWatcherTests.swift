import Foundation
import Synchronization
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct IndexWatcherTests {
    /// A watcher that looks often, and what it has reported.
    private final class Watched: Sendable {
        let swap = HotSwap<IndexSnapshot>(nil)
        let events: WatcherEvents
        let watcher: IndexWatcher

        init(_ path: String, interval: Duration = .milliseconds(5)) {
            let events = WatcherEvents()
            self.events = events
            watcher = IndexWatcher(path: path, into: swap, interval: interval) { events.append($0) }
        }

        deinit { watcher.stop() }

        var generation: UInt64? { swap.current?.info.generation }
    }

    private func bytes(_ generation: UInt64, keys: Int = 3) throws -> SnapshotBytes {
        try SnapshotBytes((0..<keys).map { ("\($0)@example.com", []) }, generation: generation)
    }

    private func publish(_ generation: UInt64, to path: String) throws {
        var builder = IndexBuilder()
        builder.add("anna@example.com")
        try builder.publish(to: path, generation: generation, sources: [])
    }

    @Test func `loads an existing file at the start, on the calling thread`() throws {
        let folder = try TemporaryFolder()
        try publish(1, to: folder.file())
        let watched = Watched(folder.file())
        #expect(watched.watcher.loadNow() && watched.generation == 1)
        #expect(watched.watcher.loadNow())
        #expect(watched.events.all == ["loaded 1"])
    }

    @Test func `waits for a file that doesn't exist yet`() throws {
        let folder = try TemporaryFolder()
        let watched = Watched(folder.file())
        #expect(!watched.watcher.loadNow())
        watched.watcher.start()
        usleep(50_000)
        #expect(watched.generation == nil && watched.events.all == [])
        try publish(1, to: folder.file())
        #expect(eventually { watched.generation == 1 })
        #expect(eventually { watched.events.all == ["loaded 1"] })
    }

    @Test func `notices a file that is renamed into place or written in place`() throws {
        let folder = try TemporaryFolder()
        try publish(1, to: folder.file())
        let watched = Watched(folder.file())
        watched.watcher.loadNow()
        watched.watcher.start()
        for generation in 2...5 as ClosedRange<UInt64> {
            try publish(generation, to: folder.file())
            #expect(eventually { watched.generation == generation })
        }
        // The same length as the file in use, so that it can be overwritten without cutting it off.
        let same = try SnapshotBytes([("anna@example.com", [])], generation: 6, sources: [])
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: folder.file()))
        try file.write(contentsOf: same.bytes)
        try file.close()
        #expect(eventually { watched.generation == 6 })
        try #require(rename(folder.file(), folder.file("away")) == 0)
        try bytes(7).write(to: folder.file())
        #expect(eventually { watched.generation == 7 })
    }

    @Test func `keeps the snapshot in use if a new file is unsound, and reports it once`() throws {
        let folder = try TemporaryFolder()
        try publish(1, to: folder.file())
        let watched = Watched(folder.file())
        watched.watcher.loadNow()
        watched.watcher.start()
        func replace(_ file: SnapshotBytes) throws {
            try file.write(to: folder.file("new"))
            try #require(rename(folder.file("new"), folder.file()) == 0)
        }
        for (number, offset) in [5000, 8, 0].enumerated() {
            var file = try bytes(2)
            file.bytes[offset % file.bytes.count] ^= 1
            try replace(file)
            #expect(eventually { watched.events.all.count == number + 2 })
            usleep(50_000)
            #expect(watched.events.all.count == number + 2)
            #expect(watched.events.all.last?.hasPrefix("failed: ") == true)
            #expect(watched.generation == 1)
            #expect(watched.swap.current?.lookup("anna@example.com") == [])
        }
        try #require(unlink(folder.file()) == 0)
        #expect(eventually { watched.events.all.last == "failed: there is no such file" })
        #expect(watched.generation == 1)
        try replace(bytes(3))
        #expect(eventually { watched.generation == 3 })
        #expect(eventually { watched.events.all.count == 6 })
    }

    @Test func `reports an unsound file at the start at once, and once only`() throws {
        let folder = try TemporaryFolder()
        var file = try bytes(1)
        file.bytes[4100] ^= 1
        try file.write(to: folder.file())
        let watched = Watched(folder.file())
        #expect(!watched.watcher.loadNow())
        #expect(watched.events.all.count == 1)
        watched.watcher.start()
        usleep(50_000)
        #expect(watched.events.all.count == 1 && watched.generation == nil)
    }

    @Test func `starts once, stops once, and stays stopped`() throws {
        let folder = try TemporaryFolder()
        let watched = Watched(folder.file())
        watched.watcher.start()
        watched.watcher.start()
        watched.watcher.stop()
        watched.watcher.stop()
        watched.watcher.start()
        try publish(1, to: folder.file())
        usleep(50_000)
        #expect(watched.generation == nil)
        let never = Watched(folder.file())
        never.watcher.stop()
        #expect(never.watcher.loadNow())
    }
}
