import Glibc
import RecipientIndex

/// The header of an entry in memory and in temporary files: tag, flags, and the sizes of key and object, which follow it.
private struct EntryHeader {
    static let size = 8

    private let tag: Int
    private let flags: RecipientFlags
    private let keySize: Int
    /// How many bytes of key and object follow the header.
    let bodySize: Int

    init(_ bytes: UnsafeRawBufferPointer) {
        tag = Int(bytes.loadUnaligned(as: UInt16.self))
        flags = RecipientFlags(rawValue: bytes[2])
        keySize = Int(bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
        bodySize = keySize + Int(bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
    }

    /// The entry with this header, whose key and object are borrowed from the bytes after it.
    func entry(_ body: UnsafeRawBufferPointer) -> SourceEntry {
        let bytes = body.assumingMemoryBound(to: UInt8.self)
        return SourceEntry(
            key: bytes.slice(0..<keySize), tag: tag, flags: flags, object: bytes.slice(keySize..<bodySize))
    }

    /// Stores an entry with its header, in pieces.
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
}

/// Entries in a temporary file, in the order in which they were added.
package final class EntryFile {
    fileprivate let file: TemporaryFile

    /// - Parameter folder: where the file lies if the entries are too many for memory.
    package init(folder: String) { file = TemporaryFile(folder: folder) }

    /// Adds an entry whose key and object are below 64 KiB together.
    package func append(_ entry: SourceEntry) throws(SourceError) {
        try EntryHeader.write(entry) { bytes throws(SourceError) in try file.append(bytes) }
    }

    /// Reads the entries from the first to the last.
    package final class Reader: EntryStream {
        private let reader: TemporaryFile.Reader

        /// A reader of the whole file, or of the entries that lie in a range of its bytes.
        package convenience init(_ file: EntryFile) { self.init(file.file, 0..<file.file.count) }

        fileprivate init(_ file: TemporaryFile, _ range: Range<Int>) {
            reader = TemporaryFile.Reader(file, range)
        }

        /// The next entry, valid until the next call; nil at the end.
        package func next() throws(SourceError) -> SourceEntry? {
            guard !reader.atEnd else { return nil }
            let header = EntryHeader(try reader.next(EntryHeader.size))
            return header.entry(try reader.next(header.bodySize))
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
        let size = EntryHeader.size + entry.key.count + entry.object.count
        guard failure == nil, size <= min(capacity, 64 << 10) else { return }
        do throws(SourceError) {
            if used + size > capacity { try writePortion() }
            let start = used
            try EntryHeader.write(entry) { bytes throws(SourceError) in
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
        return try SortedEntries(merging: [InMemory(self)])
    }

    /// The entries in memory, once they are sorted.
    private final class InMemory: EntryStream {
        private let sorter: EntrySorter
        private var position = 0

        init(_ sorter: EntrySorter) { self.sorter = sorter }

        func next() -> SourceEntry? {
            guard position < sorter.items.count else { return nil }
            defer { position += 1 }
            return sorter.entry(at: sorter.items[position].offset)
        }
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
            let size = EntryHeader.size + header(at: item.offset).bodySize
            try file.append(UnsafeRawBufferPointer(rebasing: arena[item.offset..<item.offset + size]))
        }
        portions.append(start..<file.count)
        items.removeAll(keepingCapacity: true)
        used = 0
    }

    private func header(at offset: Int) -> EntryHeader {
        EntryHeader(UnsafeRawBufferPointer(rebasing: arena[offset..<offset + EntryHeader.size]))
    }

    private func entry(at offset: Int) -> SourceEntry {
        let header = header(at: offset)
        let body = offset + EntryHeader.size
        return header.entry(UnsafeRawBufferPointer(rebasing: arena[body..<body + header.bodySize]))
    }

    private static func prefix(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
        (0..<8).reduce(0) { $0 << 8 | ($1 < key.count ? UInt64(key[$1]) : 0) }
    }
}

/// Entries that are read one after the other.
protocol EntryStream {
    /// The next entry, valid until the next call; nil at the end.
    func next() throws(SourceError) -> SourceEntry?
}

/// Entries in the order of their keys, merged from streams that are sorted by themselves: the portions of a temporary
/// file, the entries in memory, or several sources.
package final class SortedEntries {
    private struct Head {
        var entry: SourceEntry
        let stream: any EntryStream
    }

    /// The streams with an entry left, each with that entry, as a heap with the smallest entry first.
    private var heads: [Head] = []
    private var hasBegun = false

    init(merging streams: [any EntryStream]) throws(SourceError) {
        for stream in streams {
            if let first = try stream.next() { heads.append(Head(entry: first, stream: stream)) }
        }
        for index in stride(from: heads.count / 2 - 1, through: 0, by: -1) { sink(index) }
    }

    /// The next entry, valid until the next call; nil at the end.
    package func next() throws(SourceError) -> SourceEntry? {
        if hasBegun, !heads.isEmpty {
            if let entry = try heads[0].stream.next() {
                heads[0].entry = entry
            } else {
                let last = heads.removeLast()
                if heads.isEmpty { return nil }
                heads[0] = last
            }
            sink(0)
        }
        hasBegun = true
        return heads.first?.entry
    }

    private func sink(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heads.count && heads[child].entry.precedes(heads[least].entry) {
                least = child
            }
            if least == parent { return }
            heads.swapAt(parent, least)
            parent = least
        }
    }
}
