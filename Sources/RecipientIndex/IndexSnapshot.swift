import System

/// An immutable snapshot of all recipients in memory of the process's own; ``IndexFormat`` describes the file that it is read from.
///
/// A search takes no lock, allocates nothing and never traps. Every byte of the file has been read and verified before the snapshot exists, and
/// nothing refers to the file afterwards: to overwrite, cut off or delete it does no harm.
public final class IndexSnapshot {
    /// What the snapshot says of itself.
    public let info: IndexInfo

    /// The file that it was made from, as it was then.
    let state: FileStamp
    private let memory: SnapshotMemory
    /// In the memory.
    private let table: UnsafeRawPointer
    private let bucketCount: UInt64
    private let hash: SipHash

    /// Reads the file and verifies every byte of it.
    ///
    /// - Throws: ``IndexError`` with the file and what is wrong with it.
    public init(path: String) throws(IndexError) {
        do throws(IndexFault) {
            let file = try IndexFile(path: path)
            var memory: SnapshotMemory?
            let (header, sources) = try file.readAll { count throws(IndexFault) in
                let new = try SnapshotMemory(count: count)
                let bytes = new.bytes
                memory = consume new
                return bytes
            }
            guard let memory = memory.take(), let start = memory.bytes.baseAddress else { throw .damaged("is empty") }
            memory.seal()
            state = file.state
            info = IndexInfo(header, sources: sources)
            hash = header.salt
            bucketCount = UInt64(header.bucketCount)
            table = UnsafeRawPointer(start + (header.tableOffset - header.length))
            self.memory = memory
        } catch {
            throw IndexError(error, path: path)
        }
    }

    /// The flags of a key; nil when it isn't listed.
    ///
    /// - Parameter key: the canonical address, or `@` and a domain to ask for the whole of it.
    public func lookup(_ key: UnsafeBufferPointer<UInt8>) -> RecipientFlags? {
        withExtendedLifetime(self) { flags(of: hash.hash(key)) }
    }

    /// Has the memory in which a key is searched for on its way, for a lookup that comes a little later.
    ///
    /// - Returns: what was read there, which means nothing: the caller keeps it, lest the read be left out.
    @inline(never)
    public func fetch(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
        let index = IndexFormat.home(hash.hash(key), of: bucketCount)
        return (table + Int(truncatingIfNeeded: index) &* IndexFormat.bucketSize)
            .load(fromByteOffset: 56, as: UInt64.self)
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

// Nothing in it changes after init, and its memory is for reading only.
extension IndexSnapshot: @unchecked Sendable {}

extension IndexInfo {
    /// What a snapshot file says of itself; every byte of the file is read and verified for it, as for an ``IndexSnapshot``, but not kept.
    ///
    /// - Throws: ``IndexError`` with the file and what is wrong with it.
    public init(path: String) throws(IndexError) {
        do throws(IndexFault) {
            let (header, sources) = try IndexFile(path: path).readAll { _ in nil }
            self.init(header, sources: sources)
        } catch {
            throw IndexError(error, path: path)
        }
    }

    init(_ header: IndexHeader, sources: [IndexSource]) {
        self.init(
            version: IndexFormat.version, created: .init(millisecondsSince1970: header.created),
            generation: header.generation, recipients: header.recipients, leaving: header.leaving,
            catchAllDomains: header.catchAlls,
            entries: header.entries, buckets: header.bucketCount, fileSize: header.fileSize, sources: sources)
    }
}
