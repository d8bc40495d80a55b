/// The header of a snapshot file; ``IndexFormat`` describes it.
struct IndexHeader: Equatable {
    var length = IndexFormat.headerLength
    var requiredFeatures: UInt64 = 0
    var optionalFeatures: UInt64 = 0
    var created: Int64 = 0
    var generation: UInt64 = 0
    var salt = SipHash(k0: 0, k1: 0)
    var entries = 0
    var recipients = 0
    var catchAlls = 0
    var leaving = 0
    var bucketCount = 1
    var tableOffset = IndexFormat.headerLength
    var sourcesOffset = 0
    var checksumsOffset = 0
    var fileSize = 0
    var checksumOfChecksums: UInt64 = 0

    /// How many bytes lie between header and checksums.
    var bodyLength: Int { checksumsOffset - length }
    /// How many blocks the body has.
    var blockCount: Int { (bodyLength + IndexFormat.blockSize - 1) / IndexFormat.blockSize }

    /// The header as it stands in the file, with its checksum.
    func encoded() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: length)
        bytes.withUnsafeMutableBytes { raw in
            raw.store(IndexFormat.magic, 0)
            raw.store(IndexFormat.version, 8)
            raw.store(UInt32(truncatingIfNeeded: length), 12)
            raw.store(requiredFeatures, 16)
            raw.store(optionalFeatures, 24)
            raw.store(created, 32)
            raw.store(generation, 40)
            raw.store(salt.k0, 48)
            raw.store(salt.k1, 56)
            for (offset, value) in [
                (64, entries), (72, recipients), (80, catchAlls), (88, bucketCount), (96, tableOffset),
                (104, sourcesOffset),
                (112, checksumsOffset), (120, fileSize), (144, leaving),
            ] {
                raw.store(UInt64(truncatingIfNeeded: value), offset)
            }
            raw.store(IndexFormat.xxh64, 128)
            raw.store(UInt32(truncatingIfNeeded: IndexFormat.blockSize), 132)
            raw.store(checksumOfChecksums, 136)
            raw.store(Self.checksum(UnsafeRawBufferPointer(raw)), length - 8)
        }
        return bytes
    }

    /// The checksum that belongs into the last eight bytes of a header.
    static func checksum(_ header: UnsafeRawBufferPointer) -> UInt64 {
        XXHash64.hash(UnsafeRawBufferPointer(rebasing: header.dropLast(8)))
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Writes a number little-endian; the place is within the buffer.
    func store<Number: FixedWidthInteger & BitwiseCopyable>(_ value: Number, _ offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Number.self)
    }
}

extension UnsafeRawBufferPointer {
    /// Reads a little-endian number; the place is within the buffer.
    func load<Number: FixedWidthInteger & BitwiseCopyable>(_ type: Number.Type, _ offset: Int) -> Number {
        Number(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}
