import Glibc

/// What the log knows of one value, such as a recipient or a network.
package struct Tally {
    /// Rejected, deferred and observed recipients.
    package internal(set) var count: Int64 = 0
    /// Those of the reason `unknown`.
    package internal(set) var unknown: Int64 = 0
    /// Those of the reason `relay`.
    package internal(set) var relay: Int64 = 0
    /// Those of the reason `harvest`.
    package internal(set) var harvest: Int64 = 0
    /// The first and the last time in milliseconds since 1970, of the reasons above; first > last: no time is known.
    package internal(set) var first = Int64.max
    package internal(set) var last = Int64.min
    /// The different peers, see ``TallyKind/peerLimit``.
    package internal(set) var peers = DistinctSketch()
    /// The different client networks.
    package internal(set) var networks = DistinctSketch()
    /// The newest host name of a client, empty if there is none.
    package internal(set) var name = ""
}

/// Tallies by a value of bytes: open addressing over one arena, so that a million values take no million allocations.
package struct TallyTable {
    /// The tallies; a value is named by its position here.
    package private(set) var tallies: [Tally] = []
    @usableFromInline var arena: [UInt8] = []
    @usableFromInline var ends: [Int] = []
    private var hashes: [UInt64] = []
    /// Positions in `tallies` plus one; 0 is a free place.
    private var places = [UInt32](repeating: 0, count: 1 << 10)
    private let seed = UInt64.random(in: 0 ... .max)

    var count: Int { tallies.count }

    /// The position of a value, new or known.
    mutating func position(of value: UnsafeRawBufferPointer) -> Int {
        let hash = ByteHash.hash(value, seed: seed)
        var place = Int(truncatingIfNeeded: hash) & (places.count &- 1)
        while places[place] != 0 {
            let position = Int(places[place]) &- 1
            if hashes[position] == hash, isEqual(position, value) { return position }
            place = (place &+ 1) & (places.count &- 1)
        }
        tallies.append(Tally())
        arena.append(contentsOf: value)
        ends.append(arena.count)
        hashes.append(hash)
        places[place] = UInt32(truncatingIfNeeded: tallies.count)
        if tallies.count &* 4 > places.count &* 3 { grow() }
        return tallies.count &- 1
    }

    /// The position of a value; nil if the table doesn't have it.
    func existingPosition(of value: UnsafeRawBufferPointer) -> Int? {
        let hash = ByteHash.hash(value, seed: seed)
        var place = Int(truncatingIfNeeded: hash) & (places.count &- 1)
        while places[place] != 0 {
            let position = Int(places[place]) &- 1
            if hashes[position] == hash, isEqual(position, value) { return position }
            place = (place &+ 1) & (places.count &- 1)
        }
        return nil
    }

    /// Changes a tally in place.
    mutating func update(_ position: Int, _ body: (inout Tally) -> Void) { body(&tallies[position]) }

    /// Gives the bytes of a value, valid for the call.
    @inlinable package func withValue<R>(_ position: Int, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        let start = position == 0 ? 0 : ends[position &- 1]
        let end = ends[position]
        return try arena.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
    }

    /// The value as text.
    package func text(_ position: Int) -> String { withValue(position) { String(decoding: $0, as: UTF8.self) } }

    /// The positions with the highest counts, highest first, equals in the order of their bytes.
    package func top(_ limit: Int, by count: (Tally) -> Int64 = \.count) -> [Int] {
        guard limit > 0 else { return [] }
        // The equals of the last place are among the candidates: the order of bytes decides between them.
        let least = leastOfTop(limit, count)
        var candidates: [(position: Int, count: Int64)] = []
        for (position, entry) in tallies.enumerated() {
            let count = count(entry)
            if count >= least { candidates.append((position, count)) }
        }
        candidates.sort {
            if $0.count != $1.count { return $0.count > $1.count }
            return precedes($0.position, $1.position)
        }
        return candidates.prefix(limit).map(\.position)
    }

    /// A table of changed values, in which those that have become equal are one.
    package func folded(_ change: (String) -> String) -> TallyTable {
        var result = TallyTable()
        for (position, entry) in tallies.enumerated() {
            var value = change(text(position))
            let target = value.withUTF8 { result.position(of: UnsafeRawBufferPointer($0)) }
            result.update(target) { $0.merge(entry, nil) }
        }
        return result
    }

    /// The lowest of so many highest counts, at least 1.
    private func leastOfTop(_ limit: Int, _ count: (Tally) -> Int64) -> Int64 {
        guard tallies.count > limit else { return 1 }
        // A heap of the highest counts so far, the lowest of them first.
        var heap: [Int64] = []
        heap.reserveCapacity(limit)
        for entry in tallies {
            let count = count(entry)
            if heap.count < limit {
                heap.append(count)
                if heap.count == limit { heap.sort() }
                continue
            }
            if count <= heap[0] { continue }
            var place = 0
            while true {
                var child = 2 &* place &+ 1
                guard child < limit else { break }
                if child &+ 1 < limit, heap[child &+ 1] < heap[child] { child &+= 1 }
                guard heap[child] < count else { break }
                heap[place] = heap[child]
                place = child
            }
            heap[place] = count
        }
        return max(1, heap.first ?? 1)
    }

    /// True if the bytes of the left value come before those of the right.
    package func precedes(_ left: Int, _ right: Int) -> Bool {
        withValue(left) { left in withValue(right) { right in left.lexicographicallyPrecedes(right) } }
    }

    private func isEqual(_ position: Int, _ value: UnsafeRawBufferPointer) -> Bool {
        withValue(position) { $0.isSame(as: value) }
    }

    private mutating func grow() {
        var larger = [UInt32](repeating: 0, count: places.count &* 2)
        for (position, hash) in hashes.enumerated() {
            var place = Int(truncatingIfNeeded: hash) & (larger.count &- 1)
            while larger[place] != 0 { place = (place &+ 1) & (larger.count &- 1) }
            larger[place] = UInt32(truncatingIfNeeded: position &+ 1)
        }
        places = larger
    }
}

extension Tally {
    /// Adds another tally of the same value; sketches only where the kind is given.
    mutating func merge(_ other: Self, _ kind: TallyKind?) {
        count &+= max(0, other.count)
        unknown &+= max(0, other.unknown)
        relay &+= max(0, other.relay)
        harvest &+= max(0, other.harvest)
        first = min(first, other.first)
        last = max(last, other.last)
        if !other.name.isEmpty { name = other.name }
        guard let kind else { return }
        peers.merge(other.peers, limit: kind.peerLimit)
        networks.merge(other.networks, limit: kind.networkLimit)
    }
}

extension UnsafeRawBufferPointer {
    /// True for the same bytes.
    func isSame(as other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard let base = baseAddress, let otherBase = other.baseAddress else { return true }
        return memcmp(base, otherBase, count) == 0
    }
}
