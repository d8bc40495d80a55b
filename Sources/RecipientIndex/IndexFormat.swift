/// The numbers of the snapshot file, version 1. The file consists of a header, a body and a list of checksums;
/// postern-index(5) describes it.
///
/// The body has the table of buckets and the sources as JSON. The home of a fingerprint is bucket ⌊fingerprint ×
/// bucketCount ÷ 2⁶⁴⌋; if that is full, the fingerprint is in the next bucket with room. A search begins at the home,
/// and ends at the first bucket that hasn't *overflowed*.
enum IndexFormat {
    /// "PSTRNIDX" as a little-endian number.
    static let magic: UInt64 = 0x5844_494e_5254_5350
    /// The highest generation, so that adding to a generation never overflows.
    static let lastGeneration: UInt64 = 1 << 52
    static let version: UInt32 = 1
    static let headerLength = 4096
    static let headerLengths = 4096...65536
    static let pageSize = 4096
    static let blockSize = 65536
    static let bucketSize = 64
    static let slotsPerBucket = 7
    /// The checksum algorithm XXH64, in the 32-bit field at 128.
    static let xxh64: UInt32 = 1
    static let maximumSourcesLength = 1 << 20
    /// The longest file that a reader accepts: room for ten billion recipients.
    static let maximumFileSize = 1 << 37
    /// The bit of a bucket's last word that is set if the bucket has overflowed.
    static let overflowBit: UInt64 = 1 << 63

    /// The number of buckets for a number of entries: 5 for each 27.
    static func bucketCount(entries: Int) -> Int { max(1, entries / 27 * 5 + (entries % 27 * 5 + 26) / 27) }

    /// The home of a fingerprint: its bucket, less than the count.
    @inline(__always)
    static func home(_ fingerprint: UInt64, of bucketCount: UInt64) -> UInt64 {
        fingerprint.multipliedFullWidth(by: bucketCount).high
    }
}

/// The header of a snapshot file; postern-index(5) describes it.
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

    /// The length of the body in bytes.
    var bodyLength: Int { checksumsOffset - length }
    /// The number of blocks of the body.
    var blockCount: Int { (bodyLength + IndexFormat.blockSize - 1) / IndexFormat.blockSize }

    /// The bytes of the header, with its checksum.
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
                (104, sourcesOffset), (112, checksumsOffset), (120, fileSize), (144, leaving),
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

    /// The checksum for the last eight bytes of a header.
    static func checksum(_ header: UnsafeRawBufferPointer) -> UInt64 {
        XXHash64.hash(UnsafeRawBufferPointer(rebasing: header.dropLast(8)))
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Writes a little-endian number at an offset, which must be within the buffer.
    func store<Number: FixedWidthInteger & BitwiseCopyable>(_ value: Number, _ offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Number.self)
    }
}

extension UnsafeRawBufferPointer {
    /// Reads a little-endian number at an offset, which must be within the buffer.
    func load<Number: FixedWidthInteger & BitwiseCopyable>(_ type: Number.Type, _ offset: Int) -> Number {
        Number(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}

extension IndexHeader {
    /// The length of the whole header, from at least its first 16 bytes.
    static func length(_ start: UnsafeRawBufferPointer) throws(IndexFault) -> Int {
        guard start.count >= 16, start.load(UInt64.self, 0) == IndexFormat.magic else {
            throw IndexFault(.notAnIndex, "is not a snapshot of recipients")
        }
        let version = start.load(UInt32.self, 8)
        guard version == IndexFormat.version else {
            throw IndexFault(
                .unsupported,
                "is a snapshot of format version \(version); this program reads version \(IndexFormat.version)")
        }
        let length = Int(start.load(UInt32.self, 12))
        guard IndexFormat.headerLengths.contains(length), length.isMultiple(of: IndexFormat.pageSize) else {
            throw .damaged("the header has an impossible length (\(length)): the file is damaged")
        }
        return length
    }

    /// The header in the bytes, as many as ``length(_:)`` says, of a file of a given size; throws if its fields are
    /// impossible or don't fit the size.
    init(_ raw: UnsafeRawBufferPointer, fileSize actualSize: Int) throws(IndexFault) {
        self.init()
        length = raw.count
        guard raw.load(UInt64.self, length - 8) == Self.checksum(raw) else {
            throw .damaged("the header's checksum is wrong: the file is damaged")
        }
        requiredFeatures = raw.load(UInt64.self, 16)
        guard requiredFeatures == 0 else {
            throw IndexFault(
                .unsupported,
                "needs a feature that this program doesn't know (0x\(String(requiredFeatures, radix: 16)))")
        }
        let algorithm = raw.load(UInt32.self, 128)
        let blockSize = raw.load(UInt32.self, 132)
        guard algorithm == IndexFormat.xxh64, blockSize == IndexFormat.blockSize else {
            throw IndexFault(
                .unsupported,
                "has checksums that this program doesn't know (algorithm \(algorithm), blocks of \(blockSize) bytes)")
        }
        optionalFeatures = raw.load(UInt64.self, 24)
        created = raw.load(Int64.self, 32)
        generation = raw.load(UInt64.self, 40)
        guard generation <= IndexFormat.lastGeneration else {
            throw .damaged("the header has an impossible generation (\(generation))")
        }
        salt = SipHash(k0: raw.load(UInt64.self, 48), k1: raw.load(UInt64.self, 56))
        fileSize = try Self.number(raw, 120, "file size")
        guard fileSize == actualSize else {
            throw .damaged(
                "is \(actualSize) bytes long, but \(fileSize) by its header: it was "
                    + (actualSize < fileSize ? "truncated" : "extended"))
        }
        entries = try Self.number(raw, 64, "number of entries")
        recipients = try Self.number(raw, 72, "number of recipients")
        catchAlls = try Self.number(raw, 80, "number of catch-all domains")
        leaving = try Self.number(raw, 144, "number of leaving recipients")
        bucketCount = try Self.number(raw, 88, "number of buckets")
        tableOffset = try Self.number(raw, 96, "place of the table")
        sourcesOffset = try Self.number(raw, 104, "place of the sources")
        checksumsOffset = try Self.number(raw, 112, "place of the checksums")
        checksumOfChecksums = raw.load(UInt64.self, 136)
        try checkPlaces()
    }

    /// A number of the header, checked to be at most the longest file size, so that sums and small multiples don't
    /// overflow.
    private static func number(_ raw: UnsafeRawBufferPointer, _ offset: Int, _ name: String) throws(IndexFault) -> Int {
        let value = raw.load(UInt64.self, offset)
        guard let number = Int(exactly: value), number <= IndexFormat.maximumFileSize else {
            throw .damaged("the header has an impossible \(name) (\(value))")
        }
        return number
    }

    private func checkPlaces() throws(IndexFault) {
        guard checksumsOffset.isMultiple(of: 8), checksumsOffset >= length, checksumsOffset <= fileSize,
            fileSize - checksumsOffset == blockCount * 8
        else {
            throw .damaged("the header places the checksums at an impossible offset (\(checksumsOffset))")
        }
        guard tableOffset.isMultiple(of: IndexFormat.pageSize), tableOffset >= length, tableOffset <= checksumsOffset,
            bucketCount >= 1, bucketCount <= (checksumsOffset - tableOffset) / IndexFormat.bucketSize
        else {
            throw .damaged("the header describes an impossible table (\(bucketCount) buckets from \(tableOffset) on)")
        }
        let tableEnd = tableOffset + bucketCount * IndexFormat.bucketSize
        guard sourcesOffset.isMultiple(of: 8), sourcesOffset >= length, sourcesOffset <= checksumsOffset - 8,
            sourcesOffset >= tableEnd || sourcesOffset <= tableOffset - 8
        else {
            throw .damaged("the header places the sources at an impossible offset (\(sourcesOffset))")
        }
        guard entries <= bucketCount * IndexFormat.slotsPerBucket, recipients <= entries,
            catchAlls <= entries - recipients, leaving <= entries - recipients
        else {
            throw .damaged(
                "the header has impossible counts: \(entries) entries, \(recipients) recipients, "
                    + "\(catchAlls) catch-all domains and \(leaving) leaving recipients in \(bucketCount) buckets")
        }
    }
}
