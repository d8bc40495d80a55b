import Glibc
import Synchronization

/// An immutable snapshot of all recipients, mapped into memory; ``IndexFormat`` describes the file.
///
/// A search takes no lock, allocates nothing and never traps. The mapping lasts as long as the object, also when another file
/// has taken the name. The file must not be written in place meanwhile: ``IndexBuilder`` and `mv` put a new one
/// in its place; whoever cuts off a mapped file ends the process with SIGBUS at its next search.
///
/// No search answers from bytes whose checksum hasn't been found right.
public final class IndexSnapshot {
    /// When the checksums of the table are compared; header and sources always are when the file is opened.
    public enum Verification: Sendable {
        /// When the file is opened: it is refused if anything is wrong with it.
        case atOnce
        /// Block by block as searches come to it, and all of it by ``verify()``. See ``isDamaged``.
        case onDemand
    }

    /// What the snapshot says of itself.
    public let info: IndexInfo

    /// The file that it was made from, as it was then.
    let state: FileState
    private let path: String
    private let mapping: UnsafeRawBufferPointer
    private let table: UnsafeRawPointer
    private let bucketCount: UInt64
    private let hash: SipHash
    private let ledger: BlockLedger
    /// The ledger's.
    private let marks: UnsafeMutablePointer<Atomic<UInt64>>
    /// Where the table begins in the body, in bytes.
    private let tableStart: UInt64

    /// Opens the file: reads its header and sources, and all of the table too unless that is put off.
    ///
    /// - Throws: ``IndexError`` with the file and what is wrong with it.
    public init(path: String, verification: Verification = .atOnce) throws(IndexError) {
        do throws(IndexFault) {
            let file = try IndexFile(path: path)
            let header = try file.header()
            let place = try file.sourcesPlace(header)
            state = file.state
            ledger = try BlockLedger(file, header)
            switch verification {
            case .atOnce: try ledger.checkAll()
            case .onDemand: try ledger.check(bytes: place)
            }
            info = IndexInfo(header, sources: try ledger.sources(in: place))
            try ledger.checkUnchanged()
            marks = ledger.marks
            hash = header.salt
            bucketCount = UInt64(header.bucketCount)
            let mapping = try ledger.map(populated: verification == .atOnce)
            guard let start = mapping.baseAddress else { throw .damaged("is empty") }
            // Searches go anywhere: to read around them would only evict what others need.
            madvise(UnsafeMutableRawPointer(mutating: start), mapping.count, MADV_RANDOM)
            self.mapping = mapping
            self.path = path
            table = start + header.tableOffset
            tableStart = UInt64(header.tableOffset - header.length)
        } catch {
            throw IndexError(error, path: path)
        }
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: mapping.baseAddress), mapping.count) }

    /// Reads what hasn't been read yet, and throws unless all of the file is sound. Any thread, beside searches; it takes some
    /// tens of milliseconds for ten million recipients.
    public func verify() throws(IndexError) {
        do throws(IndexFault) {
            try ledger.checkAll()
        } catch {
            throw IndexError(error, path: path)
        }
        // The numbers are those of asm-generic/mman-common.h; an older kernel doesn't know this one, and needn't.
        let populateForReading: Int32 = 22
        madvise(UnsafeMutableRawPointer(mutating: mapping.baseAddress), mapping.count, populateForReading)
    }

    /// Whether a part that was put off turned out to be unsound; then a search that finds nothing says nothing, and whoever
    /// judges by the snapshot must do without.
    public var isDamaged: Bool { ledger.isDamaged }

    /// What was found where ``isDamaged``.
    public var damage: IndexError? { ledger.damage.map { IndexError($0, path: path) } }

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

    /// Whether the block of a bucket is sound; reads it where nobody has yet.
    @inline(__always)
    private func isSound(_ bucket: UInt64) -> Bool {
        let block = (tableStart &+ bucket &* UInt64(IndexFormat.bucketSize)) / UInt64(IndexFormat.blockSize)
        let mark = marks[Int(truncatingIfNeeded: block &>> 6)].load(ordering: .acquiring)
        return mark &>> (block & 63) & 1 != 0 || ledger.check(Int(truncatingIfNeeded: block))
    }

    /// Gives every fingerprint with its flags, in the order of the table; those of unsound blocks are left out.
    func forEachEntry(_ body: (UInt64, RecipientFlags) -> Void) {
        withExtendedLifetime(self) {
            for index in 0..<Int(truncatingIfNeeded: bucketCount) {
                guard isSound(UInt64(index)) else { continue }
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
            guard isSound(index) else { return nil }
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
