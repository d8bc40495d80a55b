import RecipientIndex

/// Entries in the order of their keys, from memory or merged from sorted runs of a spill file.
package final class SortedEntries {
    private final class Run {
        let reader: SpillReader
        var current: Entry

        init?(_ reader: SpillReader) throws(SourceError) {
            guard !reader.atEnd else { return nil }
            self.reader = reader
            current = try Self.read(reader)
        }

        /// Steps to the next entry; false at the end.
        func advance() throws(SourceError) -> Bool {
            guard !reader.atEnd else { return false }
            current = try Self.read(reader)
            return true
        }

        private static func read(_ reader: SpillReader) throws(SourceError) -> Entry {
            let header = try reader.next(EntryRecord.headerSize)
            let (tag, flags, keySize) = EntryRecord.fields(header)
            let body = try reader.next(EntryRecord.bodySize(header))
            return EntryRecord.entry(tag: tag, flags: flags, keySize: keySize, body: body)
        }
    }

    /// The entries of one source, sorted by themselves.
    struct Part {
        let entries: SortedEntries
        /// The tag that an entry has among those of all parts, by its own; nil for an entry that is passed over.
        let tag: (Int) -> Int?
        fileprivate var head: Entry?

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

    /// Those with an entry left.
    private var parts: [Part] = []
    /// The part that gave the last entry, which stands until the next is asked for.
    private var lastPart: Int?

    /// A heap with the smallest entry first; empty when everything lies in memory.
    private var runs: [Run] = []
    private var offsets: [Int] = []
    private var position = 0
    private let inMemory: (Int) -> Entry
    private var started = false

    init(_ offsets: [Int], entry: @escaping (Int) -> Entry) {
        self.offsets = offsets
        inMemory = entry
    }

    init(_ spill: SpillFile, _ ranges: [Range<Int>]) throws(SourceError) {
        inMemory = { _ in
            Entry(key: .init(start: nil, count: 0), tag: 0, flags: [], object: .init(start: nil, count: 0))
        }
        for range in ranges {
            if let run = try Run(SpillReader(spill, range)) { runs.append(run) }
        }
        for index in stride(from: runs.count / 2 - 1, through: 0, by: -1) { sink(index) }
    }

    /// The entries of all parts in one order.
    init(joining all: [Part]) throws(SourceError) {
        inMemory = { _ in
            Entry(key: .init(start: nil, count: 0), tag: 0, flags: [], object: .init(start: nil, count: 0))
        }
        for var part in all {
            try part.advance()
            if part.head != nil { parts.append(part) }
        }
    }

    private func nextOfParts() throws(SourceError) -> Entry? {
        if let last = lastPart {
            try parts[last].advance()
            if parts[last].head == nil { parts.remove(at: last) }
        }
        lastPart = nil
        var least: Entry?
        for (place, part) in parts.enumerated() {
            guard let head = part.head else { continue }
            if let found = least, !head.precedes(found) { continue }
            least = head
            lastPart = place
        }
        return least
    }

    /// The next entry, good until the next call; nil at the end.
    package func next() throws(SourceError) -> Entry? {
        if !parts.isEmpty { return try nextOfParts() }
        if runs.isEmpty {
            guard position < offsets.count else { return nil }
            position += 1
            return inMemory(offsets[position - 1])
        }
        if started {
            if try !runs[0].advance() {
                let last = runs.removeLast()
                if runs.isEmpty { return nil }
                runs[0] = last
            }
            sink(0)
        }
        started = true
        return runs[0].current
    }

    private func sink(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < runs.count && runs[child].current.precedes(runs[least].current) {
                least = child
            }
            if least == parent { return }
            runs.swapAt(parent, least)
            parent = least
        }
    }
}
