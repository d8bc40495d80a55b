import Foundation
import Glibc

extension IndexFile {
    /// Reads the whole file and verifies every byte.
    ///
    /// - Parameter memory: called with the length of the body, once header and checksums are verified; returns memory
    ///   for the body, or nil to verify the body without keeping it.
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
            // If the file is being written in place, that is the fault to report.
            try checkUnchanged()
            throw error
        }
    }

    /// Reads the body in pieces, and verifies each while it is in the processor's cache.
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
                    throw .damaged("the checksum of the bytes from \(offset) on is wrong: the file is damaged")
                }
                try census.count(bytes, at: offset)
                sources.collect(bytes, at: offset)
                block += 1
            }
        }
        try census.check()
        return try sources.decoded()
    }

    /// The header; throws if it is unsound or doesn't fit the file.
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
            throw .damaged("is \(size) bytes long, shorter than its header: the file is truncated")
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
            throw .damaged("the checksum of the list of checksums is wrong: the file is damaged")
        }
        return list.withUnsafeBytes { list in (0..<header.blockCount).map { list.load(UInt64.self, $0 * 8) } }
    }

    /// A number of bytes of the file, which the caller has checked to be there.
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
    /// The result of the body, called with the bytes; `withUnsafeBytes` with a typed error.
    fileprivate func checked<Value>(
        _ body: (UnsafeRawBufferPointer) throws(IndexFault) -> Value
    ) throws(IndexFault) -> Value {
        try withUnsafeBytes { raw in
            Result { () throws(IndexFault) in try body(raw) }
        }.get()
    }
}

/// Counts the entries in the buckets block by block, to compare the counts with the header's.
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

    /// Counts the entries in a piece of the file, and checks each bucket. Blocks and table begin at multiples of a
    /// page, so no bucket is split.
    mutating func count(_ piece: UnsafeRawBufferPointer, at offset: Int) throws(IndexFault) {
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

    /// Throws if the counts differ from the header's.
    func check() throws(IndexFault) {
        guard entries == header.entries, recipients == header.recipients, catchAlls == header.catchAlls,
            leaving == header.leaving
        else {
            throw .damaged(
                "the table holds \(entries) entries, \(recipients) recipients, \(catchAlls) catch-all domains and \(leaving) "
                    + "leaving recipients; the header says \(header.entries), \(header.recipients), \(header.catchAlls) and "
                    + "\(header.leaving)")
        }
    }
}

/// Collects the bytes of the sources from the body, piece by piece.
struct SourcesCollector {
    /// The place of the sources at their longest, the length first; bytes after the sources are collected, too, and
    /// ignored.
    private let place: Range<Int>
    private var bytes: [UInt8] = []

    init(_ header: IndexHeader) {
        let start = header.sourcesOffset
        place = start..<min(header.checksumsOffset, start + 8 + IndexFormat.maximumSourcesLength)
    }

    /// Collects from the next piece of the file, which begins at `offset`.
    mutating func collect(_ piece: UnsafeRawBufferPointer, at offset: Int) {
        let part = (offset..<offset + piece.count).clamped(to: place)
        if !part.isEmpty { bytes += piece[part.lowerBound - offset..<part.upperBound - offset] }
    }

    /// The sources, once all pieces were collected.
    func decoded() throws(IndexFault) -> [IndexSource] {
        let prefix = bytes.withUnsafeBytes { $0.load(UInt64.self, 0) }
        let room = bytes.count - 8
        guard let length = Int(exactly: prefix), length <= room else {
            throw .damaged("has \(prefix) bytes of sources by its own account, but room for \(room)")
        }
        return try StoredSource.decode(Array(bytes[8..<8 + length]))
    }
}
