/// XXH64 (Collet, the xxHash specification, "XXH64 Algorithm Description"): the checksum of the snapshot file.
enum XXHash64 {
    private static let prime1: UInt64 = 0x9e37_79b1_85eb_ca87
    private static let prime2: UInt64 = 0xc2b2_ae3d_27d4_eb4f
    private static let prime3: UInt64 = 0x1656_67b1_9e37_79f9
    private static let prime4: UInt64 = 0x85eb_ca77_c2b2_ae63
    private static let prime5: UInt64 = 0x27d4_eb2f_1656_67c5

    /// The hash of these bytes.
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

    /// Takes in the last bytes, fewer than 32.
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
