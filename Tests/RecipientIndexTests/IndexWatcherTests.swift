import Foundation
import Synchronization
import System
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

    @Test func `an existing file is loaded at the start, on the calling thread`() throws {
        let folder = try TemporaryFolder()
        try publish(1, to: folder.file())
        let watched = Watched(folder.file())
        #expect(watched.watcher.loadNow() && watched.generation == 1)
        #expect(watched.watcher.loadNow())
        #expect(watched.events.all == ["loaded 1"])
    }

    @Test func `a file that doesn't exist yet is loaded when it appears`() throws {
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

    @Test func `a file that is renamed into place or written in place is loaded`() throws {
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

    @Test func `an unsound file is reported once, and the snapshot in use stays`() throws {
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

    @Test func `an unsound file at the start is reported at once, and only once`() throws {
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

    @Test func `a stopped watcher stays stopped`() throws {
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

/// The events of a watcher, in words.
final class WatcherEvents: Sendable {
    private let list = Mutex<[String]>([])
    var all: [String] { list.withLock { $0 } }

    func append(_ event: IndexWatcher.Event) {
        switch event {
        case .loaded(let info): list.withLock { $0.append("loaded \(info.generation)") }
        case .failed(let error): list.withLock { $0.append("failed: \(error.reason)") }
        }
    }
}

@Suite struct IndexWatcherLookTests {
    private let folder: TemporaryFolder
    private let events = WatcherEvents()
    private let swap = HotSwap<IndexSnapshot>(nil)
    private let watcher: IndexWatcher
    private let path: String

    init() throws {
        folder = try TemporaryFolder()
        path = folder.file()
        let events = events
        watcher = IndexWatcher(path: path, into: swap) { events.append($0) }
    }

    private func publish(_ generation: UInt64, created: Date = Date()) throws {
        var builder = IndexBuilder()
        builder.add("anna@example.com")
        try builder.publish(to: path, created: created, generation: generation, sources: [])
    }

    @Test func `a file is loaded once`() throws {
        #expect(!watcher.look(atOnce: false))
        try publish(1)
        #expect(watcher.look(atOnce: false) && watcher.look(atOnce: true))
        #expect(events.all == ["loaded 1"])
        try publish(2)
        #expect(watcher.look(atOnce: false))
        #expect(events.all == ["loaded 1", "loaded 2"] && swap.current?.info.generation == 2)
    }

    @Test func `an older generation is rejected until an administrator asks for it`() throws {
        try publish(7)
        #expect(watcher.look(atOnce: true))
        try publish(6)
        for _ in 0..<5 { #expect(watcher.look(atOnce: false)) }
        #expect(
            events.all.count == 2 && events.all[1].contains("generation 6") && events.all[1].contains("generation 7"))
        #expect(swap.current?.info.generation == 7)
        // The same generation is accepted.
        try publish(7)
        #expect(watcher.look(atOnce: false))
        #expect(events.all.count == 3 && events.all[2] == "loaded 7")
        try publish(6)
        #expect(watcher.look(atOnce: false) && watcher.look(atOnce: true, acceptsOlder: true))
        #expect(events.all.count == 5 && events.all[4] == "loaded 6" && swap.current?.info.generation == 6)
        // That permission was for one file.
        #expect(watcher.look(atOnce: true, acceptsOlder: true))
        try publish(5)
        for _ in 0..<3 { #expect(watcher.look(atOnce: false)) }
        #expect(events.all.count == 6 && swap.current?.info.generation == 6)
        // If the file was removed, generations begin anew; but an old copy has an earlier date.
        try #require(unlink(path) == 0)
        for _ in 0..<2 { #expect(watcher.look(atOnce: false)) }
        try publish(1, created: Date(timeIntervalSinceNow: -86_400))
        for _ in 0..<3 { #expect(watcher.look(atOnce: false)) }
        #expect(events.all.last?.contains("generation 1") == true && swap.current?.info.generation == 6)
        try #require(unlink(path) == 0)
        for _ in 0..<2 { #expect(watcher.look(atOnce: false)) }
        try publish(1)
        #expect(watcher.look(atOnce: false) && swap.current?.info.generation == 1)
        try publish(5)
        // Without a snapshot in use, any generation is accepted.
        let fresh = HotSwap<IndexSnapshot>(nil)
        #expect(IndexWatcher(path: path, into: fresh) { _ in }.look(atOnce: false))
        #expect(fresh.current?.info.generation == 5)
    }

    @Test func `a file that is being written is ignored; a file that stays incomplete is reported once`() throws {
        let whole = try SnapshotBytes((0..<2000).map { ("\($0)@example.com", []) }, generation: 3)
        for length in stride(from: 0, to: whole.bytes.count, by: 1024) {
            try SnapshotBytes(Array(whole.bytes[..<length])).write(to: path)
            #expect(!watcher.look(atOnce: false))
            #expect(events.all == [], "\(length) bytes")
        }
        for _ in 0..<5 { watcher.look(atOnce: false) }
        #expect(events.all.count == 1 && events.all[0].contains("truncated"))
        try SnapshotBytes(Array(whole.bytes.dropLast())).write(to: path)
        for _ in 0..<5 { watcher.look(atOnce: false) }
        #expect(events.all.count == 2)
        try whole.write(to: path)
        #expect(watcher.look(atOnce: false))
        #expect(events.all.count == 3 && events.all[2] == "loaded 3")
    }

    @Test func `loading now reports a fault at once`() throws {
        #expect(!watcher.look(atOnce: true) && events.all == [])
        try Data("no index, that's certain".utf8).write(to: URL(fileURLWithPath: path))
        #expect(!watcher.look(atOnce: true) && events.all.count == 1)
        for _ in 0..<5 { #expect(!watcher.look(atOnce: true)) }
        #expect(events.all.count == 1)
    }

    @Test func `a missing file is reported only if it existed before`() throws {
        for _ in 0..<5 { watcher.look(atOnce: false) }
        #expect(events.all == [])
        try publish(1)
        watcher.look(atOnce: false)
        try #require(unlink(path) == 0)
        for _ in 0..<5 { #expect(watcher.look(atOnce: false)) }
        #expect(events.all == ["loaded 1", "failed: there is no such file"])
        #expect(swap.current?.lookup("anna@example.com") == [])
        try publish(2)
        #expect(watcher.look(atOnce: false) && events.all.last == "loaded 2")
    }

    @Test func `a file that the system couldn't open is tried again`() throws {
        try publish(1)
        // As long as a process has a lease, no other open(2) of the file succeeds, and the file's status doesn't show it. The
        // numbers are those of linux/fcntl.h, which Swift doesn't import.
        let (setLease, setSignal) = (Int32(1024), Int32(10))
        let lease = open(path, O_RDWR)
        try #require(lease >= 0)
        defer { close(lease) }
        try #require(fcntl(lease, setSignal, SIGURG) == 0 && fcntl(lease, setLease, Int32(F_WRLCK)) == 0)
        #expect(!watcher.look(atOnce: true))
        for _ in 0..<60 { #expect(!watcher.look(atOnce: false)) }
        #expect(events.all.count == 1 && events.all[0].contains("can't be opened"))
        try #require(fcntl(lease, setLease, Int32(F_UNLCK)) == 0)
        #expect((0..<60).contains { _ in watcher.look(atOnce: false) })
        #expect(events.all.count == 2 && events.all[1] == "loaded 1")
    }

    @Test func `a damaged snapshot is rejected, as the first one and as a replacement`() throws {
        let sound = try SnapshotBytes((0..<60_000).map { ("\($0)@example.com", []) }, generation: 2)
        try sound.damaged().write(to: path)
        #expect(!watcher.look(atOnce: true) && swap.current == nil)
        #expect(events.all.count == 1 && events.all[0].hasPrefix("failed: the checksum of the bytes from"))
        try publish(1)
        #expect(watcher.look(atOnce: true) && watcher.look(atOnce: true))
        try sound.damaged().write(to: path)
        for _ in 0..<5 { #expect(watcher.look(atOnce: false)) }
        #expect(events.all.count == 3 && events.all[2].hasPrefix("failed: the checksum of the bytes from"))
        #expect(swap.current?.info.generation == 1)
    }

    @Test func `a file that is overwritten in place piece by piece is loaded once it is whole`() throws {
        let old = try SnapshotBytes((0..<60_000).map { ("\($0)@example.com", []) }, generation: 1)
        let new = try SnapshotBytes(
            (1..<60_001).map { ("\($0)@example.com", []) }, salt: SipHash(k0: 3, k1: 4), generation: 2)
        try old.write(to: path)
        #expect(watcher.look(atOnce: true))
        let descriptor = open(path, O_WRONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        // As rsync --inplace does; a slow transfer pauses for longer than two looks.
        for start in stride(from: 0, to: new.bytes.count, by: 20_000) {
            let piece = new.bytes[start..<min(start + 20_000, new.bytes.count)]
            try #require(piece.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, start) } == piece.count)
            let isWhole = piece.endIndex == new.bytes.count
            // The file's times come from a coarse clock.
            usleep(20_000)
            for _ in 0..<3 { #expect(watcher.look(atOnce: false)) }
            #expect(swap.current?.info.generation == (isWhole ? 2 : 1), "\(start)")
            #expect(swap.current?.lookup("0@example.com") == (isWhole ? nil : []), "\(start)")
        }
        #expect(
            events.all.last == "loaded 2" && events.all.dropFirst().dropLast().allSatisfy { $0.hasPrefix("failed") })
    }

    @Test func `only whole snapshots are loaded, whatever is written over the file while it is read`() throws {
        let files = try [1, 2].map { generation in
            try SnapshotBytes(
                (0..<20_000).map { ("\($0)@\(generation).example.com", []) },
                salt: SipHash(k0: UInt64(generation), k1: 4), generation: UInt64(generation))
        }
        try files[0].write(to: path)
        #expect(watcher.look(atOnce: true))
        let isOver = Atomic(false)
        let path = path
        let writing = NamedThread.start("writing") {
            var round = 0
            while !isOver.load(ordering: .relaxed) {
                round += 1
                let file = files[round & 1]
                let descriptor = open(path, O_WRONLY)
                for start in stride(from: 0, to: file.bytes.count, by: 30_000) {
                    let piece = file.bytes[start..<min(start + 30_000, file.bytes.count)]
                    _ = piece.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, start) }
                }
                close(descriptor)
                if round.isMultiple(of: 3) { usleep(10_000) }
            }
        }
        // Either generation may be in use.
        for _ in 0..<500 {
            watcher.look(atOnce: false, acceptsOlder: true)
            let snapshot = try #require(swap.current)
            let generation = snapshot.info.generation
            for number in stride(from: 0, to: 20_000, by: 397) {
                #expect(snapshot.lookup("\(number)@\(generation).example.com") == [])
                #expect(snapshot.lookup("\(number)@\(3 - generation).example.com") == nil)
            }
        }
        isOver.store(true, ordering: .relaxed)
        writing.waitForEnd()
        #expect(
            eventually {
                watcher.look(atOnce: false, acceptsOlder: true) && events.all.last?.hasPrefix("loaded") == true
            })
    }
}
