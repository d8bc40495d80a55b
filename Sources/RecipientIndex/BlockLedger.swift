import Glibc
import Synchronization

/// Which blocks of a snapshot's body are known to be sound; each is read when it is first asked for, or before.
///
/// The header vouches for the list of checksums and the list for each block, so a block is judged by itself.
final class BlockLedger {
    private let file: IndexFile
    private let header: IndexHeader
    private let checksums: [UInt64]
    /// A bit for each block, set once it is sound.
    let marks: UnsafeMutablePointer<Atomic<UInt64>>
    private let markCount: Int
    private let fault = Mutex<IndexFault?>(nil)
    private let isFaulty = Atomic(false)

    /// A ledger in which no block is sound yet; the list of checksums is.
    init(_ file: consuming IndexFile, _ header: IndexHeader) throws(IndexFault) {
        let words = (header.blockCount + 63) / 64
        checksums = try file.checksums(header)
        self.file = file
        self.header = header
        markCount = words
        marks = .allocate(capacity: words)
        for word in 0..<words { (marks + word).initialize(to: Atomic(0)) }
    }

    deinit {
        marks.deinitialize(count: markCount)
        marks.deallocate()
    }

    /// Whether a block was found unsound, or couldn't be read.
    var isDamaged: Bool { isFaulty.load(ordering: .relaxed) }

    /// What was found.
    var damage: IndexFault? { fault.withLock { $0 } }

    /// Reads a block and says whether it is sound.
    @inline(never)
    func check(_ block: Int) -> Bool {
        do throws(IndexFault) {
            var census = TableCensus(header)
            try check(block..<block + 1, &census)
            return true
        } catch {
            note(error)
            return false
        }
    }

    /// The sources in their place, whose blocks have been read.
    func sources(in place: Range<Int>) throws(IndexFault) -> [IndexSource] { try file.sources(in: place) }

    /// Throws when the file isn't the one that was opened any more.
    func checkUnchanged() throws(IndexFault) { try file.checkUnchanged() }

    /// Maps the file; the caller unmaps it.
    func map(populated: Bool) throws(IndexFault) -> UnsafeRawBufferPointer { try file.map(populated: populated) }

    /// Reads the blocks that hold these bytes of the file.
    func check(bytes: Range<Int>) throws(IndexFault) {
        var census = TableCensus(header)
        let first = (bytes.lowerBound - header.length) / IndexFormat.blockSize
        let end = (bytes.upperBound - header.length + IndexFormat.blockSize - 1) / IndexFormat.blockSize
        try check(first..<end, &census)
    }

    /// Reads all blocks; throws unless every checksum is right and the table holds what the header says.
    func checkAll() throws(IndexFault) {
        do throws(IndexFault) {
            var census = TableCensus(header)
            try check(0..<header.blockCount, &census)
            try census.check()
        } catch {
            note(error)
            throw error
        }
    }

    private func check(_ blocks: Range<Int>, _ census: inout TableCensus) throws(IndexFault) {
        let chunk = UnsafeMutableRawBufferPointer.allocate(
            byteCount: min(16, blocks.count) * IndexFormat.blockSize, alignment: IndexFormat.bucketSize)
        defer { chunk.deallocate() }
        var block = blocks.lowerBound
        while block < blocks.upperBound {
            let offset = header.length + block * IndexFormat.blockSize
            let end = min(header.length + blocks.upperBound * IndexFormat.blockSize, header.checksumsOffset)
            let part = UnsafeMutableRawBufferPointer(rebasing: chunk[..<min(chunk.count, end - offset)])
            try file.read(into: part, at: offset)
            for start in stride(from: 0, to: part.count, by: IndexFormat.blockSize) {
                let end = min(start + IndexFormat.blockSize, part.count)
                let piece = UnsafeRawBufferPointer(rebasing: part[start..<end])
                guard XXHash64.hash(piece) == checksums[block] else {
                    throw .damaged("the bytes from \(offset + start) on have a wrong checksum: the file is damaged")
                }
                try census.take(piece, at: offset + start)
                marks[block / 64].bitwiseOr(1 << UInt64(block % 64), ordering: .releasing)
                block += 1
            }
        }
    }

    private func note(_ found: IndexFault) {
        fault.withLock { fault in if fault == nil { fault = found } }
        isFaulty.store(true, ordering: .releasing)
    }
}

// What changes is atomic or locked; the file is only read, by pread(2).
extension BlockLedger: @unchecked Sendable {}
