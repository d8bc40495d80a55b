import Foundation

extension IndexFile {
    /// The header, when it is sound by itself and fits the file.
    func header() throws(IndexFault) -> IndexHeader {
        guard state.size > 0 else { throw .damaged("is empty") }
        guard state.size <= IndexFormat.maximumFileSize else {
            throw .damaged(
                "is \(state.size) bytes long; at most \(IndexFormat.maximumFileSize) are accepted")
        }
        let shortest = min(state.size, IndexFormat.headerLength)
        let start = try bytes(shortest, at: 0)
        let length = try start.checked(IndexHeader.length)
        guard state.size >= length else {
            throw .damaged("is \(state.size) bytes long, shorter than its header: it is cut off")
        }
        let fileSize = state.size
        return try bytes(length, at: 0).checked { raw throws(IndexFault) in
            try IndexHeader(raw, fileSize: fileSize)
        }
    }

    /// Reads the whole file and throws unless every checksum is right and the table holds what the header says.
    func verify(_ header: IndexHeader) throws(IndexFault) {
        let checksums = try bytes(header.blockCount * 8, at: header.checksumsOffset)
        let sum = checksums.withUnsafeBytes { XXHash64.hash($0) }
        guard sum == header.checksumOfChecksums else {
            throw .damaged("the checksum over its checksums is wrong: the file is damaged")
        }
        var census = TableCensus(header)
        let chunk = UnsafeMutableRawBufferPointer.allocate(
            byteCount: 16 * IndexFormat.blockSize, alignment: IndexFormat.bucketSize)
        defer { chunk.deallocate() }
        var block = 0
        while block < header.blockCount {
            let offset = header.length + block * IndexFormat.blockSize
            let part = UnsafeMutableRawBufferPointer(
                rebasing: chunk[..<min(chunk.count, header.checksumsOffset - offset)])
            try read(into: part, at: offset)
            for start in stride(from: 0, to: part.count, by: IndexFormat.blockSize) {
                let end = min(start + IndexFormat.blockSize, part.count)
                let piece = UnsafeRawBufferPointer(rebasing: part[start..<end])
                guard XXHash64.hash(piece) == checksums.withUnsafeBytes({ $0.load(UInt64.self, block * 8) }) else {
                    throw .damaged("the bytes from \(offset + start) on have a wrong checksum: the file is damaged")
                }
                try census.take(piece, at: offset + start)
                block += 1
            }
        }
        try census.check()
    }

    /// The sources of a file with a sound header.
    func sources(_ header: IndexHeader) throws(IndexFault) -> [IndexSource] {
        let prefix = try bytes(8, at: header.sourcesOffset).withUnsafeBytes { $0.load(UInt64.self, 0) }
        let room = min(header.checksumsOffset - header.sourcesOffset - 8, IndexFormat.maximumSourcesLength)
        guard let length = Int(exactly: prefix), length <= room else {
            throw .damaged("claims \(prefix) bytes of sources where at most \(room) can be")
        }
        return try StoredSource.decode(bytes(length, at: header.sourcesOffset + 8))
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
private struct TableCensus {
    private let header: IndexHeader
    private let table: Range<Int>
    private var entries = 0
    private var recipients = 0
    private var catchAlls = 0

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
            let special = (catchAll | flags &>> 3) & each
            entries &+= Int(used)
            recipients &+= Int(used) &- special.nonzeroBitCount
            catchAlls &+= catchAll.nonzeroBitCount
            place &+= IndexFormat.bucketSize
        }
    }

    func check() throws(IndexFault) {
        guard entries == header.entries, recipients == header.recipients, catchAlls == header.catchAlls else {
            throw .damaged(
                "its table holds \(entries) entries, \(recipients) recipients and \(catchAlls) catch-all domains, its header says "
                    + "\(header.entries), \(header.recipients) and \(header.catchAlls)")
        }
    }
}

/// ``IndexSource`` as the file has it.
struct StoredSource: Codable {
    let name: String
    let type: String
    let recipients: Int
    let asOf: Int64
    let relayDomains: [IndexSource.RelayDomain]?

    init(_ source: IndexSource) {
        name = source.name
        type = source.type
        recipients = source.recipients
        asOf = source.asOf.millisecondsSince1970
        relayDomains = source.relayDomains.isEmpty ? nil : source.relayDomains
    }

    var source: IndexSource {
        IndexSource(
            name: name, type: type, recipients: recipients, asOf: Date(millisecondsSince1970: asOf),
            relayDomains: relayDomains ?? [])
    }

    static func encode(_ sources: [IndexSource]) throws(IndexFault) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let json = try? encoder.encode(sources.map(StoredSource.init)),
            json.count <= IndexFormat.maximumSourcesLength
        else {
            throw IndexFault(
                .notPublished(EINVAL), "can't be published: its \(sources.count) sources are too long to list")
        }
        return [UInt8](json)
    }

    static func decode(_ json: [UInt8]) throws(IndexFault) -> [IndexSource] {
        do {
            return try JSONDecoder().decode([StoredSource].self, from: Data(json)).map(\.source)
        } catch {
            throw .damaged("its list of sources can't be understood")
        }
    }
}
