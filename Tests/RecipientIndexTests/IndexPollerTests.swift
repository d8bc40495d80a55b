import Foundation
import Synchronization
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
        case .withdrawn(let error): list.withLock { $0.append("withdrawn: \(error.reason)") }
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

    private func publish(_ generation: UInt64) throws {
        var builder = IndexBuilder()
        builder.add("anna@example.com")
        try builder.publish(to: path, generation: generation, sources: [])
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

    @Test func `doesn't mind a file that is still being written, and says once when it stays half`() throws {
        let whole = try SnapshotBytes((0..<2000).map { ("\($0)@example.com", []) }, generation: 3)
        for length in stride(from: 0, to: whole.bytes.count, by: 1024) {
            try SnapshotBytes(Array(whole.bytes[..<length])).write(to: path)
            #expect(!poller.look(atOnce: false))
            #expect(events.all == [], "\(length) bytes")
        }
        for _ in 0..<5 { poller.look(atOnce: false) }
        #expect(events.all.count == 1 && events.all[0].contains("cut off"))
        try SnapshotBytes(Array(whole.bytes.dropLast())).write(to: path)
        for _ in 0..<5 { poller.look(atOnce: false) }
        #expect(events.all.count == 2)
        try whole.write(to: path)
        #expect(poller.look(atOnce: false))
        #expect(events.all.count == 3 && events.all[2] == "loaded 3")
    }

    @Test func `says at once what is wrong when it is asked to`() throws {
        #expect(!poller.look(atOnce: true) && events.all == [])
        try Data("no index, that's certain".utf8).write(to: URL(fileURLWithPath: path))
        #expect(!poller.look(atOnce: true) && events.all.count == 1)
        for _ in 0..<5 { #expect(!poller.look(atOnce: true)) }
        #expect(events.all.count == 1)
    }

    @Test func `a file that is gone is worth a word only when it was there`() throws {
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

    @Test func `tries again by itself when the fault was the system's`() throws {
        try publish(1)
        // As long as someone has a lease, nobody else can open the file; nothing of that shows in its status. The numbers
        // are those of linux/fcntl.h, which Swift doesn't import.
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

    @Test func `the first snapshot serves at once, and is withdrawn when its table is damaged`() throws {
        let sound = try SnapshotBytes((0..<60_000).map { ("\($0)@example.com", []) }, generation: 1)
        try sound.damaged().write(to: path)
        #expect(poller.look(atOnce: true) && events.all == ["loaded 1"])
        #expect(!poller.look(atOnce: false) && swap.current == nil)
        #expect(events.all.count == 2 && events.all[1].hasPrefix("withdrawn: the bytes from"))
        for _ in 0..<5 { #expect(!poller.look(atOnce: false)) }
        #expect(events.all.count == 2)
        try publish(2)
        for _ in 0..<5 { #expect(poller.look(atOnce: false)) }
        #expect(events.all.count == 3 && events.all[2] == "loaded 2" && swap.current != nil)
    }

    @Test func `one that replaces another is read as a whole before`() throws {
        try publish(1)
        #expect(poller.look(atOnce: true) && poller.look(atOnce: true))
        try SnapshotBytes((0..<60_000).map { ("\($0)@example.com", []) }, generation: 2).damaged().write(to: path)
        for _ in 0..<5 { #expect(poller.look(atOnce: false)) }
        #expect(events.all.count == 2 && events.all[1].hasPrefix("failed: the bytes from"))
        #expect(swap.current?.info.generation == 1)
    }
}
