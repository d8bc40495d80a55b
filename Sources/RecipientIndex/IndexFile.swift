import Foundation
import Glibc
import System

/// A snapshot file open for reading.
///
/// It is read with `pread(2)`, not mapped: if the file is truncated meanwhile, reading fails instead of raising SIGBUS.
struct IndexFile: ~Copyable {
    let descriptor: Int32
    /// The stamp of the file from when it was opened.
    let state: FileStamp
    /// The size in bytes when it was opened.
    var size: Int { Int(state.size) }

    /// Opens a regular file; open(2), fstat(2).
    init(path: String) throws(IndexFault) {
        // O_NONBLOCK: not to wait for the other end of a FIFO.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            let code = errno
            throw IndexFault(
                code == ENOENT ? .missing : .unreadable(code),
                code == ENOENT ? "there is no such file" : "can't be opened: \(systemMessage(code))")
        }
        var attributes = stat()
        guard fstat(descriptor, &attributes) == 0 else {
            let code = errno
            close(descriptor)
            throw IndexFault(.unreadable(code), "can't be examined: \(systemMessage(code))")
        }
        guard attributes.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw IndexFault(.notAnIndex, "is not a regular file")
        }
        state = FileStamp(attributes)
    }

    deinit { close(descriptor) }

    /// Fills the buffer with the file's bytes from `offset` on.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(IndexFault) {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done, offset + done)
            if count > 0 {
                done += count
            } else if count == 0 {
                throw IndexFault(.changing, "became shorter while it was read: another program writes it in place")
            } else if errno != EINTR {
                let code = errno
                throw IndexFault(.unreadable(code), "can't be read: \(systemMessage(code))")
            }
        }
    }

    /// Whether the file is empty or begins as a snapshot does.
    func isReplaceable() throws(IndexFault) -> Bool {
        var start: UInt64 = 0
        let length = min(size, 8)
        try withUnsafeMutableBytes(of: &start) { bytes throws(IndexFault) in
            try read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<length]), at: 0)
        }
        // On some file systems, a power cut leaves a file of zero bytes.
        return start == 0 || length == 8 && UInt64(littleEndian: start) == IndexFormat.magic
    }

    /// Throws if the file has changed since it was opened.
    func checkUnchanged() throws(IndexFault) {
        guard FileStamp(descriptor: descriptor)?.hasSameContent(as: state) == true else {
            throw IndexFault(.changing, "was changed while it was read: another program writes it in place")
        }
    }

    // MARK: Verification

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
        let buffer = memory ?? .allocate(byteCount: pieceLength, alignment: IndexFormat.bucketSize)
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
            throw .damaged("is \(size) bytes long; at most \(IndexFormat.maximumFileSize) are accepted")
        }
        let start = try bytes(min(size, IndexFormat.headerLength), at: 0)
        let length = try start.span.withUnsafeBytes(IndexHeader.length)
        guard size >= length else {
            throw .damaged("is \(size) bytes long, shorter than its header: the file is truncated")
        }
        let (whole, fileSize) = (try bytes(length, at: 0), size)
        return try whole.span.withUnsafeBytes { (raw) throws(IndexFault) in try IndexHeader(raw, fileSize: fileSize) }
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
        var bytes = [UInt8](repeating: 0, count: count)
        var span = bytes.mutableSpan
        try span.withUnsafeMutableBytes { (buffer) throws(IndexFault) in try read(into: buffer, at: offset) }
        return bytes
    }
}

/// Counts the entries in the buckets block by block, to compare the counts with the header's.
private struct TableCensus {
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
            else { throw .damaged("has an impossible bucket at \(place)") }
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
                "the table holds \(entries) entries, \(recipients) recipients, \(catchAlls) catch-all domains and "
                    + "\(leaving) leaving recipients; the header says \(header.entries), \(header.recipients), "
                    + "\(header.catchAlls) and \(header.leaving)")
        }
    }
}

/// Collects the bytes of the sources from the body, piece by piece.
private struct SourcesCollector {
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
            throw .damaged("the list of sources claims \(prefix) bytes, but the file has only \(room) for it")
        }
        return try StoredSource.decode(Array(bytes[8..<8 + length]))
    }
}

// MARK: Errors

/// Why a snapshot can't be used or wasn't published.
public struct IndexError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The class of a failure.
    public enum Kind: Sendable, Equatable {
        /// The file doesn't exist.
        case missing
        /// The file can't be opened or read, or there is no memory for it; the error number.
        case unreadable(Int32)
        /// The file is not a snapshot.
        case notAnIndex
        /// The snapshot has a version or a feature that this program doesn't know.
        case unsupported
        /// The file was truncated, extended or changed, or contradicts itself.
        case damaged
        /// The file was changed while it was read: another program writes it in place.
        case changing
        /// The snapshot's generation is older than that of the snapshot in use.
        case older
        /// The file can't be written, synced or renamed; the error number. The published file is the old one.
        case notPublished(Int32)
    }

    /// The class of the failure.
    public let kind: Kind
    /// The file.
    public let path: String
    /// A clause that says what is wrong, without the file's name.
    public let reason: String

    /// The path and the reason: "/var/lib/postern/recipients.index: the header's checksum is wrong: the file is
    /// damaged".
    public var description: String { "\(path): \(reason)" }

    init(_ fault: IndexFault, path: String) {
        kind = fault.kind
        self.path = path
        reason = fault.reason
    }
}

/// An ``IndexError`` before the file's name is added.
struct IndexFault: Error, Equatable {
    let kind: IndexError.Kind
    let reason: String

    init(_ kind: IndexError.Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    static func damaged(_ reason: String) -> IndexFault { IndexFault(.damaged, reason) }
}
