import Foundation
import Synchronization
import System
import TestSupport
import Testing

@testable import RecipientIndex

/// What was reported, in words.
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

@Suite struct IndexPollerTests {
    private let folder: TemporaryFolder
    private let events = WatcherEvents()
    private let swap = HotSwap<IndexSnapshot>(nil)
    private let poller: IndexPoller
    private let path: String

    init() throws {
        folder = try TemporaryFolder()
        path = folder.file()
        let events = events
        poller = IndexPoller(path: path, target: swap) { events.append($0) }
    }

    private func publish(_ generation: UInt64, created: Date = Date()) throws {
        var builder = IndexBuilder()
        builder.add("anna@example.com")
        try builder.publish(to: path, created: created, generation: generation, sources: [])
    }

    @Test func `loads a file once`() throws {
        #expect(!poller.look(atOnce: false))
        try publish(1)
        #expect(poller.look(atOnce: false) && poller.look(atOnce: true))
        #expect(events.all == ["loaded 1"])
        try publish(2)
        #expect(poller.look(atOnce: false))
        #expect(events.all == ["loaded 1", "loaded 2"] && swap.current?.info.generation == 2)
    }

    @Test func `an older generation is rejected until an administrator asks for it`() throws {
        try publish(7)
        #expect(poller.look(atOnce: true))
        try publish(6)
        for _ in 0..<5 { #expect(poller.look(atOnce: false)) }
        #expect(
            events.all.count == 2 && events.all[1].contains("generation 6") && events.all[1].contains("generation 7"))
        #expect(swap.current?.info.generation == 7)
        // The same and a newer one are taken.
        try publish(7)
        #expect(poller.look(atOnce: false))
        #expect(events.all.count == 3 && events.all[2] == "loaded 7")
        try publish(6)
        #expect(poller.look(atOnce: false) && poller.look(atOnce: true, acceptsOlder: true))
        #expect(events.all.count == 5 && events.all[4] == "loaded 6" && swap.current?.info.generation == 6)
        // That word was for one file, and says nothing of what is in use already.
        #expect(poller.look(atOnce: true, acceptsOlder: true))
        try publish(5)
        for _ in 0..<3 { #expect(poller.look(atOnce: false)) }
        #expect(events.all.count == 6 && swap.current?.info.generation == 6)
        // Who removes the file begins anew; an old copy in its place is of an earlier date.
        try #require(unlink(path) == 0)
        for _ in 0..<2 { #expect(poller.look(atOnce: false)) }
        try publish(1, created: Date(timeIntervalSinceNow: -86_400))
        for _ in 0..<3 { #expect(poller.look(atOnce: false)) }
        #expect(events.all.last?.contains("generation 1") == true && swap.current?.info.generation == 6)
        try #require(unlink(path) == 0)
        for _ in 0..<2 { #expect(poller.look(atOnce: false)) }
        try publish(1)
        #expect(poller.look(atOnce: false) && swap.current?.info.generation == 1)
        try publish(5)
        // Where none is in use there is none to be older than.
        let fresh = HotSwap<IndexSnapshot>(nil)
        #expect(IndexPoller(path: path, target: fresh) { _ in }.look(atOnce: false))
        #expect(fresh.current?.info.generation == 5)
    }

    @Test func `ignores a file that is being written, and reports once one that stays incomplete`() throws {
        let whole = try SnapshotBytes((0..<2000).map { ("\($0)@example.com", []) }, generation: 3)
        for length in stride(from: 0, to: whole.bytes.count, by: 1024) {
            try SnapshotBytes(Array(whole.bytes[..<length])).write(to: path)
            #expect(!poller.look(atOnce: false))
            #expect(events.all == [], "\(length) bytes")
        }
        for _ in 0..<5 { poller.look(atOnce: false) }
        #expect(events.all.count == 1 && events.all[0].contains("truncated"))
        try SnapshotBytes(Array(whole.bytes.dropLast())).write(to: path)
        for _ in 0..<5 { poller.look(atOnce: false) }
        #expect(events.all.count == 2)
        try whole.write(to: path)
        #expect(poller.look(atOnce: false))
        #expect(events.all.count == 3 && events.all[2] == "loaded 3")
    }

    @Test func `reports a fault at once when asked to load now`() throws {
        #expect(!poller.look(atOnce: true) && events.all == [])
        try Data("no index, that's certain".utf8).write(to: URL(fileURLWithPath: path))
        #expect(!poller.look(atOnce: true) && events.all.count == 1)
        for _ in 0..<5 { #expect(!poller.look(atOnce: true)) }
        #expect(events.all.count == 1)
    }

    @Test func `reports a missing file only if it was there before`() throws {
        for _ in 0..<5 { poller.look(atOnce: false) }
        #expect(events.all == [])
        try publish(1)
        poller.look(atOnce: false)
        try #require(unlink(path) == 0)
        for _ in 0..<5 { #expect(poller.look(atOnce: false)) }
        #expect(events.all == ["loaded 1", "failed: there is no such file"])
        #expect(swap.current?.lookup("anna@example.com") == [])
        try publish(2)
        #expect(poller.look(atOnce: false) && events.all.last == "loaded 2")
    }

    @Test func `tries again after a fault of the system`() throws {
        try publish(1)
        // As long as someone has a lease, nobody else can open the file; nothing of that shows in its status. The
        // numbers are those of linux/fcntl.h, which Swift doesn't import.
        let (setLease, setSignal) = (Int32(1024), Int32(10))
        let lease = open(path, O_RDWR)
        try #require(lease >= 0)
        defer { close(lease) }
        try #require(fcntl(lease, setSignal, SIGURG) == 0 && fcntl(lease, setLease, Int32(F_WRLCK)) == 0)
        #expect(!poller.look(atOnce: true))
        for _ in 0..<60 { #expect(!poller.look(atOnce: false)) }
        #expect(events.all.count == 1 && events.all[0].contains("can't be opened"))
        try #require(fcntl(lease, setLease, Int32(F_UNLCK)) == 0)
        #expect((0..<60).contains { _ in poller.look(atOnce: false) })
        #expect(events.all.count == 2 && events.all[1] == "loaded 1")
    }

    @Test func `a damaged snapshot is rejected, as the first one and as a replacement`() throws {
        let sound = try SnapshotBytes((0..<60_000).map { ("\($0)@example.com", []) }, generation: 2)
        try sound.damaged().write(to: path)
        #expect(!poller.look(atOnce: true) && swap.current == nil)
        #expect(events.all.count == 1 && events.all[0].hasPrefix("failed: the checksum of the bytes from"))
        try publish(1)
        #expect(poller.look(atOnce: true) && poller.look(atOnce: true))
        try sound.damaged().write(to: path)
        for _ in 0..<5 { #expect(poller.look(atOnce: false)) }
        #expect(events.all.count == 3 && events.all[2].hasPrefix("failed: the checksum of the bytes from"))
        #expect(swap.current?.info.generation == 1)
    }

    @Test func `a file that is overwritten in place piece by piece is loaded once it is whole`() throws {
        let old = try SnapshotBytes((0..<60_000).map { ("\($0)@example.com", []) }, generation: 1)
        let new = try SnapshotBytes(
            (1..<60_001).map { ("\($0)@example.com", []) }, salt: SipHash(k0: 3, k1: 4), generation: 2)
        try old.write(to: path)
        #expect(poller.look(atOnce: true))
        let descriptor = open(path, O_WRONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        // As rsync --inplace does; a slow one stops for longer than two looks.
        for start in stride(from: 0, to: new.bytes.count, by: 20_000) {
            let piece = new.bytes[start..<min(start + 20_000, new.bytes.count)]
            try #require(piece.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, start) } == piece.count)
            let isWhole = piece.endIndex == new.bytes.count
            // A coarse clock must go on, or the file's times don't.
            usleep(20_000)
            for _ in 0..<3 { #expect(poller.look(atOnce: false)) }
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
        #expect(poller.look(atOnce: true))
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
        // Either generation, as it comes.
        for _ in 0..<500 {
            poller.look(atOnce: false, acceptsOlder: true)
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
                poller.look(atOnce: false, acceptsOlder: true) && events.all.last?.hasPrefix("loaded") == true
            })
    }
}
