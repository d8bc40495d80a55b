import Glibc

/// An immutable snapshot of all recipients, verified and mapped into memory; ``IndexFormat`` describes the file.
///
/// A search takes no lock, allocates nothing and never traps. The mapping lasts as long as the object, also when another file
/// has taken the name. The file must not be written in place meanwhile: ``IndexBuilder`` and `mv` put a new one
/// in its place; whoever cuts off a mapped file ends the process with SIGBUS at its next search.
public final class IndexSnapshot {
    /// What the snapshot says of itself.
    public let info: IndexInfo

    /// The file that it was made from, as it was then.
    let state: FileState
    private let mapping: UnsafeRawBufferPointer
    private let table: UnsafeRawPointer
    private let bucketCount: UInt64
    private let hash: SipHash

    /// Opens the file and reads all of it: the format's version, every checksum, and that the table holds what the header says.
    ///
    /// - Throws: ``IndexError`` with the file and what is wrong with it.
    public init(path: String) throws(IndexError) {
        do throws(IndexFault) {
            let file = try IndexFile(path: path)
            let header = try file.header()
            try file.verify(header)
            let sources = try file.sources(header)
            try file.checkUnchanged()
            state = file.state
            info = IndexInfo(header, sources: sources)
            hash = header.salt
            bucketCount = UInt64(header.bucketCount)
            let mapping = try file.map()
            guard let start = mapping.baseAddress else { throw .damaged("is empty") }
            // Searches go anywhere: to read around them would only evict what others need.
            madvise(UnsafeMutableRawPointer(mutating: start), mapping.count, MADV_RANDOM)
            self.mapping = mapping
            table = start + header.tableOffset
        } catch {
            throw IndexError(error, path: path)
        }
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: mapping.baseAddress), mapping.count) }

    /// The flags of a key; nil when it isn't listed.
    ///
    /// - Parameter key: the canonical address, or `@` and a domain to ask for the whole of it.
    public func lookup(_ key: UnsafeBufferPointer<UInt8>) -> RecipientFlags? {
        withExtendedLifetime(self) { flags(of: hash.hash(key)) }
    }

    /// The flags of a key; nil when it isn't listed.
    public func lookup(_ key: String) -> RecipientFlags? {
        var key = key
        return key.withUTF8 { lookup($0) }
    }

    /// The key of its fingerprints.
    var salt: SipHash { hash }

    /// Gives every fingerprint with its flags, in the order of the table.
    func forEachEntry(_ body: (UInt64, RecipientFlags) -> Void) {
        withExtendedLifetime(self) {
            for index in 0..<Int(truncatingIfNeeded: bucketCount) {
                let bucket = table + index &* IndexFormat.bucketSize
                let word = UInt64(littleEndian: bucket.load(fromByteOffset: 56, as: UInt64.self))
                for slot in 0..<Int(truncatingIfNeeded: word &>> 56 & 7) {
                    body(
                        UInt64(littleEndian: bucket.load(fromByteOffset: slot &* 8, as: UInt64.self)),
                        RecipientFlags(rawValue: UInt8(truncatingIfNeeded: word &>> UInt64(slot &* 8))))
                }
            }
        }
    }

    /// Goes through the buckets as ``IndexFormat`` describes; never leaves the table, whatever stands in it, and
    /// never looks into a bucket twice.
    @inline(__always)
    private func flags(of fingerprint: UInt64) -> RecipientFlags? {
        var index = IndexFormat.home(fingerprint, of: bucketCount)
        var left = bucketCount
        while left != 0 {
            let bucket = table + Int(truncatingIfNeeded: index) &* IndexFormat.bucketSize
            let word = UInt64(littleEndian: bucket.load(fromByteOffset: 56, as: UInt64.self))
            // All slots at once: branches on them would mostly be guessed wrong.
            var matches: UInt64 = 0
            for slot in 0..<7 {
                let other = UInt64(littleEndian: bucket.load(fromByteOffset: slot &* 8, as: UInt64.self))
                matches |= (other == fingerprint ? 1 : 0) &<< UInt64(truncatingIfNeeded: slot)
            }
            matches &= (1 &<< (word &>> 56 & 7)) &- 1
            if matches != 0 {
                let shift = UInt64(truncatingIfNeeded: matches.trailingZeroBitCount &* 8)
                return RecipientFlags(rawValue: UInt8(truncatingIfNeeded: word &>> shift))
            }
            if word & IndexFormat.overflowBit == 0 { return nil }
            index &+= 1
            if index == bucketCount { index = 0 }
            left &-= 1
        }
        return nil
    }
}

// Nothing in it changes after init, and what it points to is mapped for reading only.
extension IndexSnapshot: @unchecked Sendable {}

extension IndexInfo {
    init(_ header: IndexHeader, sources: [IndexSource]) {
        self.init(
            version: IndexFormat.version, created: .init(millisecondsSince1970: header.created),
            generation: header.generation, recipients: header.recipients, catchAllDomains: header.catchAlls,
            entries: header.entries, buckets: header.bucketCount, fileSize: header.fileSize, sources: sources)
    }
}
