/// The snapshot file, version 1.
///
/// All numbers are unsigned and little-endian unless said otherwise. The file is a header, a body and a list of checksums, with
/// nothing after them:
///
/// ```
/// header      0 …< headerLength                 its own checksum in its last eight bytes
/// body        headerLength …< checksumsOffset   the table and the sources, zero bytes where nothing is
/// checksums   checksumsOffset …< fileSize       one for each block of 65,536 bytes of the body
/// ```
///
/// **Header.** `headerLength` is a multiple of 4,096, from 4,096 to 65,536. A writer of version 1 writes 4,096 and zero bytes where no
/// field is; a reader ignores what it doesn't know there.
///
/// | offset | type | field |
/// |---|---|---|
/// | 0 | 8 bytes | magic, `PSTRNIDX` in ASCII |
/// | 8 | 32 bit | version, 1 |
/// | 12 | 32 bit | headerLength |
/// | 16 | 64 bit | required features; a reader refuses the file when it doesn't know one; version 1 has none |
/// | 24 | 64 bit | optional features; a reader ignores those that it doesn't know; version 1 has none |
/// | 32 | 64 bit, signed | created, milliseconds since 1970 UTC |
/// | 40 | 64 bit | generation: the publisher's own number up to 2^52, 0 for none |
/// | 48 | 16 bytes | salt: the key of SipHash, random for each file |
/// | 64 | 64 bit | entries: how many slots of the table are used |
/// | 72 | 64 bit | recipients: how many entries are no domain (catch-all, relay, alias) and not leaving |
/// | 80 | 64 bit | catch-all entries; where there are none, a reader needn't look for one |
/// | 88 | 64 bit | bucketCount, at least 1 |
/// | 96 | 64 bit | tableOffset, a multiple of 4,096 |
/// | 104 | 64 bit | sourcesOffset, a multiple of 8 |
/// | 112 | 64 bit | checksumsOffset, a multiple of 8 |
/// | 120 | 64 bit | fileSize |
/// | 128 | 32 bit | checksum algorithm, 1: XXH64 with seed 0 |
/// | 132 | 32 bit | block size, 65,536 |
/// | 136 | 64 bit | checksum of the list of checksums |
/// | 144 | 64 bit | leaving: how many entries have the flag of that name |
/// | headerLength − 8 | 64 bit | checksum of the header's bytes before it |
///
/// **Table.** `bucketCount` buckets of 64 bytes from `tableOffset`: seven 64-bit slots, each the fingerprint of a key, then one byte of
/// flags for each slot (``RecipientFlags``), then one byte whose low four bits count the used slots (0 to 7, from the first) and whose
/// highest bit says that the bucket has *overflowed*; the bits between are zero. Flags of unused slots are zero.
///
/// A key is the canonical address, or `@` and a domain for the whole of it. Its fingerprint is the SipHash-2-4 of its bytes
/// with the salt as key. A fingerprint belongs into bucket ⌊fingerprint × bucketCount ÷ 2⁶⁴⌋, and where that is full, into the next one
/// with room, the first one after the last; every full bucket that was passed over has overflowed. So a search begins with the bucket
/// that the fingerprint belongs into and ends with the first one that hasn't overflowed, or when it has been once around. No fingerprint
/// occurs twice. As nothing but the fingerprint decides the place, a table can be merged, resized and edited without the addresses, as
/// long as the salt stays.
///
/// Writers choose bucketCount so that there are at most 5.4 entries to a bucket: 11.9 bytes each. Two addresses of one file have the
/// same fingerprint with a chance of 2⁻⁶⁴; the salt is public, so the file hides addresses from a reader, not from someone who tries
/// all likely ones.
///
/// **Sources.** At `sourcesOffset` a 64-bit length, at most 1,048,576, and as many bytes of JSON: an array of objects with `name`,
/// `type`, `recipients`, `asOf` (milliseconds since 1970) and, where the source names relay domains, `relayDomains`: objects with `name`
/// and `takesAll`, and, where it names alias domains, `aliasDomains`: objects with `name` and `target`. Never an address.
///
/// **Checksums.** A 64-bit one for each block of the body; the last block may be shorter. The header vouches for their list and the list
/// for each block, so a reader verifies each block as soon as it has read it, while it is in the processor's cache. A reader uses
/// nothing of a file before it has verified all of it.
enum IndexFormat {
    /// "PSTRNIDX" as a little-endian number.
    static let magic: UInt64 = 0x5844_494e_5254_5350
    /// The largest generation: far beyond what anyone publishes, and so that adding to it never overflows.
    static let lastGeneration: UInt64 = 1 << 52
    static let version: UInt32 = 1
    static let headerLength = 4096
    static let headerLengths = 4096...65536
    static let pageSize = 4096
    static let blockSize = 65536
    static let bucketSize = 64
    static let slotsPerBucket = 7
    /// Of the 32-bit field at 128.
    static let xxh64: UInt32 = 1
    static let maximumSourcesLength = 1 << 20
    /// Ten billion recipients fit; what pretends to be longer isn't looked at.
    static let maximumFileSize = 1 << 37
    /// The bit of a bucket's last word that says that it has overflowed.
    static let overflowBit: UInt64 = 1 << 63

    /// How many buckets a table of so many entries gets: 5 for each 27 entries.
    static func bucketCount(entries: Int) -> Int { max(1, entries / 27 * 5 + (entries % 27 * 5 + 26) / 27) }

    /// The bucket that a fingerprint belongs into, less than the count.
    @inline(__always)
    static func home(_ fingerprint: UInt64, of bucketCount: UInt64) -> UInt64 {
        fingerprint.multipliedFullWidth(by: bucketCount).high
    }
}

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

extension IndexHeader {
    /// The length of the whole header, from its first 16 bytes at least.
    static func length(_ start: UnsafeRawBufferPointer) throws(IndexFault) -> Int {
        guard start.count >= 16, start.load(UInt64.self, 0) == IndexFormat.magic else {
            throw IndexFault(.notAnIndex, "is no snapshot of recipients: it begins with something else")
        }
        let version = start.load(UInt32.self, 8)
        guard version == IndexFormat.version else {
            throw IndexFault(
                .unsupported,
                "is a snapshot of format version \(version); this program reads version \(IndexFormat.version)")
        }
        let length = Int(start.load(UInt32.self, 12))
        guard IndexFormat.headerLengths.contains(length), length.isMultiple(of: IndexFormat.pageSize) else {
            throw .damaged("claims a header of \(length) bytes: the file is damaged")
        }
        return length
    }

    /// The header in these bytes, which are as many as ``length(_:)`` says, of a file of this size. All that it says of the
    /// file fits the size.
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
            throw .damaged("claims to be generation \(generation): no publisher counts that far")
        }
        salt = SipHash(k0: raw.load(UInt64.self, 48), k1: raw.load(UInt64.self, 56))
        fileSize = try Self.number(raw, 120, "file size")
        guard fileSize == actualSize else {
            throw .damaged(
                "is \(actualSize) bytes long, its header says \(fileSize): it is "
                    + (actualSize < fileSize ? "cut off" : "longer than it was written"))
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

    /// A number that is at most the largest file size, so that sums and small multiples of it don't overflow.
    private static func number(_ raw: UnsafeRawBufferPointer, _ offset: Int, _ name: String) throws(IndexFault) -> Int {
        let value = raw.load(UInt64.self, offset)
        guard let number = Int(exactly: value), number <= IndexFormat.maximumFileSize else {
            throw .damaged("has an impossible \(name) (\(value)) in its header")
        }
        return number
    }

    private func checkPlaces() throws(IndexFault) {
        guard checksumsOffset.isMultiple(of: 8), checksumsOffset >= length, checksumsOffset <= fileSize,
            fileSize - checksumsOffset == blockCount * 8
        else {
            throw .damaged("has its checksums at an impossible place (\(checksumsOffset)) by its header")
        }
        guard tableOffset.isMultiple(of: IndexFormat.pageSize), tableOffset >= length, tableOffset <= checksumsOffset,
            bucketCount >= 1, bucketCount <= (checksumsOffset - tableOffset) / IndexFormat.bucketSize
        else {
            throw .damaged("has an impossible table (\(bucketCount) buckets from \(tableOffset)) by its header")
        }
        let tableEnd = tableOffset + bucketCount * IndexFormat.bucketSize
        guard sourcesOffset.isMultiple(of: 8), sourcesOffset >= length, sourcesOffset <= checksumsOffset - 8,
            sourcesOffset >= tableEnd || sourcesOffset <= tableOffset - 8
        else {
            throw .damaged("has its sources at an impossible place (\(sourcesOffset)) by its header")
        }
        guard entries <= bucketCount * IndexFormat.slotsPerBucket, recipients <= entries,
            catchAlls <= entries - recipients, leaving <= entries - recipients
        else {
            throw .damaged(
                "claims \(entries) entries, \(recipients) recipients and \(catchAlls) catch-all domains in \(bucketCount) buckets"
            )
        }
    }
}
