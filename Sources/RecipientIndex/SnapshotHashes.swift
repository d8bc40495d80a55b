/// The keyed hash of the fingerprints in a snapshot: SipHash-2-4 with 64 bits of output (Aumasson and Bernstein,
/// "SipHash: a fast short-input PRF", 2012).
struct SipHash: Sendable, Equatable {
    /// The key as two little-endian words.
    let k0: UInt64
    let k1: UInt64

    /// The keyed hash of the bytes.
    @inline(__always)
    func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
        let count = bytes.count
        var state = State(k0: k0, k1: k1)
        var last = UInt64(truncatingIfNeeded: count) &<< 56
        if let start = UnsafeRawPointer(bytes.baseAddress) {
            let end = count & ~7
            var offset = 0
            while offset != end {
                state.compress(UInt64(littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
                offset &+= 8
            }
            last |= Self.tail(start, count)
        }
        state.compress(last)
        return state.finish()
    }

    /// The up to seven bytes after the last whole word, as the low bytes of a word.
    @inline(__always)
    private static func tail(_ start: UnsafeRawPointer, _ count: Int) -> UInt64 {
        let left = count & 7
        if left == 0 { return 0 }
        if count > 8 {
            // Load the last eight bytes at once, and shift out those before the tail.
            let word = start.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
            return UInt64(littleEndian: word) &>> UInt64(truncatingIfNeeded: 64 &- 8 &* left)
        }
        var word: UInt64 = 0
        for index in 0..<left {
            let byte = start.load(fromByteOffset: index, as: UInt8.self)
            word |= UInt64(byte) &<< UInt64(truncatingIfNeeded: 8 &* index)
        }
        return word
    }

    private struct State {
        var v0: UInt64
        var v1: UInt64
        var v2: UInt64
        var v3: UInt64

        @inline(__always)
        init(k0: UInt64, k1: UInt64) {
            v0 = k0 ^ 0x736f_6d65_7073_6575
            v1 = k1 ^ 0x646f_7261_6e64_6f6d
            v2 = k0 ^ 0x6c79_6765_6e65_7261
            v3 = k1 ^ 0x7465_6462_7974_6573
        }

        @inline(__always)
        mutating func compress(_ word: UInt64) {
            v3 ^= word
            round()
            round()
            v0 ^= word
        }

        @inline(__always)
        mutating func finish() -> UInt64 {
            v2 ^= 0xff
            round()
            round()
            round()
            round()
            return v0 ^ v1 ^ v2 ^ v3
        }

        @inline(__always)
        private mutating func round() {
            v0 = v0 &+ v1
            v1 = v1.rotated(by: 13) ^ v0
            v0 = v0.rotated(by: 32)
            v2 = v2 &+ v3
            v3 = v3.rotated(by: 16) ^ v2
            v0 = v0 &+ v3
            v3 = v3.rotated(by: 21) ^ v0
            v2 = v2 &+ v1
            v1 = v1.rotated(by: 17) ^ v2
            v2 = v2.rotated(by: 32)
        }
    }
}

extension UInt64 {
    /// The number rotated to the left by 1 to 63 bits.
    @inline(__always)
    func rotated(by bits: UInt64) -> UInt64 { (self &<< bits) | (self &>> (64 &- bits)) }
}

/// The checksum of a snapshot: XXH64 (Collet, the xxHash specification, "XXH64 Algorithm Description").
enum XXHash64 {
    private static let prime1: UInt64 = 0x9e37_79b1_85eb_ca87
    private static let prime2: UInt64 = 0xc2b2_ae3d_27d4_eb4f
    private static let prime3: UInt64 = 0x1656_67b1_9e37_79f9
    private static let prime4: UInt64 = 0x85eb_ca77_c2b2_ae63
    private static let prime5: UInt64 = 0x27d4_eb2f_1656_67c5

    /// The hash of the bytes.
    static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
        let length = UInt64(truncatingIfNeeded: bytes.count)
        guard let start = bytes.baseAddress else { return avalanche(seed &+ prime5 &+ length) }
        var offset = 0
        var result: UInt64
        if bytes.count >= 32 {
            var lane1 = seed &+ prime1 &+ prime2
            var lane2 = seed &+ prime2
            var lane3 = seed
            var lane4 = seed &- prime1
            let end = bytes.count & ~31
            while offset != end {
                lane1 = round(lane1, word(start, offset))
                lane2 = round(lane2, word(start, offset &+ 8))
                lane3 = round(lane3, word(start, offset &+ 16))
                lane4 = round(lane4, word(start, offset &+ 24))
                offset &+= 32
            }
            result =
                lane1.rotated(by: 1) &+ lane2.rotated(by: 7) &+ lane3.rotated(by: 12) &+ lane4.rotated(by: 18)
            for lane in [lane1, lane2, lane3, lane4] {
                result = (result ^ round(0, lane)) &* prime1 &+ prime4
            }
        } else {
            result = seed &+ prime5
        }
        result = result &+ length
        return avalanche(finish(result, start, offset, bytes.count))
    }

    /// The hash with the last bytes, fewer than 32, added.
    private static func finish(_ value: UInt64, _ start: UnsafeRawPointer, _ from: Int, _ count: Int) -> UInt64 {
        var result = value
        var offset = from
        while count &- offset >= 8 {
            result = (result ^ round(0, word(start, offset))).rotated(by: 27) &* prime1 &+ prime4
            offset &+= 8
        }
        if count &- offset >= 4 {
            let half = UInt32(littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            result = (result ^ (UInt64(half) &* prime1)).rotated(by: 23) &* prime2 &+ prime3
            offset &+= 4
        }
        while offset < count {
            let byte = start.load(fromByteOffset: offset, as: UInt8.self)
            result = (result ^ (UInt64(byte) &* prime5)).rotated(by: 11) &* prime1
            offset &+= 1
        }
        return result
    }

    private static func avalanche(_ value: UInt64) -> UInt64 {
        var result = value
        result = (result ^ (result &>> 33)) &* prime2
        result = (result ^ (result &>> 29)) &* prime3
        return result ^ (result &>> 32)
    }

    @inline(__always)
    private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        (lane &+ word &* prime2).rotated(by: 31) &* prime1
    }

    @inline(__always)
    private static func word(_ start: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        UInt64(littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
}
