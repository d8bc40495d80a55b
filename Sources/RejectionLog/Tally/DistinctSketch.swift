/// The number of different values, in little memory: a sketch holds the smallest of their 32-bit hashes. The number is
/// exact up to a limit, and an estimate (within about 1/√limit) above it. Sketches of days can be merged into that of a
/// period.
package struct DistinctSketch: Equatable, Sendable {
    /// In ascending order.
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

    /// The number of different values among `all` values, of which there can't be more.
    package func distinct(limit: Int, of all: Int) -> Distinct {
        Distinct(count: min(count(limit: limit), all), isEstimate: hashes.count >= limit)
    }

    package func contains(_ hash: UInt32) -> Bool { hashes.contains(hash) }
}

/// Hashes of bytes: the same in every process for sketches, with a random seed for tables.
package enum ByteHash {
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

    package static func short(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: hash(bytes) >> 32)
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        return product.high ^ product.low
    }
}
