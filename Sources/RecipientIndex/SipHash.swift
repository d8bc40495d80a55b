/// SipHash-2-4 with 64 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
struct SipHash: Sendable, Equatable {
    /// The key as two little-endian words.
    let k0: UInt64
    let k1: UInt64

    /// The keyed hash of these bytes.
    @inline(__always)
    func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
        hash(UnsafeRawPointer(bytes.baseAddress), bytes.count)
    }

    @inline(__always)
    private func hash(_ start: UnsafeRawPointer?, _ count: Int) -> UInt64 {
        var state = State(k0: k0, k1: k1)
        var last = UInt64(truncatingIfNeeded: count) &<< 56
        if let start {
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

    /// The up to seven bytes after the last whole word, as the low end of a word.
    @inline(__always)
    private static func tail(_ start: UnsafeRawPointer, _ count: Int) -> UInt64 {
        let left = count & 7
        if left == 0 { return 0 }
        if count > 8 {
            // The last eight bytes in one load: what precedes the tail is shifted out.
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
    /// Rotated to the left by 1 to 63 bits.
    @inline(__always)
    func rotated(by bits: UInt64) -> UInt64 { (self &<< bits) | (self &>> (64 &- bits)) }
}
