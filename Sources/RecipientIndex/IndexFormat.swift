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
