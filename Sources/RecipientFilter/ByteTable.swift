import Glibc
import MailAddress

/// The position of a byte string in a fixed list, found without making a `String` of the bytes that are looked up.
///
/// An open-addressed table under FNV-1a: the list comes from the configuration, so nobody outside can make its keys collide.
struct ByteTable: Sendable {
    private let bytes: [UInt8]
    private let slices: [Range<Int>]
    /// Positions in `slices` plus one; 0 is an empty slot. The count is a power of two, at most half of it in use.
    private let slots: [UInt32]

    /// A table of the strings' UTF-8 bytes; of equal strings the first one counts.
    init(_ strings: [String]) {
        var bytes: [UInt8] = []
        var slices: [Range<Int>] = []
        var capacity = 8
        while capacity < strings.count * 2 { capacity *= 2 }
        var slots = [UInt32](repeating: 0, count: capacity)
        for string in strings {
            let start = bytes.count
            bytes.append(contentsOf: string.utf8)
            slices.append(start..<bytes.count)
            var slot =
                bytes[start...].withUnsafeBufferPointer { Int(truncatingIfNeeded: Self.hash($0)) } & (capacity - 1)
            while slots[slot] != 0 { slot = (slot + 1) & (capacity - 1) }
            slots[slot] = UInt32(clamping: slices.count)
        }
        self.bytes = bytes
        self.slices = slices
        self.slots = slots
    }

    /// Whether the list is empty.
    var isEmpty: Bool { slices.isEmpty }

    /// The position of the string in the list that the table was made of; nil when it isn't there.
    func position(of key: UnsafeBufferPointer<UInt8>) -> Int? {
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

    private func isEqual(_ key: UnsafeBufferPointer<UInt8>, at position: Int) -> Bool {
        let slice = slices[position]
        guard slice.count == key.count else { return false }
        guard let start = key.baseAddress else { return true }
        return bytes.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return slice.isEmpty }
            return memcmp(base + slice.lowerBound, start, slice.count) == 0
        }
    }

    func contains(_ key: UnsafeBufferPointer<UInt8>) -> Bool { position(of: key) != nil }

    func contains(_ address: RecipientAddress) -> Bool { address.withKey { contains($0) } }

    private static func hash(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in key { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        // FNV's low bits are weak in the last byte; fold the high ones in.
        return hash ^ (hash >> 32)
    }
}
