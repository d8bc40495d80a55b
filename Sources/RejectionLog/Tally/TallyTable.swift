import Glibc

/// Counts by a value of octets: open addressing over one arena, so that a million values take no million allocations.
struct TallyTable {
    /// What is known of a value.
    struct Entry {
        /// Refused, put off or observed.
        var count: Int64 = 0
        /// Those of the reason `unknown`.
        var unknown: Int64 = 0
        /// Those of the reason `relay`.
        var relay: Int64 = 0
        /// Those of the reason `harvest`.
        var harvest: Int64 = 0
        /// The first and the last time in milliseconds since 1970, of the reasons above; first > last: none.
        var first = Int64.max
        var last = Int64.min
        var peers = DistinctSketch()
        var networks = DistinctSketch()
        /// The client's newest name that isn't empty.
        var name = ""
    }

    private(set) var entries: [Entry] = []
    private var arena: [UInt8] = []
    private var ends: [Int] = []
    private var hashes: [UInt64] = []
    /// Positions in `entries` plus one; 0 is free.
    private var places = [UInt32](repeating: 0, count: 1 << 10)
    private let seed = UInt64.random(in: 0 ... .max)

    var count: Int { entries.count }

    /// The position of a value, new or known.
    mutating func position(of value: UnsafeRawBufferPointer) -> Int {
        let hash = ByteHash.hash(value, seed: seed)
        var place = Int(truncatingIfNeeded: hash) & (places.count &- 1)
        while places[place] != 0 {
            let position = Int(places[place]) &- 1
            if hashes[position] == hash, isEqual(position, value) { return position }
            place = (place &+ 1) & (places.count &- 1)
        }
        entries.append(Entry())
        arena.append(contentsOf: value)
        ends.append(arena.count)
        hashes.append(hash)
        places[place] = UInt32(truncatingIfNeeded: entries.count)
        if entries.count &* 4 > places.count &* 3 { grow() }
        return entries.count &- 1
    }

    /// The position of a value that is there; nil if it isn't.
    func known(_ value: UnsafeRawBufferPointer) -> Int? {
        let hash = ByteHash.hash(value, seed: seed)
        var place = Int(truncatingIfNeeded: hash) & (places.count &- 1)
        while places[place] != 0 {
            let position = Int(places[place]) &- 1
            if hashes[position] == hash, isEqual(position, value) { return position }
            place = (place &+ 1) & (places.count &- 1)
        }
        return nil
    }

    /// Changes an entry in place.
    mutating func update(_ position: Int, _ body: (inout Entry) -> Void) { body(&entries[position]) }

    /// The octets of a value; valid for the call.
    func withValue<R>(_ position: Int, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        let start = position == 0 ? 0 : ends[position &- 1]
        let end = ends[position]
        return try arena.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
    }

    /// The value as text.
    func text(_ position: Int) -> String { withValue(position) { String(decoding: $0, as: UTF8.self) } }

    /// The positions with the highest counts, highest first, equals in the order of their octets.
    func top(_ limit: Int, by count: (Entry) -> Int64 = \.count) -> [Int] {
        guard limit > 0 else { return [] }
        // The equals of the last place are among the candidates: the order of octets decides between them.
        let least = leastOfTop(limit, count)
        var candidates: [(position: Int, count: Int64)] = []
        for (position, entry) in entries.enumerated() {
            let count = count(entry)
            if count >= least { candidates.append((position, count)) }
        }
        candidates.sort {
            if $0.count != $1.count { return $0.count > $1.count }
            return precedes($0.position, $1.position)
        }
        return candidates.prefix(limit).map(\.position)
    }

    /// A table in which values that `change` makes equal are one.
    func folded(_ change: (String) -> String) -> TallyTable {
        var result = TallyTable()
        for (position, entry) in entries.enumerated() {
            var value = change(text(position))
            let target = value.withUTF8 { result.position(of: UnsafeRawBufferPointer($0)) }
            result.update(target) { $0.merge(entry, nil) }
        }
        return result
    }

    /// The lowest of so many highest counts, at least 1.
    private func leastOfTop(_ limit: Int, _ count: (Entry) -> Int64) -> Int64 {
        guard entries.count > limit else { return 1 }
        // A heap of the highest counts so far, the lowest of them first.
        var heap: [Int64] = []
        heap.reserveCapacity(limit)
        for entry in entries {
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

    /// True if the one value's octets come before the other's.
    func precedes(_ left: Int, _ right: Int) -> Bool {
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

extension TallyTable.Entry {
    /// Adds what another one knows of the same value; the sketches only where the kind is given.
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
    /// True for the same octets.
    func isSame(as other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard let base = baseAddress, let otherBase = other.baseAddress else { return true }
        return memcmp(base, otherBase, count) == 0
    }
}
