import Foundation
import Glibc

extension IndexFile {
    /// Reads the file from its first byte to its last and verifies all of it.
    ///
    /// - Parameter memory: asked for the memory that the body shall go to, as many bytes as it is given; nil for none: then the body is
    ///   verified, but not kept.
    /// - Returns: the header and the sources.
    func readAll(
        into memory: (Int) throws(IndexFault) -> UnsafeMutableRawBufferPointer?
    ) throws(IndexFault) -> (IndexHeader, [IndexSource]) {
        do throws(IndexFault) {
            let header = try header()
            let checksums = try checksums(header)
            let sources = try readBody(header, checksums, into: memory(header.bodyLength))
            try checkUnchanged()
            return (header, sources)
        } catch {
            // A file that is being written in place has no other fault than that.
            try checkUnchanged()
            throw error
        }
    }

    /// Reads the body in pieces that are verified while they are in the processor's cache.
    private func readBody(
        _ header: IndexHeader, _ checksums: [UInt64], into memory: UnsafeMutableRawBufferPointer?
    ) throws(IndexFault) -> [IndexSource] {
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL)
        let pieceLength = min(4 * IndexFormat.blockSize, header.bodyLength)
        let buffer =
            memory ?? .allocate(byteCount: pieceLength, alignment: IndexFormat.bucketSize)
        defer { if memory == nil { buffer.deallocate() } }
        var census = TableCensus(header)
        var sources = SourcesCollector(header)
        var block = 0
        for start in stride(from: 0, to: header.bodyLength, by: pieceLength) {
            let length = min(pieceLength, header.bodyLength - start)
            let place = memory == nil ? 0 : start
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[place..<place + length])
            try read(into: piece, at: header.length + start)
            for blockStart in stride(from: 0, to: length, by: IndexFormat.blockSize) {
                let end = min(blockStart + IndexFormat.blockSize, length)
                let bytes = UnsafeRawBufferPointer(rebasing: piece[blockStart..<end])
                let offset = header.length + start + blockStart
                guard XXHash64.hash(bytes) == checksums[block] else {
                    throw .damaged("the bytes from \(offset) on have a wrong checksum: the file is damaged")
                }
                try census.take(bytes, at: offset)
                sources.take(bytes, at: offset)
                block += 1
            }
        }
        try census.check()
        return try sources.decoded()
    }

    /// The header, when it is sound by itself and fits the file.
    private func header() throws(IndexFault) -> IndexHeader {
        guard size > 0 else { throw .damaged("is empty") }
        guard size <= IndexFormat.maximumFileSize else {
            throw .damaged(
                "is \(size) bytes long; at most \(IndexFormat.maximumFileSize) are accepted")
        }
        let shortest = min(size, IndexFormat.headerLength)
        let start = try bytes(shortest, at: 0)
        let length = try start.checked(IndexHeader.length)
        guard size >= length else {
            throw .damaged("is \(size) bytes long, shorter than its header: it is cut off")
        }
        let fileSize = size
        return try bytes(length, at: 0).checked { raw throws(IndexFault) in
            try IndexHeader(raw, fileSize: fileSize)
        }
    }

    /// The list of checksums, one for each block.
    private func checksums(_ header: IndexHeader) throws(IndexFault) -> [UInt64] {
        let list = try bytes(header.blockCount * 8, at: header.checksumsOffset)
        let sum = list.withUnsafeBytes { XXHash64.hash($0) }
        guard sum == header.checksumOfChecksums else {
            throw .damaged("the checksum over its checksums is wrong: the file is damaged")
        }
        return list.withUnsafeBytes { list in (0..<header.blockCount).map { list.load(UInt64.self, $0 * 8) } }
    }

    /// So many bytes; the caller has checked that the file has them.
    private func bytes(_ count: Int, at offset: Int) throws(IndexFault) -> [UInt8] {
        var fault: IndexFault?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(IndexFault) {
                try read(
                    into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count]),
                    at: offset)
                filled = count
            } catch {
                fault = error
            }
        }
        if let fault { throw fault }
        return bytes
    }
}

extension [UInt8] {
    /// What the body makes of the bytes; `withUnsafeBytes` with a typed error.
    fileprivate func checked<Value>(
        _ body: (UnsafeRawBufferPointer) throws(IndexFault) -> Value
    ) throws(IndexFault) -> Value {
        try withUnsafeBytes { raw in
            Result { () throws(IndexFault) in try body(raw) }
        }.get()
    }
}

/// Counts what the buckets really hold, block by block.
struct TableCensus {
    private let header: IndexHeader
    private let table: Range<Int>
    private var entries = 0
    private var recipients = 0
    private var catchAlls = 0
    private var leaving = 0

    init(_ header: IndexHeader) {
        self.header = header
        table = header.tableOffset..<header.tableOffset + header.bucketCount * IndexFormat.bucketSize
    }

    /// Counts the buckets in a piece of the file; blocks and table begin at multiples of a page, so none is torn.
    mutating func take(_ piece: UnsafeRawBufferPointer, at offset: Int) throws(IndexFault) {
        let part = (offset..<offset + piece.count).clamped(to: table)
        var place = part.lowerBound
        while place < part.upperBound {
            let word = piece.load(UInt64.self, place &- offset &+ 56)
            let used = (word &>> 56) & 0x0f
            let isOverflowed = word & IndexFormat.overflowBit != 0
            let flags = word & 0x00ff_ffff_ffff_ffff
            guard used <= 7, word & 0x7000_0000_0000_0000 == 0, used == 7 || flags &>> (used &* 8) == 0,
                !isOverflowed || used == 7
            else {
                throw .damaged("has an impossible bucket at \(place)")
            }
            let each: UInt64 = 0x0001_0101_0101_0101
            let catchAll = flags &>> 2 & each
            let left = flags &>> 4 & each
            // Catch-all, relay and alias domains.
            let special = (catchAll | flags &>> 3 | flags &>> 5) & each
            entries &+= Int(used)
            recipients &+= Int(used) &- (special | left).nonzeroBitCount
            leaving &+= left.nonzeroBitCount
            catchAlls &+= catchAll.nonzeroBitCount
            place &+= IndexFormat.bucketSize
        }
    }

    func check() throws(IndexFault) {
        guard entries == header.entries, recipients == header.recipients, catchAlls == header.catchAlls,
            leaving == header.leaving
        else {
            throw .damaged(
                "its table holds \(entries) entries, \(recipients) recipients, \(catchAlls) catch-all domains and \(leaving) "
                    + "leaving recipients, its header says \(header.entries), \(header.recipients), \(header.catchAlls) and "
                    + "\(header.leaving)")
        }
    }
}

/// Picks the sources out of the body, piece by piece.
struct SourcesCollector {
    /// Where they may be, their length first: what stands behind them, or the table, is collected too and left alone.
    private let place: Range<Int>
    private var bytes: [UInt8] = []

    init(_ header: IndexHeader) {
        let start = header.sourcesOffset
        place = start..<min(header.checksumsOffset, start + 8 + IndexFormat.maximumSourcesLength)
    }

    /// Takes the next piece, whose bytes are the file's from `offset` on.
    mutating func take(_ piece: UnsafeRawBufferPointer, at offset: Int) {
        let part = (offset..<offset + piece.count).clamped(to: place)
        if !part.isEmpty { bytes += piece[part.lowerBound - offset..<part.upperBound - offset] }
    }

    /// The sources, when all pieces have been taken.
    func decoded() throws(IndexFault) -> [IndexSource] {
        let prefix = bytes.withUnsafeBytes { $0.load(UInt64.self, 0) }
        let room = bytes.count - 8
        guard let length = Int(exactly: prefix), length <= room else {
            throw .damaged("claims \(prefix) bytes of sources where at most \(room) can be")
        }
        return try StoredSource.decode(Array(bytes[8..<8 + length]))
    }
}
