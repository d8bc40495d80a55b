import Glibc
import System

/// An immutable snapshot of all recipients in the process's memory; postern-index(5) describes its file.
///
/// A lookup takes no lock, allocates nothing and never traps. Every byte of the file is verified when it is read, and
/// the file isn't used afterwards: overwriting, truncating or deleting it does no harm.
public final class IndexSnapshot {
    /// The description of the snapshot.
    public let info: IndexInfo

    /// The stamp of the file from when it was read.
    let state: FileStamp
    private let memory: SnapshotMemory
    /// The table of buckets, in `memory`.
    private let table: UnsafeRawPointer
    private let bucketCount: UInt64
    /// The key of the hash that makes the fingerprints.
    let salt: SipHash

    /// Reads a snapshot file and verifies every byte; ``IndexError`` names the file and the fault.
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
            salt = header.salt
            bucketCount = UInt64(header.bucketCount)
            table = UnsafeRawPointer(start + (header.tableOffset - header.length))
            self.memory = memory
        } catch {
            throw IndexError(error, path: path)
        }
    }

    /// The flags of a key; nil if it isn't listed.
    ///
    /// - Parameter key: a canonical address, or `@` and a domain for the whole domain.
    public func lookup(_ key: UnsafeBufferPointer<UInt8>) -> RecipientFlags? {
        withExtendedLifetime(self) { flags(of: salt.hash(key)) }
    }

    /// Fetches the memory of a key into the processor's cache, for a lookup a little later.
    ///
    /// - Returns: a meaningless word of that memory. The caller must use it, so that the compiler keeps the read.
    @inline(never)
    public func fetch(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
        let index = IndexFormat.home(salt.hash(key), of: bucketCount)
        return (table + Int(truncatingIfNeeded: index) &* IndexFormat.bucketSize)
            .load(fromByteOffset: 56, as: UInt64.self)
    }

    /// The flags of a key; nil if it isn't listed.
    public func lookup(_ key: String) -> RecipientFlags? {
        var key = key
        return key.withUTF8 { lookup($0) }
    }

    /// Calls the body with every fingerprint and its flags, in the order of the table.
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

    /// Searches the buckets as ``IndexFormat`` describes. Whatever the table contains, the search stays within it and
    /// reads no bucket twice.
    @inline(__always)
    private func flags(of fingerprint: UInt64) -> RecipientFlags? {
        var index = IndexFormat.home(fingerprint, of: bucketCount)
        var left = bucketCount
        while left != 0 {
            let bucket = table + Int(truncatingIfNeeded: index) &* IndexFormat.bucketSize
            let word = UInt64(littleEndian: bucket.load(fromByteOffset: 56, as: UInt64.self))
            // All slots at once: the processor would mostly mispredict branches on them.
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

// A snapshot is immutable after init, and its memory read-only.
extension IndexSnapshot: @unchecked Sendable {}

/// Memory for the body of a snapshot, in huge pages if the kernel has them; returned to the system when it is freed.
///
/// With huge pages, a lookup needs fewer reads of the page table.
struct SnapshotMemory: ~Copyable {
    let bytes: UnsafeMutableRawBufferPointer

    /// Zeroed memory; `mmap(2)`, `madvise(2)`.
    init(count: Int) throws(IndexFault) {
        // Huge pages are aligned to their size: map more memory, and return both ends.
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

    /// Makes the memory read-only: a stray write ends the process instead of changing the list; `mprotect(2)`.
    func seal() { mprotect(bytes.baseAddress, bytes.count, PROT_READ) }
}
