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
