import Glibc
package import RecipientIndex

/// One listing of a recipient by an object of a source. The bytes are borrowed from whoever made it.
package struct Entry {
    /// The recipient's canonical key.
    package var key: UnsafeBufferPointer<UInt8>
    /// The pull that gave it, or the number of its source in the state.
    package var tag: Int
    package var flags: RecipientFlags
    /// What of the source lists it, such as a directory object's GUID; empty for a line of a file.
    package var object: UnsafeBufferPointer<UInt8>

    package init(
        key: UnsafeBufferPointer<UInt8>, tag: Int, flags: RecipientFlags, object: UnsafeBufferPointer<UInt8>
    ) {
        self.key = key
        self.tag = tag
        self.flags = flags
        self.object = object
    }

    /// The order of the state's entries: by key, source, object.
    package func precedes(_ other: Entry) -> Bool {
        let order = key.compare(other.key)
        if order != 0 { return order < 0 }
        return tag == other.tag ? object.precedes(other.object) : tag < other.tag
    }
}

/// The form of an entry in memory and in spill files: tag, flags, two lengths, then key and object.
package enum EntryRecord {
    package static let headerSize = 8

    package static func write(_ entry: Entry, to store: (UnsafeRawBufferPointer) throws(SourceError) -> Void)
        throws(SourceError)
    {
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

    package static func bodySize(_ header: UnsafeRawBufferPointer) -> Int {
        Int(header.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
            + Int(header.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
    }

    package static func fields(_ header: UnsafeRawBufferPointer) -> (tag: Int, flags: RecipientFlags, keySize: Int) {
        (
            Int(header.loadUnaligned(as: UInt16.self)), RecipientFlags(rawValue: header[2]),
            Int(header.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
        )
    }

    package static func entry(
        tag: Int, flags: RecipientFlags, keySize: Int, body: UnsafeRawBufferPointer
    ) -> Entry {
        let bytes = body.assumingMemoryBound(to: UInt8.self)
        return Entry(
            key: bytes.slice(0..<keySize), tag: tag, flags: flags, object: bytes.slice(keySize..<bytes.count))
    }
}

/// Sorts entries by key in bounded memory: full portions are sorted and spilled, and merged as they are read back.
package final class EntrySorter {
    private struct Item {
        /// The key's first eight bytes as a big-endian number: most comparisons end here.
        var prefix: UInt64
        var offset: Int
    }

    /// One portion's bytes; 8 MiB hold about 200,000 recipients.
    private let capacity: Int
    private let arena: UnsafeMutableRawBufferPointer
    private var used = 0
    private var items: [Item] = []
    private let spill: SpillFile
    private var runs: [Range<Int>] = []
    /// A spill that failed; reported by `finish`, so that adding stays cheap.
    package private(set) var failure: SourceError?

    package init(folder: String, capacity: Int = 8 << 20) {
        self.capacity = capacity
        arena = .allocate(byteCount: capacity, alignment: 8)
        spill = SpillFile(folder: folder)
    }

    deinit {
        arena.deallocate()
    }

    /// Takes a copy of an entry whose key and object are below 64 KiB together.
    package func add(_ entry: Entry) {
        let size = EntryRecord.headerSize + entry.key.count + entry.object.count
        guard failure == nil, size <= min(capacity, 64 << 10) else { return }
        do throws(SourceError) {
            if used + size > capacity { try spillPortion() }
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

    /// All entries in order. The sorter takes no more afterwards.
    package func finish() throws(SourceError) -> SortedEntries {
        if let failure { throw failure }
        if !runs.isEmpty, !items.isEmpty { try spillPortion() }
        guard runs.isEmpty else { return try SortedEntries(spill, runs) }
        sort()
        return SortedEntries(items.map(\.offset)) { [self] offset in entry(at: offset) }
    }

    private func sort() {
        items.sort { first, second in
            if first.prefix != second.prefix { return first.prefix < second.prefix }
            return entry(at: first.offset).precedes(entry(at: second.offset))
        }
    }

    private func spillPortion() throws(SourceError) {
        sort()
        let start = spill.count
        for item in items {
            let header = UnsafeRawBufferPointer(
                rebasing: arena[item.offset..<item.offset + EntryRecord.headerSize])
            let size = EntryRecord.headerSize + EntryRecord.bodySize(header)
            try spill.append(UnsafeRawBufferPointer(rebasing: arena[item.offset..<item.offset + size]))
        }
        runs.append(start..<spill.count)
        items.removeAll(keepingCapacity: true)
        used = 0
    }

    private func entry(at offset: Int) -> Entry {
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
