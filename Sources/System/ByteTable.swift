public import Glibc

/// Byte strings in the order in which they were added, found by their bytes without allocating.
///
/// The hash has no secret: the strings must come from the administrator's own configuration and tables, not from
/// clients, who could choose strings that collide. An open-addressing table under FNV-1a.
public struct ByteTable: Sendable {
    @usableFromInline var bytes: [UInt8] = []
    /// Where each string lies in `bytes`.
    @usableFromInline var slices: [Range<Int>] = []
    /// Positions in `slices` plus one; 0 is a free slot. The count is a power of two, at most half of it in use.
    @usableFromInline var slots: [UInt32]

    /// An empty table.
    public init() { slots = [UInt32](repeating: 0, count: 64) }

    /// A table of the strings' UTF-8 bytes, each at its position in the list; of equal strings, the first is found.
    public init(_ strings: [String]) {
        var capacity = 8
        while capacity < strings.count * 2 { capacity *= 2 }
        slots = [UInt32](repeating: 0, count: capacity)
        for string in strings {
            var string = string
            string.withUTF8 { append($0, at: freeSlot(for: $0)) }
        }
    }

    /// How many strings were added.
    public var count: Int { slices.count }

    /// Whether no string was added.
    @inlinable
    public var isEmpty: Bool { slices.isEmpty }

    /// The position of a string; nil if it isn't in the table.
    @inlinable
    public func position(of key: UnsafeBufferPointer<UInt8>) -> Int? {
        if isEmpty { return nil }
        let hash = Int(truncatingIfNeeded: Self.hash(key))
        return slots.withUnsafeBufferPointer { slots in
            let mask = slots.count &- 1
            var slot = hash & mask
            while slots[slot] != 0 {
                let position = Int(slots[slot]) &- 1
                if isEqual(key, at: position) { return position }
                slot = (slot &+ 1) & mask
            }
            return nil
        }
    }

    /// Whether the string is in the table.
    @inlinable
    public func contains(_ key: UnsafeBufferPointer<UInt8>) -> Bool { position(of: key) != nil }

    /// The string at a position.
    public subscript(position: Int) -> String { String(decoding: bytes[slices[position]], as: UTF8.self) }

    /// Adds a string unless the table has it; returns its position.
    @discardableResult
    public mutating func insert(_ key: UnsafeBufferPointer<UInt8>) -> Int {
        if let position = position(of: key) { return position }
        if (slices.count + 1) * 2 > slots.count { grow() }
        append(key, at: freeSlot(for: key))
        return slices.count - 1
    }

    /// Adds a string's UTF-8 bytes unless the table has them; returns their position.
    @discardableResult
    public mutating func insert(_ key: String) -> Int {
        var key = key
        return key.withUTF8 { insert($0) }
    }

    private mutating func append(_ key: UnsafeBufferPointer<UInt8>, at slot: Int) {
        let start = bytes.count
        bytes.append(contentsOf: key)
        slices.append(start..<bytes.count)
        slots[slot] = UInt32(clamping: slices.count)
    }

    /// Doubles the slots.
    private mutating func grow() {
        slots = [UInt32](repeating: 0, count: slots.count * 2)
        for (position, slice) in slices.enumerated() {
            let slot = bytes.withUnsafeBufferPointer { freeSlot(for: UnsafeBufferPointer(rebasing: $0[slice])) }
            slots[slot] = UInt32(clamping: position + 1)
        }
    }

    /// The first free slot from the key's own one on.
    private func freeSlot(for key: UnsafeBufferPointer<UInt8>) -> Int {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: Self.hash(key)) & mask
        while slots[slot] != 0 { slot = (slot + 1) & mask }
        return slot
    }

    @inlinable
    func isEqual(_ key: UnsafeBufferPointer<UInt8>, at position: Int) -> Bool {
        let slice = slices[position]
        guard slice.count == key.count else { return false }
        guard let start = key.baseAddress else { return true }
        return bytes.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return slice.isEmpty }
            return memcmp(base + slice.lowerBound, start, slice.count) == 0
        }
    }

    @inlinable
    static func hash(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in key { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        // FNV's low bits are weak in the last byte; fold the high ones in.
        return hash ^ (hash >> 32)
    }
}
