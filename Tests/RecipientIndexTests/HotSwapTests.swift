import Foundation
import Synchronization
import System
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

    @Test func `a reader gets each new value at its next call`() {
        let swap = HotSwap<Box>(nil)
        let reader = swap.makeReader()
        #expect(reader.withCurrent { $0 == nil } && reader.withSome { _ in true } == nil && swap.current == nil)
        for number in 0..<10 {
            swap.publish(Box(number))
            #expect(reader.withCurrent { $0?.number } == number && reader.withSome { $0.number } == number)
            #expect(swap.current?.number == number)
        }
        let second = swap.makeReader()
        #expect(second.withCurrent { $0?.number } == 9)
        swap.publish(nil)
        #expect(swap.current == nil && second.withCurrent { $0 == nil })
    }

    @Test func `idle readers keep no value alive`() {
        let ended = Mutex<[Int]>([])
        let box = { (number: Int) in Box(number, onEnd: { ended.withLock { $0.append(number) } }) }
        let swap = HotSwap(box(0))
        let readers = (0..<40).map { _ in swap.makeReader() }
        for number in 1...40 {
            // Each reader now has a newer value.
            #expect(readers[number - 1].withSome { $0.number } == number - 1)
            swap.publish(box(number))
            #expect(ended.withLock { $0 } == Array(0..<number))
        }
        swap.publish(nil)
        #expect(ended.withLock { $0 } == Array(0...40))
    }

    @Test func `the current value is freed together with the HotSwap`() {
        let ended = Mutex<[Int]>([])
        var swap: HotSwap<Box>? = HotSwap(Box(1, onEnd: { ended.withLock { $0.append(1) } }))
        var reader = swap?.makeReader()
        swap = nil
        #expect(swap == nil && reader?.withSome { $0.number } == 1)
        reader = nil
        #expect(reader == nil && ended.withLock { $0 } == [1])
    }

    @Test func `a value that other code holds outlives its replacement`() {
        let ended = Mutex<[Int]>([])
        let swap = HotSwap(Box(1, onEnd: { ended.withLock { $0.append(1) } }))
        var held = swap.current
        swap.publish(nil)
        #expect(held?.number == 1 && ended.withLock { $0 } == [])
        held = nil
        #expect(held == nil && ended.withLock { $0 } == [1])
    }

    @Test func `a value lives until its last reader's call ends, while other readers go on`() {
        let ended = Mutex<[Int]>([])
        let swap = HotSwap(Box(1, onEnd: { ended.withLock { $0.append(1) } }))
        let (inside, leave) = (SteadySemaphore(), SteadySemaphore())
        for _ in 0..<2 {
            NamedThread.start("reader") {
                swap.makeReader().withCurrent { _ in
                    inside.signal()
                    leave.wait()
                }
            }
            inside.wait()
        }
        let publishing = NamedThread.start("publishing") { swap.publish(Box(2)) }
        // Readers don't wait for the writer, which waits for the first two readers.
        let reader = swap.makeReader()
        #expect(eventually { reader.withSome { $0.number } == 2 })
        for _ in 0..<10_000 { reader.withSome { _ in } }
        #expect(ended.withLock { $0 } == [])
        leave.signal()
        usleep(20_000)
        #expect(ended.withLock { $0 } == [])
        leave.signal()
        publishing.waitForEnd()
        #expect(ended.withLock { $0 } == [1])
    }

    @Test func `an error of the body is rethrown and ends the reader's call`() {
        let swap = HotSwap(Box(1))
        let reader = swap.makeReader()
        #expect(throws: CancellationError.self) { try reader.withCurrent { _ in throw CancellationError() } }
        #expect(throws: CancellationError.self) { try reader.withSome { _ in throw CancellationError() } }
        swap.publish(Box(2))
        #expect(reader.withSome { $0.number } == 2)
    }

    /// The values that aren't freed yet; a reader's value must be one of them.
    private final class Register: @unchecked Sendable {
        let living: UnsafeMutablePointer<Atomic<Bool>>
        let count = Atomic(0)
        let most = Atomic(0)
        private let capacity: Int

        init(_ capacity: Int) {
            self.capacity = capacity
            living = .allocate(capacity: capacity)
            for number in 0..<capacity { (living + number).initialize(to: Atomic(false)) }
        }

        deinit {
            living.deinitialize(count: capacity)
            living.deallocate()
        }

        func box(_ number: Int) -> Box {
            living[number].store(true, ordering: .relaxed)
            most.max(count.add(1, ordering: .relaxed).newValue, ordering: .relaxed)
            return Box(number) { [self] in
                living[number].store(false, ordering: .relaxed)
                count.subtract(1, ordering: .relaxed)
            }
        }
    }

    /// Many more threads than processors, so that they are interrupted anywhere.
    @Test func `no value is freed under a reader, and at most two are alive`() {
        let register = Register(20_001)
        let swap = HotSwap(register.box(0))
        let other = HotSwap(Box(0))
        let isOver = Atomic(false)
        let dead = Atomic(0)
        let calls = Atomic(0)
        onThreads(13) { thread in
            if thread == 0 {
                var number = 0
                // Until the readers have seen many values, however slow they are.
                while number < 300 || number < 20_000 && calls.load(ordering: .relaxed) < 3_000 {
                    number += 1
                    swap.publish(register.box(number))
                    if number.isMultiple(of: 7) { other.publish(Box(number)) }
                    if number.isMultiple(of: 16) { usleep(100) }
                }
                isOver.store(true, ordering: .relaxed)
                return
            }
            let reader = swap.makeReader()
            let outer = other.makeReader()
            var last = 0
            while !isOver.load(ordering: .relaxed) {
                outer.withSome { _ in
                    reader.withSome { box in
                        let number = box.number
                        let isThere = { register.living[number].load(ordering: .relaxed) }
                        var isSound = isThere() && number >= last
                        if thread.isMultiple(of: 3) { sched_yield() }
                        if thread == 12, number.isMultiple(of: 64) { usleep(50) }
                        isSound = isSound && isThere() && box.number == number
                        if !isSound { dead.add(1, ordering: .relaxed) }
                        last = number
                    }
                }
                calls.add(1, ordering: .relaxed)
            }
        }
        #expect(dead.load(ordering: .relaxed) == 0 && calls.load(ordering: .relaxed) > 0)
        #expect(register.most.load(ordering: .relaxed) == 2)
        #expect(register.count.load(ordering: .relaxed) == 1)
    }

    @Test func `several threads can publish at once`() {
        let register = Register(401)
        let swap = HotSwap(register.box(0))
        let reader = swap.makeReader()
        let dead = Atomic(0)
        onThreads(4) { thread in
            for number in 1...100 {
                swap.publish(register.box(thread * 100 + number))
                reader.withSome { box in
                    if !register.living[box.number].load(ordering: .relaxed) { dead.add(1, ordering: .relaxed) }
                }
            }
        }
        #expect(dead.load(ordering: .relaxed) == 0 && register.count.load(ordering: .relaxed) == 1)
    }

    /// Generation g lists the keys g, g + 1, … g + 49 in a file of its own; a reader of it must find exactly these.
    @Test func `no lookup is wrong while hundreds of snapshots are published`() throws {
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
        let readers = (0..<4).map { _ in
            NamedThread.start("reader") {
                let reader = swap.makeReader()
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
            }
        }
        for generation in 1...300 { swap.publish(try publish(generation)) }
        // Each reader has made at least one more lookup.
        let before = lookups.load(ordering: .relaxed)
        #expect(eventually { lookups.load(ordering: .relaxed) > before + 1000 })
        isOver.store(true, ordering: .releasing)
        for reader in readers { reader.waitForEnd() }
        #expect(wrong.load(ordering: .relaxed) == 0)
        #expect(changes.load(ordering: .relaxed) > 10 && newest.load(ordering: .relaxed) == 300)
    }
}
