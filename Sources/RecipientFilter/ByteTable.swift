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

    /// The position of the string in the list that the table was made of; nil when it isn't there.
    func position(of key: UnsafeBufferPointer<UInt8>) -> Int? {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: Self.hash(key)) & mask
        while slots[slot] != 0 {
            let position = Int(slots[slot]) - 1
            if slices[position].count == key.count, bytes[slices[position]].elementsEqual(key) { return position }
            slot = (slot + 1) & mask
        }
        return nil
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
