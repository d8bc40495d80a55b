import RecipientIndex

/// Entries in the order of their keys: from memory, merged from the sorted portions of a temporary file, or joined from several sources.
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

    /// The next entry, good until the next call; nil at the end.
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
