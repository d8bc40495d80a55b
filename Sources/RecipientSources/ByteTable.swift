import Glibc

/// Byte strings numbered in the order of their arrival, found again without allocating.
package struct ByteTable: Sendable {
    private struct Place {
        var offset: Int
        var count: Int
        var hash: UInt64
    }

    private var bytes: [UInt8] = []
    private var places: [Place] = []
    /// Open addressing with a power of two of slots; -1 is a free one, anything else an index of `places`.
    private var slots = [Int32](repeating: -1, count: 64)

    package init() {}

    package var count: Int { places.count }

    /// The number of a byte string; nil if it never came.
    package func find(_ name: UnsafeBufferPointer<UInt8>) -> Int? {
        let found = Int(slots[slot(of: name, hash: Self.hash(name))])
        return found < 0 ? nil : found
    }

    /// The number of a byte string, a new one if it never came.
    package mutating func insert(_ name: UnsafeBufferPointer<UInt8>) -> Int {
        let hash = Self.hash(name)
        let slot = slot(of: name, hash: hash)
        if slots[slot] >= 0 { return Int(slots[slot]) }
        let number = places.count
        slots[slot] = Int32(truncatingIfNeeded: number)
        places.append(Place(offset: bytes.count, count: name.count, hash: hash))
        bytes.append(contentsOf: name)
        if places.count * 2 > slots.count { grow() }
        return number
    }

    package mutating func insert(_ name: String) -> Int {
        var name = name
        return name.withUTF8 { insert($0) }
    }

    package func name(_ number: Int) -> String {
        let place = places[number]
        return String(decoding: bytes[place.offset..<place.offset + place.count], as: UTF8.self)
    }

    private func slot(of name: UnsafeBufferPointer<UInt8>, hash: UInt64) -> Int {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        while slots[slot] >= 0 {
            let place = places[Int(slots[slot])]
            if place.hash == hash, place.count == name.count, matches(place, name) { return slot }
            slot = (slot + 1) & mask
        }
        return slot
    }

    private func matches(_ place: Place, _ name: UnsafeBufferPointer<UInt8>) -> Bool {
        guard let theirs = name.baseAddress else { return place.count == 0 }
        return bytes.withUnsafeBufferPointer { mine in
            guard let base = mine.baseAddress else { return false }
            return memcmp(base + place.offset, theirs, place.count) == 0
        }
    }

    private mutating func grow() {
        slots = [Int32](repeating: -1, count: slots.count * 2)
        let mask = slots.count - 1
        for (number, place) in places.enumerated() {
            var slot = Int(truncatingIfNeeded: place.hash) & mask
            while slots[slot] >= 0 { slot = (slot + 1) & mask }
            slots[slot] = Int32(truncatingIfNeeded: number)
        }
    }

    /// FNV-1a, 64 bits: short names from an administrator's own files.
    private static func hash(_ name: UnsafeBufferPointer<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in name { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash ^ (hash >> 32)
    }
}
