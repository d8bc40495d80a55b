import Glibc
import System

/// Writes a snapshot file of sorted entries without duplicates, block by block; postern-index(5) describes the file.
struct IndexWriter {
    let entries: ContiguousArray<IndexEntry>
    let salt: SipHash
    let created: Int64
    let generation: UInt64
    let sources: [UInt8]

    /// Writes the whole file to an empty one, the header last; returns the header.
    func write(to descriptor: Int32) throws(IndexFault) -> IndexHeader {
        var header = IndexHeader()
        header.created = created
        header.generation = generation
        header.salt = salt
        header.entries = entries.count
        header.catchAlls = entries.count { $0.flags.contains(.catchAll) }
        header.recipients = entries.count { !$0.flags.isOfDomain && !$0.flags.contains(.leaving) }
        header.leaving = entries.count { $0.flags.contains(.leaving) }
        header.bucketCount = IndexFormat.bucketCount(entries: entries.count)
        header.sourcesOffset = header.tableOffset + header.bucketCount * IndexFormat.bucketSize
        header.checksumsOffset = header.sourcesOffset + 8 + (sources.count + 7) / 8 * 8
        header.fileSize = header.checksumsOffset + header.blockCount * 8
        guard header.fileSize <= IndexFormat.maximumFileSize else {
            throw IndexFault(
                .notPublished(EFBIG), "can't be published: \(entries.count) entries are too many for a snapshot")
        }

        let body = BlockWriter(descriptor, at: header.length)
        try writeTable(bucketCount: header.bucketCount, to: body)
        try body.append(UInt64(sources.count))
        for byte in sources { try body.append(byte) }
        for _ in sources.count..<(sources.count + 7) / 8 * 8 { try body.append(UInt8(0)) }
        try body.flush()

        let checksums = body.checksums.map(\.littleEndian)
        header.checksumOfChecksums = checksums.withUnsafeBytes { XXHash64.hash($0) }
        try checksums.span.withUnsafeBytes { (raw) throws(IndexFault) in
            try writeFully(descriptor, raw, at: header.checksumsOffset)
        }
        let encoded = header.encoded()
        try encoded.span.withUnsafeBytes { (raw) throws(IndexFault) in try writeFully(descriptor, raw, at: 0) }
        return header
    }

    /// Writes the buckets from the first to the last. Sorted fingerprints come in the order of their homes: a bucket
    /// gets the next seven fingerprints whose home is this bucket or an earlier one.
    private func writeTable(bucketCount: Int, to body: BlockWriter) throws(IndexFault) {
        try entries.span.withUnsafeBufferPointer { (entries) throws(IndexFault) in
            let buckets = UInt64(bucketCount)
            // The entries that don't fit into the last bucket go into the first ones, before all others.
            let wrapped = Self.overflow(of: entries, bucketCount: buckets)
            var position = 0
            for bucket in 0..<buckets {
                var word: UInt64 = 0
                var used: UInt64 = 0
                var isOverflowed = false
                while position < entries.count {
                    let isWrapped = position < wrapped
                    let entry = entries[isWrapped ? entries.count - wrapped + position : position - wrapped]
                    guard isWrapped || IndexFormat.home(entry.fingerprint, of: buckets) <= bucket else { break }
                    guard used < 7 else {
                        isOverflowed = true
                        break
                    }
                    try body.append(entry.fingerprint)
                    word |= UInt64(entry.flags.rawValue) &<< (used &* 8)
                    used += 1
                    position += 1
                }
                if bucket == buckets - 1 && wrapped > 0 { isOverflowed = true }
                for _ in used..<7 { try body.append(UInt64(0)) }
                try body.append(word | used &<< 56 | (isOverflowed ? IndexFormat.overflowBit : 0))
            }
        }
    }

    /// The number of entries that don't fit into the buckets up to the last one, and so continue in the first bucket.
    /// Their presence there doesn't change the number, as there is more room than entries.
    private static func overflow(of entries: UnsafeBufferPointer<IndexEntry>, bucketCount: UInt64) -> Int {
        // The slot of the next entry, if each gets the first free slot from its home on.
        var next: UInt64 = 0
        for entry in entries {
            next = max(next, IndexFormat.home(entry.fingerprint, of: bucketCount) &* 7) &+ 1
        }
        return Int(truncatingIfNeeded: next > bucketCount &* 7 ? next &- bucketCount &* 7 : 0)
    }
}

/// Writes the body of the file in blocks, and keeps the checksum of each.
private final class BlockWriter {
    private(set) var checksums: [UInt64] = []
    private let descriptor: Int32
    private var offset: Int
    private let block = UnsafeMutableRawBufferPointer.allocate(byteCount: IndexFormat.blockSize, alignment: 64)
    private var used = 0

    init(_ descriptor: Int32, at offset: Int) {
        self.descriptor = descriptor
        self.offset = offset
    }

    deinit { block.deallocate() }

    /// Appends a little-endian number; its offset must be a multiple of its size.
    @inline(__always)
    func append<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number) throws(IndexFault) {
        block.store(number, used)
        used &+= MemoryLayout<Number>.size
        if used == block.count { try flush() }
    }

    /// Writes the filled part of the block.
    func flush() throws(IndexFault) {
        guard used > 0 else { return }
        let filled = UnsafeRawBufferPointer(rebasing: block[..<used])
        checksums.append(XXHash64.hash(filled))
        try writeFully(descriptor, filled, at: offset)
        offset += used
        used = 0
    }
}

/// Writes all bytes at an offset; `pwrite(2)`.
private func writeFully(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int) throws(IndexFault) {
    var done = 0
    while done < bytes.count {
        let count = pwrite(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, offset + done)
        if count >= 0 {
            done += count
        } else if errno != EINTR {
            let code = errno
            throw IndexFault(.notPublished(code), "can't be published: writing the file failed: \(systemMessage(code))")
        }
    }
}

// MARK: Sorting

/// A key in a builder: its fingerprint and flags.
struct IndexEntry {
    var fingerprint: UInt64
    var flags: RecipientFlags

    @inline(__always)
    fileprivate func byte(_ shift: UInt64) -> Int { Int(truncatingIfNeeded: fingerprint &>> shift & 0xff) }
}

extension UnsafeMutableBufferPointer<IndexEntry> {
    /// Sorts in place by fingerprint; entries with the same fingerprint come in any order. A radix sort, as
    /// fingerprints are spread evenly.
    func sortByFingerprint() { sort(shift: 56) }

    /// Sorts by the byte at `shift`, then each part by the lower bytes.
    private func sort(shift: UInt64) {
        if count <= 48 { return insertionSort() }
        let ends = partition(shift: shift)
        guard shift > 0 else { return }
        var start = 0
        for end in ends {
            if end - start > 1 { Self(rebasing: self[start..<end]).sort(shift: shift - 8) }
            start = end
        }
    }

    /// Moves each entry into the part of its byte ("American flag sort"); returns the end of each part.
    private func partition(shift: UInt64) -> [Int] {
        var ends = [Int](repeating: 0, count: 256)
        for entry in self { ends[entry.byte(shift)] += 1 }
        var next = [Int](repeating: 0, count: 256)
        var total = 0
        for byte in 0..<256 {
            next[byte] = total
            total += ends[byte]
            ends[byte] = total
        }
        for byte in 0..<256 {
            while next[byte] < ends[byte] {
                var entry = self[next[byte]]
                var place = entry.byte(shift)
                while place != byte {
                    swap(&self[next[place]], &entry)
                    next[place] += 1
                    place = entry.byte(shift)
                }
                self[next[byte]] = entry
                next[byte] += 1
            }
        }
        return ends
    }

    private func insertionSort() {
        for index in indices.dropFirst() {
            let entry = self[index]
            var place = index
            while place > 0, self[place - 1].fingerprint > entry.fingerprint {
                self[place] = self[place - 1]
                place -= 1
            }
            self[place] = entry
        }
    }
}
