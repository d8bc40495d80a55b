import Foundation
import Synchronization
import TestSupport
import Testing

@testable import RecipientIndex

@Suite struct HotSwapTests {
    private final class Box: Sendable {
        let number: Int
        private let onEnd: (@Sendable () -> Void)?

        init(_ number: Int, onEnd: (@Sendable () -> Void)? = nil) {
            self.number = number
            self.onEnd = onEnd
        }

        deinit { onEnd?() }
    }

    @Test func `a reader sees each new value when it asks again`() {
        let swap = HotSwap<Box>(nil)
        var reader = swap.makeReader()
        #expect(reader.withCurrent { $0 == nil } && reader.current == nil && swap.current == nil)
        for number in 0..<10 {
            swap.publish(Box(number))
            #expect(reader.withCurrent { $0?.number } == number)
            #expect(reader.current?.number == number && swap.current?.number == number)
        }
        var second = swap.makeReader()
        #expect(second.current?.number == 9)
        swap.publish(nil)
        #expect(reader.current == nil && second.withCurrent { $0 == nil })
    }

    @Test func `a value lives until its last reader has gone on`() {
        let ended = Mutex<[Int]>([])
        let swap = HotSwap(Box(1, onEnd: { ended.withLock { $0.append(1) } }))
        var one = swap.makeReader()
        var other: HotSwap<Box>.Reader? = swap.makeReader()
        swap.publish(Box(2, onEnd: { ended.withLock { $0.append(2) } }))
        #expect(ended.withLock { $0 } == [])
        #expect(one.current?.number == 2)
        #expect(ended.withLock { $0 } == [])
        other = nil
        #expect(other == nil && ended.withLock { $0 } == [1])
        swap.publish(nil)
        #expect(one.current == nil)
        #expect(ended.withLock { $0 } == [1, 2])
    }

    @Test func `passes on what the body throws`() {
        let swap = HotSwap(Box(1))
        var reader = swap.makeReader()
        #expect(throws: CancellationError.self) { try reader.withCurrent { _ in throw CancellationError() } }
        #expect(reader.current?.number == 1)
    }

    /// Generation g lists the keys g, g + 1, … g + 49 in a file of its own; a reader that holds it must find just these.
    @Test func `no lookup is ever wrong while hundreds of snapshots go by`() throws {
        let folder = try TemporaryFolder()
        let path = folder.file()
        @Sendable func publish(_ generation: Int) throws -> IndexSnapshot {
            var builder = IndexBuilder()
            for number in generation..<generation + 50 { builder.add("\(number)@example.com") }
            try builder.publish(to: path, generation: UInt64(generation), sources: [])
            return try IndexSnapshot(path: path)
        }
        let swap = HotSwap(try publish(0))
        let isOver = Atomic(false)
        let wrong = Atomic(0)
        let lookups = Atomic(0)
        let changes = Atomic(0)
        let newest = Atomic(0)
        let ended = DispatchSemaphore(value: 0)
        let readers = 4
        for _ in 0..<readers {
            let thread = Thread {
                var reader = swap.makeReader()
                var last = 0
                var number = 0
                while !isOver.load(ordering: .acquiring) {
                    reader.withCurrent { snapshot in
                        guard let snapshot else { return }
                        let generation = Int(snapshot.info.generation)
                        number = (number + 7) % 100
                        let isFound = snapshot.lookup("\(generation + number)@example.com") != nil
                        let isBefore = generation > 0 && snapshot.lookup("\(generation - 1)@example.com") != nil
                        if isFound != (number < 50) || isBefore || generation < last {
                            wrong.add(1, ordering: .relaxed)
                        }
                        if generation != last { changes.add(1, ordering: .relaxed) }
                        last = generation
                    }
                    lookups.add(1, ordering: .relaxed)
                }
                newest.max(last, ordering: .relaxed)
                ended.signal()
            }
            thread.start()
        }
        for generation in 1...300 { swap.publish(try publish(generation)) }
        // Each reader has gone round at least once more.
        let before = lookups.load(ordering: .relaxed)
        #expect(eventually { lookups.load(ordering: .relaxed) > before + 1000 })
        isOver.store(true, ordering: .releasing)
        for _ in 0..<readers { ended.wait() }
        #expect(wrong.load(ordering: .relaxed) == 0)
        #expect(changes.load(ordering: .relaxed) > 10 && newest.load(ordering: .relaxed) == 300)
    }
}
