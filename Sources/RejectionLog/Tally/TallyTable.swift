import Glibc

/// What the log counts under one value, such as a recipient or a network.
package struct Tally {
    /// Rejected, deferred and observed recipients.
    package internal(set) var count: Int64 = 0
    /// The recipients of `count` with the reason `unknown`.
    package internal(set) var unknown: Int64 = 0
    /// The recipients of `count` with the reason `relay`.
    package internal(set) var relay: Int64 = 0
    /// The recipients of `count` with the reason `harvest`.
    package internal(set) var harvest: Int64 = 0
    /// The time of the first counted recipient, in milliseconds since 1970. If no time is known, `first` is greater
    /// than `last`.
    package internal(set) var first = Int64.max
    /// The time of the last counted recipient, in milliseconds since 1970.
    package internal(set) var last = Int64.min
    /// The different peers; ``TallyKind/peerLimit`` says what these are.
    package internal(set) var peers = DistinctSketch()
    /// The different client networks.
    package internal(set) var networks = DistinctSketch()
    /// The most recent host name of the client; empty if the value isn't a client or has no name.
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

    /// The position of a value, which is added unless the table has it.
    mutating func position(of value: UnsafeRawBufferPointer) -> Int {
        let hash = ByteHash.hash(value, seed: seed)
        let (place, position) = find(value, hash: hash)
        if let position { return position }
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
        find(value, hash: ByteHash.hash(value, seed: seed)).position
    }

    /// The place of a value and its position; nil and the free place for it if the table doesn't have it.
    private func find(_ value: UnsafeRawBufferPointer, hash: UInt64) -> (place: Int, position: Int?) {
        var place = Int(truncatingIfNeeded: hash) & (places.count &- 1)
        while places[place] != 0 {
            let position = Int(places[place]) &- 1
            if hashes[position] == hash, withValue(position, { $0.isSame(as: value) }) { return (place, position) }
            place = (place &+ 1) & (places.count &- 1)
        }
        return (place, nil)
    }

    /// Changes a tally in place.
    mutating func update(_ position: Int, _ body: (inout Tally) -> Void) { body(&tallies[position]) }

    /// Calls `body` with the bytes of a value, which are valid for the call.
    @inlinable package func withValue<R>(_ position: Int, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        let start = position == 0 ? 0 : ends[position &- 1]
        let end = ends[position]
        return try arena.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
    }

    /// The value as text.
    package func text(_ position: Int) -> String { withValue(position) { String(decoding: $0, as: UTF8.self) } }

    /// The positions of the values with the highest counts, highest first; of equal counts, in the order of the bytes.
    package func top(_ limit: Int, by count: (Tally) -> Int64 = \.count) -> [Int] {
        guard limit > 0 else { return [] }
        // All values with the count of the last place are candidates: the order of bytes decides between them.
        let least = leastOfTop(limit, count)
        var candidates: [(position: Int, count: Int64)] = []
        for (position, entry) in tallies.enumerated() {
            let count = count(entry)
            if count >= least { candidates.append((position, count)) }
        }
        candidates.sort { $0.count == $1.count ? precedes($0.position, $1.position) : $0.count > $1.count }
        return candidates.prefix(limit).map(\.position)
    }

    /// A table of the changed values; values that have become equal are one value.
    package func folded(_ change: (String) -> String) -> TallyTable {
        var result = TallyTable()
        for (position, entry) in tallies.enumerated() {
            var value = change(text(position))
            let target = value.withUTF8 { result.position(of: UnsafeRawBufferPointer($0)) }
            result.update(target) { $0.merge(entry, sketchesOf: nil) }
        }
        return result
    }

    /// The lowest of the `limit` highest counts, at least 1.
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

    /// Whether the bytes of the left value come before those of the right.
    package func precedes(_ left: Int, _ right: Int) -> Bool {
        withValue(left) { left in withValue(right) { right in left.lexicographicallyPrecedes(right) } }
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
    /// Adds another tally of the same value; without a kind, its sketches are left out.
    mutating func merge(_ other: Self, sketchesOf kind: TallyKind?) {
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

    /// Adds the item's peer, network and name.
    mutating func addDetails(of item: TallyKind.Item) {
        if let peer = item.peer { peers.insert(peer, limit: item.kind.peerLimit) }
        if let network = item.network { networks.insert(network, limit: item.kind.networkLimit) }
        setName(item.name)
    }

    /// Sets the client's newest name, unless it is empty.
    mutating func setName(_ bytes: UnsafeRawBufferPointer) {
        if bytes.isEmpty { return }
        let known = name.utf8.withContiguousStorageIfAvailable { UnsafeRawBufferPointer($0).isSame(as: bytes) } ?? false
        if !known { name = String(decoding: bytes, as: UTF8.self) }
    }
}

extension UnsafeRawBufferPointer {
    /// Whether both have the same bytes.
    func isSame(as other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard let base = baseAddress, let otherBase = other.baseAddress else { return true }
        return memcmp(base, otherBase, count) == 0
    }
}

/// The number of different values, in little memory: a sketch holds the smallest of their 32-bit hashes. The number is
/// exact up to a limit, and an estimate (within about 1/√limit) above it. The sketches of days can be merged into the
/// sketch of a period.
package struct DistinctSketch: Equatable, Sendable {
    /// The smallest hashes, in ascending order.
    package private(set) var hashes: [UInt32] = []

    init() {}

    /// Reads the bytes of the database; bytes that aren't a sketch give an empty one.
    init(stored bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty, bytes.count % 4 == 0 else { return }
        hashes.reserveCapacity(bytes.count / 4)
        for offset in stride(from: 0, to: bytes.count, by: 4) {
            let hash = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            if let last = hashes.last, last >= hash { continue }
            hashes.append(hash)
        }
    }

    /// Calls `body` with the bytes that the database holds.
    func withStored<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        if hashes.isEmpty { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        return try hashes.map(\.littleEndian).withUnsafeBytes(body)
    }

    mutating func insert(_ hash: UInt32, limit: Int) {
        if hashes.count >= limit, let last = hashes.last, hash >= last { return }
        var (low, high) = (0, hashes.count)
        while low < high {
            let middle = (low + high) / 2
            if hashes[middle] < hash { low = middle + 1 } else { high = middle }
        }
        if low < hashes.count, hashes[low] == hash { return }
        hashes.insert(hash, at: low)
        if hashes.count > limit { hashes.removeLast() }
    }

    mutating func merge(_ other: DistinctSketch, limit: Int) {
        if hashes.isEmpty, other.hashes.count <= limit {
            hashes = other.hashes
            return
        }
        for hash in other.hashes { insert(hash, limit: limit) }
    }

    /// The number of different values; an estimate from the limit on.
    func count(limit: Int) -> Int {
        guard hashes.count >= limit, limit > 1, let last = hashes.last, last > 0 else { return hashes.count }
        let estimate = Double(limit - 1) * 4_294_967_296 / Double(last)
        return max(limit, Int(exactly: estimate.rounded()) ?? limit)
    }

    /// A number of different values, and whether it is an estimate.
    package struct Distinct: Equatable {
        package var count: Int
        package var isEstimate: Bool
    }

    /// The number of different values, which is at most the number of `all` values.
    package func distinct(limit: Int, of all: Int) -> Distinct {
        Distinct(count: min(count(limit: limit), all), isEstimate: hashes.count >= limit)
    }

    /// Whether the sketch holds the hash.
    package func contains(_ hash: UInt32) -> Bool { hashes.contains(hash) }
}

/// Hashes of bytes: the same in every process for sketches, with a random seed for tables.
package enum ByteHash {
    /// A hash of 64 bits.
    package static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
        var state = seed ^ 0x9E37_79B9_7F4A_7C15 ^ UInt64(truncatingIfNeeded: bytes.count)
        var offset = 0
        while offset &+ 8 <= bytes.count {
            state = mix(state ^ UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
            offset &+= 8
        }
        var rest: UInt64 = 0
        while offset < bytes.count {
            rest = rest << 8 | UInt64(bytes[offset])
            offset &+= 1
        }
        return mix(mix(state ^ rest))
    }

    /// A hash of 32 bits, for sketches.
    package static func short(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: hash(bytes) >> 32)
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        return product.high ^ product.low
    }
}
