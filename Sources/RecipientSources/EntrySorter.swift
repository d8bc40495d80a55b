import Glibc
import RecipientIndex

/// The form of an entry in memory and in temporary files: tag, flags, two lengths, then key and object.
private enum EntryRecord {
    static let headerSize = 8

    static func write(
        _ entry: SourceEntry, to store: (UnsafeRawBufferPointer) throws(SourceError) -> Void
    ) throws(SourceError) {
        var header: (UInt16, UInt8, UInt8, UInt16, UInt16) = (
            UInt16(truncatingIfNeeded: entry.tag), entry.flags.rawValue, 0, UInt16(truncatingIfNeeded: entry.key.count),
            UInt16(truncatingIfNeeded: entry.object.count)
        )
        var failure: SourceError?
        withUnsafeBytes(of: &header) { bytes in
            do throws(SourceError) { try store(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
        try store(UnsafeRawBufferPointer(entry.key))
        if !entry.object.isEmpty { try store(UnsafeRawBufferPointer(entry.object)) }
    }

    static func bodySize(_ header: UnsafeRawBufferPointer) -> Int {
        Int(header.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
            + Int(header.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
    }

    static func fields(_ header: UnsafeRawBufferPointer) -> (tag: Int, flags: RecipientFlags, keySize: Int) {
        (
            Int(header.loadUnaligned(as: UInt16.self)), RecipientFlags(rawValue: header[2]),
            Int(header.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
        )
    }

    static func entry(
        tag: Int, flags: RecipientFlags, keySize: Int, body: UnsafeRawBufferPointer
    ) -> SourceEntry {
        let bytes = body.assumingMemoryBound(to: UInt8.self)
        return SourceEntry(
            key: bytes.slice(0..<keySize), tag: tag, flags: flags, object: bytes.slice(keySize..<bytes.count))
    }
}

/// Entries in a temporary file, in the order in which they were added.
package final class EntryFile {
    fileprivate let file: TemporaryFile

    /// - Parameter folder: where the file lies if the entries are too many for memory.
    package init(folder: String) { file = TemporaryFile(folder: folder) }

    /// Adds an entry whose key and object are below 64 KiB together.
    package func append(_ entry: SourceEntry) throws(SourceError) {
        try EntryRecord.write(entry) { bytes throws(SourceError) in try file.append(bytes) }
    }

    /// Reads the entries from the first to the last.
    package final class Reader {
        private let reader: TemporaryFile.Reader

        /// A reader of the whole file, or of the entries that lie in a range of its bytes.
        package convenience init(_ file: EntryFile) { self.init(file.file, 0..<file.file.count) }

        fileprivate init(_ file: TemporaryFile, _ range: Range<Int>) {
            reader = TemporaryFile.Reader(file, range)
        }

        /// The next entry, valid until the next call; nil at the end.
        package func next() throws(SourceError) -> SourceEntry? {
            guard !reader.atEnd else { return nil }
            let header = try reader.next(EntryRecord.headerSize)
            let (tag, flags, keySize) = EntryRecord.fields(header)
            let body = try reader.next(EntryRecord.bodySize(header))
            return EntryRecord.entry(tag: tag, flags: flags, keySize: keySize, body: body)
        }
    }
}

/// Sorts entries by key in bounded memory: each full portion is sorted and written to a temporary file, and the
/// portions are merged as they are read back.
final class EntrySorter {
    private struct Item {
        /// The key's first eight bytes as a big-endian number: most comparisons end here.
        var prefix: UInt64
        var offset: Int
    }

    /// The bytes of one portion; 8 MiB hold about 200,000 recipients.
    private let capacity: Int
    private let arena: UnsafeMutableRawBufferPointer
    private var used = 0
    private var items: [Item] = []
    private let file: TemporaryFile
    private var portions: [Range<Int>] = []
    /// The error of a portion that could not be written; thrown by `finish`, so that adding stays cheap.
    private(set) var failure: SourceError?

    init(folder: String, capacity: Int = 8 << 20) {
        self.capacity = capacity
        arena = .allocate(byteCount: capacity, alignment: 8)
        file = TemporaryFile(folder: folder)
    }

    deinit {
        arena.deallocate()
    }

    /// Copies an entry whose key and object are below 64 KiB together.
    func add(_ entry: SourceEntry) {
        let size = EntryRecord.headerSize + entry.key.count + entry.object.count
        guard failure == nil, size <= min(capacity, 64 << 10) else { return }
        do throws(SourceError) {
            if used + size > capacity { try writePortion() }
            let start = used
            try EntryRecord.write(entry) { bytes throws(SourceError) in
                UnsafeMutableRawBufferPointer(rebasing: arena[used..<used + bytes.count]).copyMemory(from: bytes)
                used += bytes.count
            }
            items.append(Item(prefix: Self.prefix(entry.key), offset: start))
        } catch {
            failure = error
        }
    }

    /// All entries in order. Nothing is added afterwards.
    func finish() throws(SourceError) -> SortedEntries {
        if let failure { throw failure }
        if !portions.isEmpty, !items.isEmpty { try writePortion() }
        guard portions.isEmpty else { return try SortedEntries(merging: portions.map { EntryFile.Reader(file, $0) }) }
        sort()
        return SortedEntries(items.map(\.offset)) { [self] offset in entry(at: offset) }
    }

    private func sort() {
        items.sort { first, second in
            if first.prefix != second.prefix { return first.prefix < second.prefix }
            return entry(at: first.offset).precedes(entry(at: second.offset))
        }
    }

    private func writePortion() throws(SourceError) {
        sort()
        let start = file.count
        for item in items {
            let header = UnsafeRawBufferPointer(
                rebasing: arena[item.offset..<item.offset + EntryRecord.headerSize])
            let size = EntryRecord.headerSize + EntryRecord.bodySize(header)
            try file.append(UnsafeRawBufferPointer(rebasing: arena[item.offset..<item.offset + size]))
        }
        portions.append(start..<file.count)
        items.removeAll(keepingCapacity: true)
        used = 0
    }

    private func entry(at offset: Int) -> SourceEntry {
        let bytes = UnsafeRawBufferPointer(arena)
        let header = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + EntryRecord.headerSize])
        let body = offset + EntryRecord.headerSize
        let (tag, flags, keySize) = EntryRecord.fields(header)
        return EntryRecord.entry(
            tag: tag, flags: flags, keySize: keySize,
            body: UnsafeRawBufferPointer(rebasing: bytes[body..<body + EntryRecord.bodySize(header)]))
    }

    private static func prefix(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
        var prefix: UInt64 = 0
        for index in 0..<8 { prefix = prefix << 8 | (index < key.count ? UInt64(key[index]) : 0) }
        return prefix
    }
}

/// Entries in the order of their keys: from memory, merged from the sorted portions of a temporary file, or joined from
/// several sources.
package final class SortedEntries {
    /// A sorted portion, with its next entry.
    private struct Portion {
        let reader: EntryFile.Reader
        var head: SourceEntry

        init?(_ reader: EntryFile.Reader) throws(SourceError) {
            guard let first = try reader.next() else { return nil }
            self.reader = reader
            head = first
        }

        /// Steps to the next entry; false at the end.
        mutating func advance() throws(SourceError) -> Bool {
            guard let next = try reader.next() else { return false }
            head = next
            return true
        }
    }

    /// The entries of one source, sorted by themselves.
    struct Part {
        let entries: SortedEntries
        /// The tag that an entry has among those of all parts, by its own; nil for an entry that doesn't count.
        let tag: (Int) -> Int?
        fileprivate var head: SourceEntry?

        init(entries: SortedEntries, tag: @escaping (Int) -> Int?) {
            self.entries = entries
            self.tag = tag
        }

        fileprivate mutating func advance() throws(SourceError) {
            while var entry = try entries.next() {
                guard let tag = tag(entry.tag) else { continue }
                entry.tag = tag
                head = entry
                return
            }
            head = nil
        }
    }

    /// The parts with an entry left.
    private var parts: [Part] = []
    /// The part that gave the last entry, which is valid until the next one is asked for.
    private var lastPart: Int?

    /// The portions as a heap with the smallest entry first; empty when all entries lie in memory.
    private var portions: [Portion] = []
    private var hasBegun = false

    private var offsets: [Int] = []
    private var position = 0
    private let inMemory: ((Int) -> SourceEntry)?

    /// Entries in memory.
    ///
    /// - Parameter offsets: what names the entries, in order.
    init(_ offsets: [Int], entry: @escaping (Int) -> SourceEntry) {
        self.offsets = offsets
        inMemory = entry
    }

    /// The entries of sorted portions in one order.
    init(merging readers: [EntryFile.Reader]) throws(SourceError) {
        inMemory = nil
        for reader in readers {
            if let portion = try Portion(reader) { portions.append(portion) }
        }
        for index in stride(from: portions.count / 2 - 1, through: 0, by: -1) { sink(index) }
    }

    /// The entries of all parts in one order.
    init(joining all: [Part]) throws(SourceError) {
        inMemory = nil
        for var part in all {
            try part.advance()
            if part.head != nil { parts.append(part) }
        }
    }

    /// The next entry, valid until the next call; nil at the end.
    package func next() throws(SourceError) -> SourceEntry? {
        if !parts.isEmpty { return try nextOfParts() }
        if let inMemory {
            guard position < offsets.count else { return nil }
            position += 1
            return inMemory(offsets[position - 1])
        }
        return try nextOfPortions()
    }

    private func nextOfParts() throws(SourceError) -> SourceEntry? {
        if let last = lastPart {
            try parts[last].advance()
            if parts[last].head == nil { parts.remove(at: last) }
        }
        lastPart = nil
        var least: SourceEntry?
        for (place, part) in parts.enumerated() {
            guard let head = part.head else { continue }
            if let found = least, !head.precedes(found) { continue }
            least = head
            lastPart = place
        }
        return least
    }

    private func nextOfPortions() throws(SourceError) -> SourceEntry? {
        if hasBegun, !portions.isEmpty {
            if try !portions[0].advance() {
                let last = portions.removeLast()
                if portions.isEmpty { return nil }
                portions[0] = last
            }
            sink(0)
        }
        hasBegun = true
        return portions.first?.head
    }

    private func sink(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < portions.count && portions[child].head.precedes(portions[least].head) {
                least = child
            }
            if least == parent { return }
            portions.swapAt(parent, least)
            parent = least
        }
    }
}
