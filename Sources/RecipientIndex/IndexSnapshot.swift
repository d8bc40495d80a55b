import Glibc
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

/// Memory for a snapshot's body: the process's own, in huge pages where the kernel gives them, returned to the system when it is freed.
///
/// Huge pages make a search faster, which would otherwise look for the page in the page table too, and filling the memory needs a
/// hundredth of the page faults.
struct SnapshotMemory: ~Copyable {
    let bytes: UnsafeMutableRawBufferPointer

    /// Memory that is all zero; mmap(2), madvise(2).
    init(count: Int) throws(IndexFault) {
        // Only whole huge pages at multiples of their size can be used: some more memory, of which both ends are given back.
        let page = 2 << 20
        let extra = count >= page ? page : 0
        let start = mmap(nil, count + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | Int32(MAP_ANONYMOUS), -1, 0)
        guard let start, start != UnsafeMutableRawPointer(bitPattern: -1) else {
            let code = errno
            throw IndexFault(
                .unreadable(code), "can't be read: there is no memory for its \(count) bytes: \(systemMessage(code))")
        }
        guard extra > 0 else {
            bytes = UnsafeMutableRawBufferPointer(start: start, count: count)
            return
        }
        let aligned = start.alignedUp(toMultipleOf: page)
        if aligned > start { munmap(start, aligned - start) }
        let smallPage = 4096
        let end = (aligned + count).alignedUp(toMultipleOf: smallPage)
        let limit = (start + count + extra).alignedUp(toMultipleOf: smallPage)
        if limit > end { munmap(end, limit - end) }
        madvise(aligned, count, Int32(MADV_HUGEPAGE))
        bytes = UnsafeMutableRawBufferPointer(start: aligned, count: count)
    }

    deinit { munmap(bytes.baseAddress, bytes.count) }

    /// Makes a write to the memory end the process instead of changing what recipients are judged by; mprotect(2).
    func seal() { mprotect(bytes.baseAddress, bytes.count, PROT_READ) }
}
