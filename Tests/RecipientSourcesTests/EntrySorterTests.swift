import Foundation
import RecipientIndex
import SyncTestSupport
import TestSupport
import Testing

@testable import RecipientSources

@Suite struct EntrySorterTests {
    private struct Plain: Equatable {
        var key: [UInt8]
        var tag: Int
        var flags: UInt8
        var object: [UInt8]
    }

    /// The same order whether all fits into memory or a hundred portions are merged from the file.
    @Test(arguments: [1 << 20, 512]) func entriesAreSortedByKeyTagAndObject(capacity: Int) throws {
        var generator = SeededGenerator.announced("entriesAreSortedByKeyTagAndObject")
        let seed = generator.seed
        let folder = try TemporaryFolder()
        let sorter = EntrySorter(folder: folder.path, capacity: capacity)
        var entries: [Plain] = []
        for _ in 0..<2_000 {
            let length = Int.random(in: 1..<20, using: &generator)
            let entry = Plain(
                key: (0..<length).map { _ in UInt8.random(in: 0x61...0x63, using: &generator) },
                tag: Int.random(in: 0..<3, using: &generator), flags: UInt8.random(in: 0..<8, using: &generator),
                object: (0..<Int.random(in: 0..<3, using: &generator)).map { _ in
                    UInt8.random(in: 0...255, using: &generator)
                })
            entries.append(entry)
            add(entry, to: sorter)
        }
        let sorted = try sorter.finish()
        var found: [Plain] = []
        while let entry = try sorted.next() {
            found.append(
                Plain(
                    key: Array(entry.key), tag: entry.tag, flags: entry.flags.rawValue, object: Array(entry.object)))
        }
        #expect(found.count == entries.count)
        let order = { (first: Plain, second: Plain) -> Bool in
            if first.key != second.key { return first.key.lexicographicallyPrecedes(second.key) }
            if first.tag != second.tag { return first.tag < second.tag }
            return first.object.lexicographicallyPrecedes(second.object)
        }
        for index in found.indices.dropFirst() {
            #expect(!order(found[index], found[index - 1]), "seed \(seed) at \(index)")
        }
        let byAll = { (first: Plain, second: Plain) -> Bool in
            order(first, second) || !order(second, first) && first.flags < second.flags
        }
        #expect(found.sorted(by: byAll) == entries.sorted(by: byAll), "seed \(seed)")
    }

    @Test func anEmptySorterHasNoEntries() throws {
        let sorted = try EntrySorter(folder: "/nonexistent").finish()
        #expect(try sorted.next() == nil)
    }

    @Test func temporaryFilesHaveNoName() throws {
        let folder = try TemporaryFolder()
        let file = TemporaryFile(folder: folder.path)
        let bytes = [UInt8](repeating: 7, count: 100_000)
        for _ in 0..<10 { try bytes.withUnsafeBytes { (bytes) throws in try file.append(bytes) } }
        #expect(file.count == 1_000_000)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
        let reader = TemporaryFile.Reader(file, 0..<file.count)
        for _ in 0..<20 { #expect(try reader.next(50_000).allSatisfy { $0 == 7 }) }
        #expect(reader.atEnd)
    }

    private func add(_ entry: Plain, to sorter: EntrySorter) {
        entry.key.withUnsafeBufferPointer { key in
            entry.object.withUnsafeBufferPointer { object in
                sorter.add(
                    SourceEntry(key: key, tag: entry.tag, flags: RecipientFlags(rawValue: entry.flags), object: object))
            }
        }
    }
}
